//! Changed rows as events.
//!
//! Owns: what an event of a row says. Never: knows whether the row comes from the log, a snapshot or a trigger.

use super::captured::Captured;
use super::row::column::Column;
use super::row::image::{Row, RowChange};
use super::schema::Layout;
use bytes::Bytes;
use serde_json::value::RawValue;
use std::sync::Arc;
use tidings_model::{Key, NewEvent, Timestamp, Topic};

/// More than this in one event is cut down, so that its batch is not refused for ever.
pub const EVENT_BYTES_MAX: usize = 15 << 20;

/// A captured table and how its rows are read.
#[derive(Debug)]
pub struct Table {
    pub captured: Arc<Captured>,
    pub layout: Layout,
}

/// What is known about where a change comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    pub transaction: Option<String>,
    pub committed_at: Option<Timestamp>,
    pub position: Option<String>,
    pub is_snapshot: bool,
}

/// Appends the events of one changed row, in their order.
pub fn push(out: &mut Vec<NewEvent>, table: &Table, change: RowChange, origin: &Origin) {
    let key = |row: &Row| key(row, &table.layout);
    match (change.before, change.after) {
        (Some(before), None) => out.push(event(table, "delete", key(&before), before, None, &[], origin)),
        (None, Some(after)) => out.push(event(table, "insert", key(&after), after, None, &[], origin)),
        (Some(before), Some(after)) => {
            let (old, new) = (key(&before), key(&after));
            if old == new {
                let columns = &table.layout.columns;
                let changed = columns.iter().enumerate().filter(|(n, _)| before.cell(*n) != after.cell(*n));
                let changed: Vec<&Column> = changed.map(|(_, column)| column).collect();
                out.push(event(table, "update", new, after, Some(&before), &changed, origin));
            } else {
                // Another key is another thing: the old one is gone.
                out.push(event(table, "delete", old, before, None, &[], origin));
                out.push(event(table, "insert", new, after, None, &[], origin));
            }
        }
        (None, None) => {}
    }
}

/// All rows of a table are gone.
pub fn truncate(captured: &Captured, origin: &Origin) -> NewEvent {
    let mut event = NewEvent::new(Topic::whole(captured.topic.clone()), Bytes::from_static(b"null"));
    event.name = Some("truncate".into());
    event.occurred_at = origin.committed_at;
    event.context = Some(origin.context().end());
    event
}

impl Origin {
    /// What a context begins with.
    pub fn context(&self) -> Context {
        let mut context = Context(vec![b'{']);
        if let Some(transaction) = &self.transaction {
            context.text("transaction", transaction);
        }
        if let Some(at) = self.committed_at {
            context.text("committed_at", &at.to_string());
        }
        if let Some(position) = &self.position {
            context.text("position", position);
        }
        if self.is_snapshot {
            context.raw("snapshot", b"true");
        }
        context
    }
}

/// A JSON object that grows.
pub struct Context(Vec<u8>);

impl Context {
    pub fn raw(&mut self, name: &str, json: &[u8]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(json);
    }

    pub fn text(&mut self, name: &str, text: &str) {
        self.raw(name, &serde_json::to_vec(text).expect("a text into memory"));
    }

    pub fn end(mut self) -> Bytes {
        self.0.push(b'}');
        self.0.into()
    }
}

/// A key, and its full text where that is longer than a key may be.
pub type FullKey = Option<(Key, Option<String>)>;

fn key(row: &Row, layout: &Layout) -> FullKey {
    let values = layout.key.iter().map(|n| row.cell(*n).map(plain)).collect::<Option<Vec<String>>>()?;
    (!values.is_empty()).then(|| Key::of_columns(values.iter().map(String::as_str)))
}

/// A JSON value as plain text: a text without its quotes, anything else as it is.
pub fn plain(json: &[u8]) -> String {
    if json.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice(json)
    {
        return text;
    }
    String::from_utf8_lossy(json).into_owned()
}

fn event(
    table: &Table,
    name: &str,
    key: FullKey,
    row: Row,
    before: Option<&Row>,
    changed: &[&Column],
    origin: &Origin,
) -> NewEvent {
    let mut context = origin.context();
    let (key, full) = key.map_or((None, None), |(key, full)| (Some(key), full));
    if let Some(full) = full.filter(|full| full.len() <= EVENT_BYTES_MAX / 16) {
        context.text("key", &full);
    }
    if !row.is_whole() {
        context.raw("incomplete", b"true");
    }
    let mut data = row.json;
    if data.len() > EVENT_BYTES_MAX {
        data = b"null".to_vec();
        context.text("omitted", "data");
    }
    if let Some(before) = before {
        let names: Vec<&str> = changed.iter().map(|column| column.name.as_str()).collect();
        context.raw("changed", &serde_json::to_vec(&names).expect("texts into memory"));
        if data.len() + before.json.len() <= EVENT_BYTES_MAX {
            context.raw("before", &before.json);
        } else {
            context.text("omitted", "before");
        }
    }
    finished(&table.captured, name, key, data, context, origin)
}

/// An event of a row whose JSON is there already.
pub fn finished(
    captured: &Captured,
    name: &str,
    key: Option<Key>,
    data: Vec<u8>,
    context: Context,
    origin: &Origin,
) -> NewEvent {
    let deleted = name == "delete" && key.is_some();
    let mut event = NewEvent::new(Topic { name: captured.topic.clone(), key }, data);
    event.name = Some(name.into());
    event.occurred_at = origin.committed_at;
    event.context = Some(context.end());
    event.deleted = deleted;
    event
}

/// The bytes of an event that a batch counts.
pub fn weight(event: &NewEvent) -> usize {
    event.payload_bytes() + 256
}

/// Whether a text is one JSON value.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
