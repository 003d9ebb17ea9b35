//! A message as an event on its way in.
//!
//! Owns: what an empty field means. In this wire a text that is left out and an empty one are the same; where that
//! makes a difference the field is marked `optional`.

use crate::refusal::Refusal;
use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_engine::Error;
use tidings_model::{Attributes, EventError, NewEvent, Timestamp, Topic, Uuid};
use tidings_proto::server::tidings::v1;

/// The event at `index` of its call; `request` is where events go that name no topic.
pub fn read(event: v1::NewEvent, request: Option<&Topic>, index: usize) -> Result<NewEvent, Refusal> {
    new_event(event, request).map_err(|source| Error::Event { index, source }.into())
}

/// The topic that a call names; none where the text is empty.
pub fn topic(text: &str) -> Result<Option<Topic>, Refusal> {
    if text.is_empty() { Ok(None) } else { Ok(Some(Topic::parse(text)?)) }
}

fn new_event(event: v1::NewEvent, request: Option<&Topic>) -> Result<NewEvent, EventError> {
    let named = Some(event.topic.as_str()).filter(|topic| !topic.is_empty());
    let key = Some(event.key.as_str()).filter(|key| !key.is_empty());
    let topic = NewEvent::address(named, key, request)?;
    Ok(NewEvent {
        id: match event.id.as_str() {
            "" => None,
            id => Some(id.parse::<Uuid>().map_err(|_| EventError::Type("`id` is not a UUID".into()))?),
        },
        name: text(event.name),
        source: text(event.source),
        user: text(event.user),
        occurred_at: event.occurred_at.map(|at| time("occurred_at", &at)).transpose()?,
        available_at: event.available_at.map(|at| time("available_at", &at)).transpose()?,
        data: event.data.map(json).transpose()?,
        context: event.context.map(json).transpose()?,
        attributes: Attributes {
            group_key: event.group_key.map(Into::into),
            reference_key: event.reference_key.map(Into::into),
            trace_key: event.trace_key.map(Into::into),
            anonymous_key: event.anonymous_key.map(Into::into),
            data_schema: event.data_schema.map(Into::into),
            prev_id: event.prev_id.map(Into::into),
            verified: event.verified,
        },
        deleted: event.deleted,
        ..NewEvent::new(topic, Bytes::new())
    })
}

fn text(text: String) -> Option<Box<str>> {
    if text.is_empty() { None } else { Some(text.into()) }
}

/// A JSON text as it was sent, without the blanks around it.
pub fn json(text: String) -> Result<Bytes, EventError> {
    let raw: &RawValue = serde_json::from_str(&text).map_err(|e| EventError::from_json(&e))?;
    if raw.get().len() == text.len() {
        return Ok(text.into());
    }
    Ok(Bytes::copy_from_slice(raw.get().as_bytes()))
}

fn time(field: &'static str, at: &prost_types::Timestamp) -> Result<Timestamp, EventError> {
    let millis = at.seconds.checked_mul(1000).and_then(|ms| ms.checked_add(i64::from(at.nanos / 1_000_000)));
    let time = millis.filter(|_| (0..1_000_000_000).contains(&at.nanos)).and_then(Timestamp::from_millis);
    time.ok_or_else(|| EventError::Type(format!("`{field}` is not a time between years 0000 and 9999")))
}

/// A point in time as this wire has it.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis();
    prost_types::Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: (millis.rem_euclid(1000) * 1_000_000) as i32,
    }
}
