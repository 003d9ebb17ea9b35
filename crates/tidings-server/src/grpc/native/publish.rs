//! `Publish`: all or none, answered when it is durable.

use super::event;
use crate::Door;
use crate::grpc::status;
use crate::refusal::Refusal;
use std::sync::Arc;
use tidings_engine::{Fate, Published};
use tidings_model::{Code, NewEvent, Principal, Uuid};
use tidings_proto::server::tidings::v1;
use tonic::Status;

pub async fn publish(
    door: &Door,
    who: &Arc<Principal>,
    request: v1::PublishRequest,
) -> Result<v1::PublishResponse, Status> {
    let events = read(door, request)?;
    let receipt = door.tidings.publish(who, events).await.map_err(status::of)?;
    let cursor = receipt.cursor().encode();
    Ok(v1::PublishResponse { events: receipt.events.iter().map(published).collect(), cursor })
}

fn read(door: &Door, request: v1::PublishRequest) -> Result<Vec<NewEvent>, Refusal> {
    let (found, max) = (request.events.len(), door.tidings.limits().batch_events);
    if found > max {
        let detail = format!("{found} events in one call, at most {max} are allowed");
        return Err(Refusal::new(Code::BatchTooLarge, detail));
    }
    let topic = event::topic(&request.topic)?;
    let events = request.events.into_iter().enumerate();
    events.map(|(index, event)| event::read(event, topic.as_ref(), index)).collect()
}

/// What became of an event.
pub fn published(event: &Published) -> v1::Published {
    let (offset, published_at, available_at) = match event.fate {
        Fate::Stored { offset, published_at, .. } => (offset.0, Some(published_at), None),
        Fate::Scheduled { available_at } => (0, None, Some(available_at)),
    };
    v1::Published {
        id: event.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned(),
        topic: event.topic.to_string(),
        offset,
        published_at: published_at.map(event::timestamp),
        available_at: available_at.map(event::timestamp),
        duplicate: event.duplicate,
    }
}
