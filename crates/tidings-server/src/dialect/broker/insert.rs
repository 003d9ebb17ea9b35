//! `POST /insert` and `GET /cancel/{id}`.

use super::denied::Denied;
use super::who::Who;
use super::{form, view, who};
use crate::Door;
use crate::http::reply;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tidings_engine::broker::{Broker, BrokerEvent, Insert};
use tidings_model::{Code, Key, TopicName, Uuid};

#[derive(Deserialize)]
#[serde(expecting = "an object with event, collection_id, timestamp and data")]
struct Wire<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    collection_id: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Stores or schedules one event.
pub async fn post(State(door): State<Door>, request: Request) -> Result<Response, Denied> {
    let who = who::bearer(&door, request.headers()).await?;
    let body = form::body(&door, request).await?;
    let Wire { event, collection_id, timestamp, data } = form::fields(&body)?;
    let insert = Insert {
        event: TopicName::parse(&event)?,
        collection: collection(&collection_id)?,
        timestamp,
        data: Bytes::copy_from_slice(data.get().as_bytes()),
    };
    let event = Broker::new(door.tidings.clone()).insert(&who, insert).await?;
    Ok(one(&event))
}

/// Takes an event out before its time.
pub async fn cancel(
    State(door): State<Door>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Response, Denied> {
    let unknown = |_| Denied::new(Code::ScheduledUnknown, "no scheduled event has this id");
    let id = Uuid::try_parse(&id).map_err(unknown)?;
    let event = Broker::new(door.tidings.clone()).cancel(&who, id).await?;
    Ok(one(&event))
}

/// A collection's id, in the form in which it is stored.
pub fn collection(text: &str) -> Result<Key, Denied> {
    let refuse =
        |e| Denied::new(Code::EventInvalid, format!("Request body deserialize error: collection_id: {e}"));
    let id = Uuid::try_parse(text).map_err(refuse)?;
    Ok(Key::parse(&id.to_string()).expect("short and plain"))
}

fn one(event: &BrokerEvent) -> Response {
    let mut out = b"{\"event\":".to_vec();
    out.extend_from_slice(&view::render(event));
    out.push(b'}');
    reply::json(StatusCode::OK, out)
}
