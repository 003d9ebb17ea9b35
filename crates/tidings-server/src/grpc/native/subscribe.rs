//! `Subscribe`: what is kept from a position on, then what is published.

use super::event;
use super::pull::filter;
use crate::Door;
use crate::grpc::watch::{Messages, Watch, Wire};
use crate::grpc::{protobuf, status};
use crate::refusal::Refusal;
use std::collections::VecDeque;
use std::sync::Arc;
use tidings_engine::{Item, Subscription};
use tidings_model::{Cursor, From, Principal, Topic};
use tidings_proto::Encoded;
use tidings_proto::server::tidings::v1;
use tonic::Status;

pub async fn subscribe(
    door: &Door,
    who: Arc<Principal>,
    request: v1::SubscribeRequest,
) -> Result<Messages<Native>, Status> {
    let filter = filter(&request.filter, &request.names)?;
    let (topics, from) = addresses(&request)?;
    let wire = Native { is_single: topics.len() == 1 };
    let subscription = door.tidings.subscribe(who, topics, &from, &filter).await.map_err(status::of)?;
    Ok(Watch::open(door, subscription, wire))
}

fn addresses(request: &v1::SubscribeRequest) -> Result<(Vec<Topic>, From), Refusal> {
    let mut topics = Vec::new();
    for text in &request.topics {
        let topic = event::topic(text)?.ok_or_else(|| Refusal::parameter("a topic's name is empty"))?;
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    if topics.is_empty() {
        return Err(Refusal::parameter("name at least one of `topics`"));
    }
    let from = if request.from.is_empty() { From::Latest } else { From::parse(&request.from)? };
    Ok((topics, from))
}

/// `tidings.v1.SubscribeResponse`.
pub struct Native {
    /// The one topic's own cursor is the reader's.
    is_single: bool,
}

impl Wire for Native {
    fn encode(&mut self, subscription: &Subscription, item: Item, out: &mut VecDeque<Encoded>) -> u64 {
        match item {
            Item::Events(batch) => {
                for entry in &batch.entries {
                    let own = (!self.is_single || batch.in_state)
                        .then(|| subscription.cursor_at(batch.leg, entry.event.offset(), batch.in_state));
                    out.push_back(protobuf::subscribed(entry, own.as_ref()));
                }
                return batch.entries.len() as u64;
            }
            Item::Passing(entries) => {
                out.extend(entries.iter().map(|entry| protobuf::subscribed(entry, None)));
                return entries.len() as u64;
            }
            Item::Gap(gap) => out.push_back(protobuf::gap(&gap, &subscription.cursor())),
            Item::Live(topic) => out.push_back(protobuf::live(&topic, &subscription.cursor())),
            // Rows of entities: a stream of events has none.
            Item::Rows(_) | Item::Trouble(_) => {}
        }
        0
    }

    fn moved(&mut self, cursor: &Cursor) -> Option<Encoded> {
        Some(protobuf::moved(cursor))
    }
}
