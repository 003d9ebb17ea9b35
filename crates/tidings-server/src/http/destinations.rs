//! `/v1/destinations`: the stored ways out, for admins.
//!
//! Owns: a destination as JSON. Never: shows a secret, but where that is what is asked for.

use super::address::{self, Query};
use super::reply;
use super::users::body;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tidings_engine::delivery::{Destination, DestinationSettings};
use tidings_model::{Code, EventError, From};

/// `POST /v1/destinations`: settings, and `from` where it begins; `latest` where that is left out.
pub async fn create(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let mut fields: Map<String, Value> = body(&door, request).await?;
    let from = match fields.remove("from") {
        None => From::Latest,
        Some(Value::String(text)) => From::parse(&text)?,
        Some(_) => return Err(Refusal::parameter("`from` is a text")),
    };
    let made = door.tidings.destinations().create(&who, settings(fields)?, &from).await?;
    Ok(reply::json(StatusCode::CREATED, json(&made).to_string()))
}

fn settings(fields: Map<String, Value>) -> Result<DestinationSettings, Refusal> {
    of_value(fields.into())
}

/// Reads a value; a complaint names the field and repeats no value that was sent, since that may be a secret.
pub fn of_value<T: DeserializeOwned>(value: Value) -> Result<T, Refusal> {
    serde_path_to_error::deserialize(value).map_err(|error| match EventError::from_json(error.inner()) {
        EventError::FieldUnknown(text) => Refusal::new(Code::FieldUnknown, text),
        _ => Refusal::parameter(format!(
            "`{}` has the wrong type, or a word that does not belong there",
            error.path()
        )),
    })
}

/// `GET /v1/destinations`: in name order; with `name` that one alone.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["after", "limit", "name"])?;
    let limit = query.limit(door.tidings.limits())?;
    let destinations = door.tidings.destinations();
    let found = match query.one("name")? {
        Some(name) => destinations.by_name(&who, name)?.into_iter().collect(),
        None => destinations.list(&who, query.one("after")?, limit)?,
    };
    let mut answer = json!({ "destinations": found.iter().map(|d| json(d)).collect::<Vec<_>>() });
    if let Some(last) = found.last().filter(|_| found.len() == limit) {
        answer["next"] = last.name().into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `GET /v1/destinations/{id}`: with how far it has come.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let (destinations, id) = (door.tidings.destinations(), address::destination_id(&uri)?);
    let found = destinations.get(&who, id)?;
    let progress = destinations.progress(&who, id).await?;
    let mut answer = json(&found);
    answer["cursor"] = progress.cursor.to_string().into();
    answer["behind"] = progress.behind.into();
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `PATCH /v1/destinations/{id}`: what is left out stays, `null` takes a setting away.
pub async fn update(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = address::destination_id(request.uri())?;
    let patch: Map<String, Value> = body(&door, request).await?;
    Ok(described(&*door.tidings.destinations().update(&who, id, patch).await?))
}

/// `DELETE /v1/destinations/{id}`.
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    door.tidings.destinations().delete(&who, address::destination_id(&uri)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/destinations/{id}/pause`.
pub async fn pause(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    Ok(described(&*door.tidings.destinations().pause(&who, address::destination_id(&uri)?).await?))
}

/// `POST /v1/destinations/{id}/resume`.
pub async fn resume(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    Ok(described(&*door.tidings.destinations().resume(&who, address::destination_id(&uri)?).await?))
}

/// `GET /v1/destinations/{id}/secret`: what its webhooks are signed with.
pub async fn secret(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let found = door.tidings.destinations().get(&who, address::destination_id(&uri)?)?;
    Ok(secrets(&found))
}

/// `POST /v1/destinations/{id}/secret`: a new one signs from now on, beside the newest one so far.
pub async fn rotate(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let changed = door.tidings.destinations().rotate(&who, address::destination_id(&uri)?).await?;
    Ok(secrets(&changed))
}

fn secrets(destination: &Destination) -> Response {
    let all = &destination.settings.secrets;
    let texts: Vec<&str> = all.iter().map(|secret| secret.expose()).collect();
    let public: Vec<String> = all.iter().filter_map(|secret| secret.public()).collect();
    let mut answer = json!({ "secret": texts.first(), "secrets": texts });
    if !public.is_empty() {
        answer["public_keys"] = public.into();
    }
    reply::json(StatusCode::OK, answer.to_string())
}

fn described(destination: &Destination) -> Response {
    reply::json(StatusCode::OK, json(destination).to_string())
}

/// A destination as an answer shows it.
fn json(destination: &Destination) -> Value {
    let mut shown = json!({ "id": destination.id, "created_at": destination.created_at });
    let settings = serde_json::to_value(&destination.settings).expect("plain fields");
    if let (Value::Object(shown), Value::Object(mut settings)) = (&mut shown, settings) {
        settings.remove("secrets");
        shown.append(&mut settings);
    }
    shown
}
