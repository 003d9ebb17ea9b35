//! `/v1/keys`: API keys, for admins.
//!
//! Owns: a key as JSON. The secret is shown once, by the answer that creates the key.

use super::address::{self, Query};
use super::users::{body, grants};
use super::{reply, users};
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_engine::auth::{ApiKey, ApiKeyPatch, NewApiKey};
use tidings_model::{Destinations, KeyKind, Uuid};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    kind: KeyKind,
    group_key: Option<String>,
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    #[serde(default)]
    destinations: Vec<Uuid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    destinations: Option<Vec<Uuid>>,
}

/// `POST /v1/keys`: the answer holds the secret, and nothing else ever does.
pub async fn create(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let wire: New = body(&door, request).await?;
    let new = NewApiKey {
        name: wire.name,
        kind: wire.kind,
        group_key: wire.group_key,
        publish: grants(wire.publish)?.unwrap_or_default(),
        subscribe: grants(wire.subscribe)?.unwrap_or_default(),
        destinations: destinations(wire.destinations)?,
    };
    let issued = door.gate.api_keys().create(&who, new).await?;
    let mut answer = json(&issued.key);
    answer["secret"] = issued.secret.as_str().into();
    answer["token"] = issued.token().into();
    Ok(reply::json(StatusCode::CREATED, answer.to_string()))
}

/// `GET /v1/keys`: in name order; with `name` that one alone.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["after", "limit", "name"])?;
    let limit = query.limit(door.tidings.limits())?;
    let keys = match query.one("name")? {
        Some(name) => door.gate.api_keys().by_name(&who, name).await?.into_iter().collect(),
        None => door.gate.api_keys().list(&who, query.one("after")?, limit).await?,
    };
    let mut answer = json!({ "keys": keys.iter().map(json).collect::<Vec<_>>() });
    if let Some(last) = keys.last().filter(|_| keys.len() == limit) {
        answer["next"] = last.name.as_str().into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `GET /v1/keys/{id}`.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Ok(described(&door.gate.api_keys().by_id(&who, plain(&uri)?).await?))
}

/// `PATCH /v1/keys/{id}`: what is left out stays.
pub async fn update(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = plain(request.uri())?;
    let wire: Patch = body(&door, request).await?;
    let patch = ApiKeyPatch {
        publish: grants(wire.publish)?,
        subscribe: grants(wire.subscribe)?,
        destinations: wire.destinations.map(destinations).transpose()?,
    };
    Ok(described(&door.gate.api_keys().update(&who, id, patch).await?))
}

/// `DELETE /v1/keys/{id}`.
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    door.gate.api_keys().delete(&who, plain(&uri)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/keys/{id}/revoke`.
pub async fn revoke(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Ok(described(&door.gate.api_keys().revoke(&who, plain(&uri)?).await?))
}

fn plain(uri: &Uri) -> Result<Uuid, Refusal> {
    Query::parse(uri, &[])?;
    address::key_id(uri)
}

fn destinations(ids: Vec<Uuid>) -> Result<Destinations, Refusal> {
    if ids.len() > Destinations::MAX {
        return Err(Refusal::parameter(format!("at most {} destinations", Destinations::MAX)));
    }
    Ok(ids.into_iter().collect())
}

fn described(key: &ApiKey) -> Response {
    reply::json(StatusCode::OK, json(key).to_string())
}

fn json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "key": key.key,
        "name": key.name,
        "kind": key.kind,
        "status": if key.revoked { "revoked" } else { "active" },
        "group_key": key.group_key,
        "publish": users::texts(&key.publish),
        "subscribe": users::texts(&key.subscribe),
        "destinations": key.destinations.iter().collect::<Vec<_>>(),
        "created_at": key.created_at,
    })
}
