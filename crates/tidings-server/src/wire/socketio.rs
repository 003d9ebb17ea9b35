//! Events as Socket.IO packets: changes as Esink's clients know them, and events as every other transport has them.
//!
//! Owns: both forms, as WebSocket frames whose bytes all subscribers share, and as texts for long polling. The
//! last argument of each packet is the cursor behind it.

use super::{gap_json, own_cursor, text_frame};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write as _;
use tidings_engine::{Entry, Format, Item, Subscription};
use tidings_model::{Code, Cursor, Event};

const CHANGE: Format = Format(4);
const EVENT: Format = Format(5);

/// Names that mean something to a client's library or that we use ourselves: a table that is called so only has
/// the event `changes`.
const RESERVED: &[&str] = &[
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "changes",
    "connected",
    "cursor",
    "error",
    "event",
    "gap",
    "live",
];

/// What an event's context says: Esink's interface keeps its own there, a source says where the change comes from.
#[derive(Default, Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    table: Option<&'a RawValue>,
    #[serde(borrow)]
    source_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    transaction: Option<&'a RawValue>,
    #[serde(borrow)]
    position: Option<&'a RawValue>,
    #[serde(borrow)]
    snapshot: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(d: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

/// The frames of an item; with how many events it held.
pub fn frames(subscription: &Subscription, item: &Item, out: &mut impl Extend<Bytes>) -> u64 {
    if let Item::Events(batch) = item
        && !batch.in_state
    {
        out.extend(batch.entries.iter().map(|entry| frame(entry, batch.is_marked)));
        return batch.entries.len() as u64;
    }
    if let Item::Passing(entries) = item {
        out.extend(entries.iter().map(|entry| frame(entry, false)));
        return entries.len() as u64;
    }
    let mut texts = Vec::new();
    let events = self::texts(subscription, item, &mut texts);
    out.extend(texts.into_iter().map(|text| text_frame(text.as_bytes())));
    events
}

/// Something went wrong that is no answer to anything.
pub fn error(code: Code, message: &str) -> Bytes {
    text_frame(error_text(code, message).as_bytes())
}

/// The same as a packet.
pub fn error_text(code: Code, message: &str) -> String {
    let told = serde_json::json!({ "code": code.as_str(), "message": message });
    format!("42[\"error\",{told}]")
}

/// Where the cursors are when only events that did not pass went by.
pub fn silent(subscription: &mut Subscription) -> Vec<Bytes> {
    if subscription.heartbeat().is_none() {
        return Vec::new();
    }
    let moved = subscription.topics().map(|topic| {
        let name = serde_json::json!({ "topic": topic.to_string() });
        let text = format!("42[\"cursor\",{name},\"{}\"]", subscription.cursor_of(topic));
        text_frame(text.as_bytes())
    });
    moved.collect()
}

/// The event with its topic's cursor; the bytes are shared.
fn frame(entry: &Entry, is_change: bool) -> Bytes {
    let encode = |event: &Event| {
        let mut texts = Vec::with_capacity(2);
        let cursor = (!event.is_passing()).then(|| own_cursor(event));
        packets(event, is_change, cursor.as_ref(), &mut texts);
        match &texts[..] {
            [one] => text_frame(one.as_bytes()),
            all => all.iter().map(|text| text_frame(text.as_bytes())).collect::<Vec<_>>().concat().into(),
        }
    };
    entry.encoded(if is_change { CHANGE } else { EVENT }, encode).clone()
}

/// The packets of an item as texts; answers how many events it held.
pub fn texts(subscription: &Subscription, item: &Item, out: &mut Vec<String>) -> u64 {
    match item {
        Item::Events(batch) => {
            for entry in &batch.entries {
                let cursor = match batch.in_state {
                    false => own_cursor(&entry.event),
                    true => subscription.leg_cursor_at(batch.leg, entry.event.offset(), true),
                };
                packets(&entry.event, batch.is_marked, Some(&cursor), out);
            }
            return batch.entries.len() as u64;
        }
        Item::Passing(entries) => {
            entries.iter().for_each(|entry| packets(&entry.event, false, None, out));
            return entries.len() as u64;
        }
        Item::Gap(gap) => {
            let cursor = subscription.cursor();
            out.push(format!("42[\"gap\",{},\"{cursor}\"]", gap_json(gap)));
        }
        Item::Live(topic) => {
            let name = serde_json::json!({ "topic": topic.to_string() });
            out.push(format!("42[\"live\",{name},\"{}\"]", subscription.cursor_of(topic)));
        }
        // Nobody watches entities here.
        Item::Rows(_) | Item::Trouble(_) => {}
    }
    0
}

fn packets(event: &Event, is_change: bool, cursor: Option<&Cursor>, out: &mut Vec<String>) {
    let mut argument = Vec::with_capacity(event.record().as_bytes().len() + 256);
    if !is_change {
        event.write_json(&mut argument);
        return out.push(packet("event", &argument, cursor));
    }
    let table = change(event, &mut argument);
    if !RESERVED.contains(&table.as_str()) {
        out.push(packet(&table, &argument, cursor));
    }
    out.push(packet("changes", &argument, cursor));
}

fn packet(name: &str, argument: &[u8], cursor: Option<&Cursor>) -> String {
    let mut out = Vec::with_capacity(name.len() + argument.len() + 128);
    out.extend_from_slice(b"42[");
    serde_json::to_writer(&mut out, name).expect("memory");
    out.push(b',');
    out.extend_from_slice(argument);
    if let Some(cursor) = cursor {
        write!(out, ",\"{cursor}\"").expect("memory");
    }
    out.push(b']');
    String::from_utf8(out).expect("records hold UTF-8")
}

/// Writes the change that an event is, and answers with its table.
fn change(event: &Event, out: &mut Vec<u8>) -> String {
    let kept: Kept<'_> =
        event.record().context().and_then(|c| serde_json::from_str(c).ok()).unwrap_or_default();
    let table = kept.table.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let is_captured = [kept.transaction, kept.position, kept.snapshot].iter().any(Option::is_some);
    let table = table.unwrap_or_else(|| match is_captured {
        // A captured table's name is written so that it can be a topic's.
        true => percent_decode_str(event.topic().as_str()).decode_utf8_lossy().into_owned(),
        false => event.topic().as_str().to_owned(),
    });
    let text = |out: &mut Vec<u8>, text: &str| serde_json::to_writer(out, text).expect("memory");
    out.extend_from_slice(b"{\"table\":");
    text(out, &table);
    out.extend_from_slice(b",\"type\":");
    text(out, event.name().unwrap_or("insert"));
    write!(out, ",\"data\":{},\"source\":", event.data().unwrap_or("null")).expect("memory");
    text(out, event.record().source().unwrap_or("api"));
    let usual = if is_captured { "\"database\"" } else { "\"api\"" };
    let source_type = kept.source_type.map_or(usual, RawValue::get);
    write!(out, ",\"source_type\":{source_type},\"timestamp\":").expect("memory");
    match kept.timestamp {
        Some(given) => out.extend_from_slice(given.get().as_bytes()),
        None => write!(out, "{}", event.published_at().as_millis()).expect("memory"),
    }
    let version = kept.version.map_or("1", RawValue::get);
    write!(out, ",\"version\":{version},\"id\":\"{}\"}}", event.id()).expect("memory");
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::{Epoch, NewEvent, Offset, RecordWriter, Topic, Uuid};

    fn changes(topic: &str, json: &str) -> Vec<String> {
        let new = NewEvent::parse(json.as_bytes(), &Topic::parse(topic).unwrap()).unwrap();
        let record = RecordWriter::encode(&new, Uuid::from_u128(1));
        let event = Event::new(new.topic.name, Epoch(1), Offset(1), record.into()).unwrap();
        let mut out = Vec::new();
        packets(&event, true, Some(&own_cursor(&event)), &mut out);
        out
    }

    #[test]
    fn a_change_is_sent_under_its_table_and_as_changes() {
        let json = r#"{"name":"update","source":"postgres","data":{"id": 1.50},"context":{"transaction":7}}"#;
        let found = changes("users:1", json);
        let object = r#"{"table":"users","type":"update","data":{"id": 1.50},"source":"postgres","source_type":"database","timestamp":0,"version":1,"id":"00000000-0000-0000-0000-000000000001"}"#;
        assert!(found[0].starts_with(&format!("42[\"users\",{object},\"")), "{}", found[0]);
        assert!(found[1].starts_with(&format!("42[\"changes\",{object},\"")), "{}", found[1]);
        assert_eq!(found.len(), 2);
        // Triggers that know no transactions say where they have kept it.
        let json = json.replace("\"transaction\":7", "\"position\":\"pub_events:9\"");
        assert!(changes("Bank%20Records:1", &json)[0].contains(r#""table":"Bank Records""#));
        assert!(changes("users:1", &json)[0].contains(r#""source_type":"database""#));
    }

    #[test]
    fn the_context_says_what_a_publisher_has_set_itself() {
        let json = r#"{"name":"x","source":"s","data":{},"context":{"table":"Bank\"Records","source_type":"api","timestamp":null,"version":7}}"#;
        let found = changes("esink", json);
        assert!(found[0].starts_with(r#"42["Bank\"Records",{"table":"Bank\"Records","type":"x","#));
        assert!(found[0].contains(r#""source_type":"api","timestamp":null,"version":7,"#), "{}", found[0]);
    }

    #[test]
    fn a_table_with_the_name_of_an_event_of_ours_is_only_among_the_changes() {
        for table in RESERVED {
            assert_eq!(changes(table, r#"{"data":{}}"#).len(), 1, "{table}");
        }
    }
}
