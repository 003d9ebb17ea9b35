//! `/v1/scheduled`: what is due later.

use super::address::{self, Query};
use super::reply;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_log::Due;
use tidings_model::{Record, Timestamp, Uuid};

/// `GET /v1/scheduled`: the caller's own, an admin's all, the next due first.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let found = door.tidings.scheduled(&who, limit).await?;
    let mut out = br#"{"events":["#.to_vec();
    for (i, due) in found.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json(&mut out, due, false)?;
    }
    out.extend_from_slice(b"]}");
    Ok(reply::json(StatusCode::OK, out))
}

/// `GET /v1/scheduled/{id}`: one of them, with its data.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let id = address::scheduled_id(&uri)?;
    Query::parse(&uri, &[])?;
    let mut out = Vec::new();
    write_json(&mut out, door.tidings.scheduled_by_id(&who, id).await?, true)?;
    Ok(reply::json(StatusCode::OK, out))
}

/// `DELETE /v1/scheduled/{id}`: after the answer it will never appear (I4).
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let id = address::scheduled_id(&uri)?;
    Query::parse(&uri, &[])?;
    door.tidings.cancel(&who, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An event on the wire that has no offset yet.
#[derive(Serialize)]
struct Wire<'a> {
    id: Uuid,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    available_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a RawValue>,
}

fn write_json(out: &mut Vec<u8>, due: Due, with_data: bool) -> Result<(), Refusal> {
    let record = Record::parse(due.record.into()).map_err(Refusal::internal)?;
    let topic = match record.key() {
        None => due.topic.to_string(),
        Some(key) => format!("{}:{key}", due.topic),
    };
    let wire = Wire {
        id: due.id,
        topic,
        key: record.key(),
        name: record.name(),
        source: record.source(),
        user: record.user(),
        occurred_at: record.occurred_at(),
        available_at: due.at,
        deleted: record.is_deleted(),
        data: raw(record.data().filter(|_| with_data))?,
        context: raw(record.context().filter(|_| with_data))?,
    };
    serde_json::to_writer(out, &wire).expect("plain fields into memory");
    Ok(())
}

fn raw(json: Option<&str>) -> Result<Option<&RawValue>, Refusal> {
    json.map(serde_json::from_str).transpose().map_err(Refusal::internal)
}
