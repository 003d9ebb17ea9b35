//! `/v1/topics`: which topics there are, and what is set for each.

use super::address::{self, Query};
use super::body::Parts;
use super::reply;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use tidings_engine::TopicSettings;
use tidings_log::Bounds;
use tidings_model::{Code, Cursor, EventError, Position, TopicName};

/// Settings are small; schemas may be the larger part.
const SETTINGS_BYTES_MAX: usize = 256 << 10;

/// `GET /v1/topics`: those the caller may read, in name order.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["after", "limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let after = query.one("after")?.map(TopicName::parse_captured).transpose()?;
    let found = door.tidings.topics(&who, after.as_ref(), limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|(name, _)| name.to_string());
    let topics: Vec<Value> = found.iter().map(|(name, bounds)| topic_json(name, Some(bounds))).collect();
    let mut answer = json!({ "topics": topics });
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `GET /v1/topics/{topic}`: its bounds and settings.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let name = address::topic_name(&uri)?;
    Query::parse(&uri, &[])?;
    let (bounds, settings) = door.tidings.topic(&who, &name).await?;
    Ok(described(&name, bounds.as_ref(), &settings))
}

/// `PUT /v1/topics/{topic}`: sets retention and who may see what; the topic need not exist yet.
pub async fn put(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let name = address::topic_name(&parts.uri)?;
    Query::parse(&parts.uri, &[])?;
    let mut body = Parts::new(body, door.tidings.limits().read_timeout_ms);
    let body = body.whole(SETTINGS_BYTES_MAX).await?;
    let settings: TopicSettings = EventError::text(&body).and_then(EventError::read).map_err(|error| {
        let refusal = Refusal::from(error);
        if refusal.code == Code::EventInvalid { Refusal::parameter(refusal.detail) } else { refusal }
    })?;
    door.tidings.set_topic(&who, &name, &settings).await?;
    // As they are stored: what was not mentioned has stayed.
    let (bounds, settings) = (door.tidings.log().bounds(&name), door.tidings.topic_settings(&name).await?);
    Ok(described(&name, bounds.as_ref(), &settings))
}

/// `DELETE /v1/topics/{topic}`: ends it, with its events, State and settings.
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let name = address::topic_name(&uri)?;
    Query::parse(&uri, &[])?;
    door.tidings.drop_topic(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn described(name: &TopicName, bounds: Option<&Bounds>, settings: &TopicSettings) -> Response {
    let mut topic = topic_json(name, bounds);
    topic["settings"] = serde_json::to_value(settings).expect("plain fields");
    reply::json(StatusCode::OK, topic.to_string())
}

/// A topic with its bounds; one that does not exist yet has none.
fn topic_json(name: &TopicName, bounds: Option<&Bounds>) -> Value {
    let mut topic = json!({ "name": name.as_str() });
    if let Some(bounds) = bounds {
        let (epoch, offset) = (bounds.epoch, bounds.tail);
        let cursor = Cursor::of(Position { topic: name.clone(), epoch, offset, in_state: false });
        topic["oldest"] = bounds.oldest.0.into();
        topic["tail"] = bounds.tail.0.into();
        topic["cursor"] = cursor.to_string().into();
    }
    topic
}
