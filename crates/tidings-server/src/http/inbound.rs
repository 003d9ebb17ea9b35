//! `/v1/inbound`: which inbound webhooks there are, for admins.
//!
//! Owns: one as JSON. Never: shows a secret but in the answer that it was made for.

use super::address::{self, Query};
use super::{reply, users};
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_engine::inbound::{Inbound, Kind, NewInbound, Patch, Secrets};
use tidings_model::{Topic, Uuid};

/// An inbound webhook as a client describes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    kind: Option<Kind>,
    topic: String,
    event_name: Option<String>,
    key: Option<String>,
    secret: Option<String>,
    signing_secret: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    topic: Option<String>,
    event_name: Option<String>,
}

/// `POST /v1/inbound`.
pub async fn create(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let new: New = users::body(&door, request).await?;
    let new = NewInbound {
        name: new.name,
        kind: new.kind.unwrap_or(Kind::Webhook),
        topic: Topic::parse(&new.topic)?,
        event_name: new.event_name,
        key: new.key,
        secret: new.secret,
        signing_secret: new.signing_secret,
    };
    let (inbound, secrets) = door.inbounds.create(&who, new).await?;
    Ok(reply::json(StatusCode::CREATED, told(&inbound, &secrets).to_string()))
}

/// `GET /v1/inbound`: the oldest first.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["after", "limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let after = query.one("after")?.map(|text| text.parse::<Uuid>()).transpose();
    let after = after.map_err(|_| Refusal::parameter("`after` is the `next` of the page before"))?;
    let found = door.inbounds.list(&who, after, limit).await?;
    let mut answer = json!({ "inbound": found.iter().map(shown).collect::<Vec<_>>() });
    if let Some(last) = found.last().filter(|_| found.len() == limit) {
        answer["next"] = last.id.to_string().into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `GET /v1/inbound/{id}`.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Ok(described(&door.inbounds.get(&who, plain(&uri)?).await?))
}

/// `PATCH /v1/inbound/{id}`: what is left out stays.
pub async fn update(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = plain(request.uri())?;
    let change: Change = users::body(&door, request).await?;
    let topic = change.topic.as_deref().map(Topic::parse).transpose()?;
    let patch = Patch { name: change.name, topic, event_name: change.event_name };
    Ok(described(&door.inbounds.update(&who, id, patch).await?))
}

/// `DELETE /v1/inbound/{id}`.
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    door.inbounds.delete(&who, plain(&uri)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/inbound/{id}/rotate`: new secrets instead of the old.
pub async fn rotate(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let (inbound, secrets) = door.inbounds.rotate(&who, plain(&uri)?).await?;
    Ok(reply::json(StatusCode::OK, told(&inbound, &secrets).to_string()))
}

fn plain(uri: &Uri) -> Result<Uuid, Refusal> {
    Query::parse(uri, &[])?;
    address::inbound_id(uri)
}

fn described(inbound: &Inbound) -> Response {
    reply::json(StatusCode::OK, shown(inbound).to_string())
}

fn shown(inbound: &Inbound) -> Value {
    json!({
        "id": inbound.id,
        "name": inbound.name,
        "kind": inbound.kind,
        "topic": inbound.topic.to_string(),
        "event_name": inbound.event_name,
        "key": inbound.key,
        "path": format!("/webhooks/ingest/{}", inbound.id),
        "created_at": inbound.created_at.to_string(),
    })
}

/// With the secrets, this once.
fn told(inbound: &Inbound, secrets: &Secrets) -> Value {
    let mut answer = shown(inbound);
    for (name, secret) in [("secret", &secrets.secret), ("signing_secret", &secrets.signing_secret)] {
        if let Some(secret) = secret {
            answer[name] = secret.as_str().into();
        }
    }
    answer
}
