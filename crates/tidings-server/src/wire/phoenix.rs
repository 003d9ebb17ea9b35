//! Events and notices as messages of Phoenix channels.
//!
//! Owns: their encodings. An event's payload is written once, and its frame once for each channel name, however
//! many sockets have joined it.

use super::{gap_json, own_cursor, text_frame};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use tidings_engine::{Entry, Format, Gap, Item, Subscription};
use tidings_model::phoenix::{Version, write};
use tidings_model::{Cursor, Event, event_relay};

/// These stand beside names, none among an entry's numbered encodings.
const V1: Format = Format(usize::MAX);
const V2: Format = Format(usize::MAX - 1);
const PAYLOAD: Format = Format(usize::MAX - 2);

/// The one name of what all channels share.
static ALL: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

/// Appends what an item is in the channel it came for, and answers how many events it held.
pub fn encode(subscription: &Subscription, item: Item, version: Version, out: &mut VecDeque<Bytes>) -> u64 {
    let Some(channel) = subscription.apart() else { return 0 };
    match item {
        Item::Events(batch) => {
            out.extend(batch.entries.iter().map(|entry| match batch.in_state {
                false => event(entry, version, channel),
                true => {
                    let cursor = subscription.leg_cursor_at(batch.leg, entry.event.offset(), true);
                    event_own(entry, version, channel, &cursor)
                }
            }));
            return batch.entries.len() as u64;
        }
        Item::Passing(entries) => {
            out.extend(entries.iter().map(|entry| event(entry, version, channel)));
            return entries.len() as u64;
        }
        Item::Gap(gone) => out.push_back(gap(version, channel, &gone)),
        Item::Live(_) => out.push_back(live(version, channel, &subscription.cursor_apart(channel))),
        // Entities are watched in other ways.
        Item::Rows(_) | Item::Trouble(_) => {}
    }
    0
}

/// `event:published` in the channel of that name, with the topic's own cursor; the bytes are shared.
fn event(entry: &Entry, version: Version, channel: &Arc<str>) -> Bytes {
    let format = match version {
        Version::V1 => V1,
        Version::V2 => V2,
    };
    entry.named(format, channel, |_| frame(version, channel, &payload(entry)))
}

/// The same with this reader's own cursor.
fn event_own(entry: &Entry, version: Version, channel: &str, cursor: &Cursor) -> Bytes {
    let mut payload = Vec::new();
    event_relay::write(&entry.event, Some(cursor), &mut payload);
    frame(version, channel, &payload)
}

fn payload(entry: &Entry) -> Bytes {
    entry.named(PAYLOAD, &ALL, |event: &Event| {
        let cursor = (!event.is_passing()).then(|| own_cursor(event));
        let mut payload = Vec::with_capacity(event.record().as_bytes().len() + 768);
        event_relay::write(event, cursor.as_ref(), &mut payload);
        payload.into()
    })
}

fn frame(version: Version, channel: &str, payload: &[u8]) -> Bytes {
    text_frame(&write(version, (None, None), channel, "event:published", payload))
}

/// `gap`: events that this channel should have got are gone.
fn gap(version: Version, channel: &str, gap: &Gap) -> Bytes {
    notice(version, channel, "gap", &gap_json(gap))
}

/// `live`: State is through.
fn live(version: Version, channel: &str, cursor: &Cursor) -> Bytes {
    notice(version, channel, "live", &serde_json::json!({ "cursor": cursor.to_string() }))
}

fn notice(version: Version, channel: &str, event: &str, payload: &serde_json::Value) -> Bytes {
    text_frame(&write(version, (None, None), channel, event, payload.to_string().as_bytes()))
}
