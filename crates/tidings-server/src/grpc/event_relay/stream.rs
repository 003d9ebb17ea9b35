//! `StreamEvents`: what is published from now on, while somebody listens.

use super::topic;
use crate::Door;
use crate::grpc::watch::{Messages, Watch, Wire};
use crate::grpc::{protobuf, status};
use crate::refusal::Refusal;
use std::collections::VecDeque;
use std::sync::Arc;
use tidings_engine::{Item, Subscription};
use tidings_model::{Cursor, Filter, From, Principal, Topic};
use tidings_proto::Encoded;
use tidings_proto::server::eventrelay as relay;
use tonic::Status;

pub async fn stream(
    door: &Door,
    who: Arc<Principal>,
    request: &relay::StreamEventsRequest,
) -> Result<Messages<Relay>, Status> {
    let (topic, filter) = read(request)?;
    let subscription = door.tidings.subscribe(who, vec![topic], &From::Latest, &filter).await;
    Ok(Watch::open(door, subscription.map_err(status::of)?, Relay))
}

fn read(request: &relay::StreamEventsRequest) -> Result<(Topic, Filter), Refusal> {
    let filter = if request.query.is_empty() { Filter::default() } else { Filter::parse(&request.query)? };
    Ok((topic(&request.topic, "stream_events")?, filter))
}

/// `eventrelay.StreamEventsResponse`, which has no place for a position or a gap.
pub struct Relay;

impl Wire for Relay {
    fn encode(&mut self, _: &Subscription, item: Item, out: &mut VecDeque<Encoded>) -> u64 {
        let entries = match item {
            Item::Events(batch) => batch.entries,
            Item::Passing(entries) => entries,
            _ => return 0,
        };
        out.extend(entries.iter().map(|entry| protobuf::streamed(entry)));
        entries.len() as u64
    }

    fn moved(&mut self, _: &Cursor) -> Option<Encoded> {
        None
    }
}
