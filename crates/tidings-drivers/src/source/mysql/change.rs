//! Changed rows as events.
//!
//! Owns: what an event of a row says. Never: knows whether the row comes from the log, a snapshot or a trigger.

use super::captured::Captured;
use super::row::image::{Row, RowChange};
use super::schema::Layout;
use bytes::Bytes;
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
    let key = |row: &Row| key(row, &table.layout.key);
    let one = |name, key, row| event(&table.captured, name, key, row, None, origin);
    match (change.before, change.after) {
        (Some(before), None) => out.push(one("delete", key(&before), before)),
        (None, Some(after)) => out.push(one("insert", key(&after), after)),
        (Some(before), Some(after)) => {
            let (old, new) = (key(&before), key(&after));
            if old == new {
                let columns = &table.layout.columns;
                let changed = columns.iter().enumerate().filter(|(n, _)| before.cell(*n) != after.cell(*n));
                let changed: Vec<&str> = changed.map(|(_, column)| column.name.as_str()).collect();
                let before = Some((&before.json[..], &changed[..]));
                out.push(event(&table.captured, "update", new, after, before, origin));
            } else {
                // Another key is another thing: the old one is gone.
                out.push(one("delete", old, before));
                out.push(one("insert", new, after));
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

fn key(row: &Row, columns: &[usize]) -> FullKey {
    let values = columns.iter().map(|n| row.cell(*n).map(plain)).collect::<Option<Vec<String>>>()?;
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

/// A row as an event; of an update with the row before and the names of the columns that changed.
pub fn event(
    captured: &Captured,
    name: &str,
    key: FullKey,
    row: Row,
    before: Option<(&[u8], &[&str])>,
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
    if let Some((before, changed)) = before {
        context.raw("changed", &serde_json::to_vec(changed).expect("texts into memory"));
        if data.len() + before.len() <= EVENT_BYTES_MAX {
            context.raw("before", before);
        } else {
            context.text("omitted", "before");
        }
    }
    let deleted = name == "delete" && key.is_some();
    let mut event = NewEvent::new(Topic { name: captured.topic.clone(), key }, data);
    event.name = Some(name.into());
    event.occurred_at = origin.committed_at;
    event.context = Some(context.end());
    event.deleted = deleted;
    event
}

/// A row that was there before.
pub fn present(captured: &Captured, columns: &[usize], row: Row, origin: &Origin) -> NewEvent {
    let key = key(&row, columns);
    event(captured, "insert", key, row, None, origin)
}

/// The bytes of an event that a batch counts.
pub fn weight(event: &NewEvent) -> usize {
    event.payload_bytes() + 256
}
