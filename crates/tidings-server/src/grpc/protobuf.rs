//! Events as protobuf messages, written from their records without an object between.
//!
//! Owns: the field numbers of both packages' `Event`, and that an event is written once for all streams. A message's
//! fields may stand in any order, so what is a reader's own follows the bytes that are shared. Never: decides who
//! sees an event.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::Deserialize as _;
use tidings_engine::{Entry, Format, Gap};
use tidings_model::{Attributes, Cursor, Event, Timestamp, Topic};
use tidings_proto::{Encoded, framed};

/// `tidings.v1.SubscribeResponse` with the topic's own cursor.
const SUBSCRIBE: Format = Format(4);
/// `eventrelay.StreamEventsResponse`.
const STREAM_EVENTS: Format = Format(5);

/// Fields of `tidings.v1.SubscribeResponse`.
const ITEM_EVENT: u32 = 1;
const ITEM_GAP: u32 = 2;
const ITEM_LIVE: u32 = 3;
const ITEM_MOVED: u32 = 4;
const ITEM_CURSOR: u32 = 15;

/// The event as an answer of `Subscribe`; `own` where the reader's cursor is another than the topic's own.
pub fn subscribed(entry: &Entry, own: Option<&Cursor>) -> Encoded {
    let shared = entry.encoded(SUBSCRIBE, |event| {
        framed(event.record().as_bytes().len() + 256, |out| {
            message(out, ITEM_EVENT, |out| native(out, event));
            // An event that is not stored has no position.
            if !event.is_passing() {
                text(out, ITEM_CURSOR, &crate::wire::own_cursor(event).to_string());
            }
        })
    });
    // Of a field that stands there twice, the later counts.
    let own = own.map_or_else(Bytes::new, |cursor| {
        let mut out = Vec::new();
        text(&mut out, ITEM_CURSOR, &cursor.to_string());
        out.into()
    });
    Encoded::of_frame(shared.clone(), own)
}

/// The event as an answer of `StreamEvents`.
pub fn streamed(entry: &Entry) -> Encoded {
    let shared = entry.encoded(STREAM_EVENTS, |event| {
        framed(event.record().as_bytes().len() + 128, |out| message(out, 1, |out| relay(out, event)))
    });
    Encoded::of_frame(shared.clone(), Bytes::new())
}

pub fn gap(gap: &Gap, cursor: &Cursor) -> Encoded {
    item(ITEM_GAP, cursor, |out| {
        text(out, 1, &gap.topic.to_string());
        text(out, 2, gap.reason.as_str());
        number(out, 3, gap.asked.0);
        number(out, 4, gap.oldest.0);
        number(out, 5, gap.tail.0);
    })
}

pub fn live(topic: &Topic, cursor: &Cursor) -> Encoded {
    item(ITEM_LIVE, cursor, |out| text(out, 1, &topic.to_string()))
}

pub fn moved(cursor: &Cursor) -> Encoded {
    item(ITEM_MOVED, cursor, |_| {})
}

fn item(field: u32, cursor: &Cursor, fill: impl FnOnce(&mut Vec<u8>)) -> Encoded {
    let mut out = Vec::new();
    message(&mut out, field, fill);
    text(&mut out, ITEM_CURSOR, &cursor.to_string());
    Bytes::from(out).into()
}

/// A page of events as `tidings.v1.PullResponse` has them, in field 1; the other fields follow in `own`.
pub fn page(events: &[Event], own: impl FnOnce(&mut Vec<u8>)) -> Encoded {
    events_of(events, native, own)
}

/// As [`page`], for `eventrelay.PullEventsResponse` and those like it.
pub fn relay_page(events: &[Event], own: impl FnOnce(&mut Vec<u8>)) -> Encoded {
    events_of(events, relay, own)
}

fn events_of(events: &[Event], write: fn(&mut Vec<u8>, &Event), own: impl FnOnce(&mut Vec<u8>)) -> Encoded {
    let weight: usize = events.iter().map(Event::weight).sum();
    let mut out = Vec::with_capacity(weight + events.len() * 64 + 128);
    events.iter().for_each(|event| message(&mut out, 1, |out| write(out, event)));
    own(&mut out);
    Bytes::from(out).into()
}

/// Fields of `tidings.v1.Event`.
fn native(out: &mut Vec<u8>, event: &Event) {
    let record = event.record();
    address(out, 1, event);
    optional(out, 2, record.key());
    id(out, 3, event);
    optional(out, 4, record.name());
    optional(out, 5, record.source());
    optional(out, 6, record.user());
    time(out, 7, record.occurred_at());
    time(out, 8, record.available_at());
    optional(out, 9, record.data());
    optional(out, 10, record.context());
    if record.is_deleted() {
        number(out, 11, 1);
    }
    let attributes = attributes(event);
    let texts = [
        &attributes.group_key,
        &attributes.reference_key,
        &attributes.trace_key,
        &attributes.anonymous_key,
        &attributes.data_schema,
        &attributes.prev_id,
    ];
    for (value, field) in texts.into_iter().zip(12..) {
        optional(out, field, value.as_deref());
    }
    if let Some(verified) = attributes.verified {
        encode_key(18, WireType::Varint, out);
        out.push(u8::from(verified));
    }
    time(out, 19, Some(record.published_at()));
    number(out, 20, event.offset().0);
}

/// Fields of `eventrelay.Event`.
fn relay(out: &mut Vec<u8>, event: &Event) {
    let record = event.record();
    id(out, 1, event);
    optional(out, 2, record.name());
    address(out, 3, event);
    optional(out, 4, record.data());
    optional(out, 5, record.source());
    let attributes = attributes(event);
    optional(out, 6, attributes.group_key.as_deref());
    optional(out, 7, attributes.reference_key.as_deref());
    optional(out, 8, attributes.trace_key.as_deref());
    optional(out, 9, record.user());
    optional(out, 10, attributes.anonymous_key.as_deref());
    optional(out, 11, record.occurred_at().map(|at| at.to_string()).as_deref());
    for (name, value) in super::event_relay::context(record.context()) {
        message(out, 12, |out| {
            text(out, 1, &name);
            text(out, 2, &value);
        });
    }
    // What does not fit is refused where a client asks for a page; a stream leaves it out.
    number(out, 13, i32::try_from(event.offset().0).unwrap_or(0) as u64);
    optional(out, 15, attributes.data_schema.as_deref());
    optional(out, 16, attributes.prev_id.as_deref());
    optional(out, 17, record.available_at().map(|at| at.to_string()).as_deref());
}

/// The optional attributes; most events have none.
fn attributes(event: &Event) -> Attributes {
    let json = event.record().attributes();
    json.and_then(|json| Attributes::deserialize(&mut serde_json::Deserializer::from_str(json)).ok())
        .unwrap_or_default()
}

fn id(out: &mut Vec<u8>, field: u32, event: &Event) {
    text(out, field, event.id().hyphenated().encode_lower(&mut [0; 36]));
}

fn address(out: &mut Vec<u8>, field: u32, event: &Event) {
    let (name, key) = (event.topic().as_str(), event.key());
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint((name.len() + key.map_or(0, |key| key.len() + 1)) as u64, out);
    out.extend_from_slice(name.as_bytes());
    if let Some(key) = key {
        out.push(b':');
        out.extend_from_slice(key.as_bytes());
    }
}

fn time(out: &mut Vec<u8>, field: u32, at: Option<Timestamp>) {
    let Some(at) = at else { return };
    message(out, field, |out| {
        number(out, 1, at.as_millis().div_euclid(1000) as u64);
        number(out, 2, at.as_millis().rem_euclid(1000) as u64 * 1_000_000);
    });
}

/// A message within a message. What it holds is written first and its length put before it.
pub fn message(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    encode_key(field, WireType::LengthDelimited, out);
    let at = out.len();
    // Room for the length of what is usual; anything longer is moved once.
    out.extend_from_slice(&[0; 2]);
    fill(out);
    let len = (out.len() - at - 2) as u64;
    let (mut head, mut n, mut left) = ([0; 10], 0, len);
    while left >= 0x80 {
        (head[n], n, left) = (left as u8 | 0x80, n + 1, left >> 7);
    }
    head[n] = left as u8;
    match n {
        1 => out[at..at + 2].copy_from_slice(&head[..2]),
        _ => drop(out.splice(at..at + 2, head[..=n].iter().copied())),
    }
}

fn optional(out: &mut Vec<u8>, field: u32, value: Option<&str>) {
    if let Some(value) = value {
        text(out, field, value);
    }
}

pub fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value.as_bytes());
}

/// A number that is not the one it has when it is left out.
pub fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, out);
        encode_varint(value, out);
    }
}
