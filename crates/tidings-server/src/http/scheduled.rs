//! `/v1/scheduled`: what is due later.

use super::address::{self, Query};
use super::body::Parts;
use super::reply;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::io::Write as _;
use tidings_log::{Due, DuePlace};
use tidings_model::{Code, EventError, Record, Timestamp, Topic, Uuid};

/// A change is small.
const CHANGE_BYTES_MAX: usize = 4 << 10;

/// `GET /v1/scheduled`: a page of the caller's own, an admin's all, the next due first. Its cursor goes on live
/// in `$schedule`.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["topic", "after", "limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let topic = query.one("topic")?.map(Topic::parse).transpose()?;
    let after = query.one("after")?.map(place).transpose()?;
    let found = door.tidings.scheduled(&who, topic.as_ref(), after, limit).await?;
    let mut out = br#"{"events":["#.to_vec();
    for (i, due) in found.dues.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json(&mut out, due, false)?;
    }
    write!(out, "],\"cursor\":\"{}\"", found.cursor).expect("memory");
    if let Some(next) = found.next {
        write!(out, ",\"next\":\"{}\"", after_text(next)).expect("memory");
    }
    out.push(b'}');
    Ok(reply::json(StatusCode::OK, out))
}

/// A place as the `after` of the next request.
fn after_text(place: DuePlace) -> String {
    format!("{}.{}", place.at.as_millis(), place.order)
}

/// The place that a page's `next` names.
fn place(text: &str) -> Result<DuePlace, Refusal> {
    let parse = || {
        let (at, order) = text.split_once('.')?;
        Some(DuePlace { at: Timestamp::from_millis(at.parse().ok()?)?, order: order.parse().ok()? })
    };
    parse().ok_or_else(|| Refusal::new(Code::CursorInvalid, "`after` is not the `next` of a page"))
}

/// `DELETE /v1/scheduled?topic=`: everything scheduled for an address that the caller may manage.
pub async fn delete_all(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["topic", "after"])?;
    let after = query.one("after")?.map(place).transpose()?;
    let missing = || Refusal::parameter("name the `topic` or `topic:key` whose events are to be cancelled");
    let topic = Topic::parse(query.one("topic")?.ok_or_else(missing)?)?;
    let done = door.tidings.cancel_all(&who, &topic, after).await?;
    let mut answer = json!({ "cancelled": done.count });
    if let Some(next) = done.next {
        answer["next"] = after_text(next).into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
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

/// What may be changed about a scheduled event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a change is a JSON object")]
struct Change {
    available_at: Timestamp,
}

/// `PATCH /v1/scheduled/{id}`: moves it to another time.
pub async fn patch(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let id = address::scheduled_id(&parts.uri)?;
    Query::parse(&parts.uri, &[])?;
    let mut body = Parts::new(body, door.tidings.limits().read_timeout_ms);
    let body = body.whole(CHANGE_BYTES_MAX).await?;
    let change: Change = EventError::read(EventError::text(&body)?)?;
    let moved = door.tidings.move_scheduled(&who, id, change.available_at).await?;
    let mut out = Vec::new();
    write_json(&mut out, moved, true)?;
    Ok(reply::json(StatusCode::OK, out))
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
