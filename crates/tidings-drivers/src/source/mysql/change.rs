//! Changed rows as events.
//!
//! Owns: what an event of a row says. Never: knows whether the row comes from the log, a snapshot or a trigger.

use super::captured::Captured;
use super::row::column::label;
use super::row::image::{Row, RowChange};
use super::schema::Layout;
use bytes::Bytes;
use std::sync::Arc;
use tidings_model::{Key, NewEvent, Timestamp, Topic};

/// More than this in one event is cut down, so that its batch is not refused for ever.
pub const EVENT_BYTES_MAX: usize = 15 << 20;

/// Why a row was deleted and inserted at once.
pub const KEY_CHANGED: &str = "key_changed";

/// A captured table and how its rows are read.
#[derive(Debug)]
pub struct Table {
    pub captured: Arc<Captured>,
    pub layout: Layout,
}

/// What is known about where a change comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The source's name.
    pub source: Box<str>,
    pub transaction: Option<String>,
    pub committed_at: Option<Timestamp>,
    pub position: Option<String>,
    pub is_snapshot: bool,
}

/// Appends the events of one changed row, in their order.
pub fn push(out: &mut Vec<NewEvent>, table: &Table, change: RowChange, origin: &Origin) {
    let columns = &table.layout.columns;
    let name = |n: usize| columns[n].name.as_str();
    let key = |row: &Row| key(row, &table.layout.key);
    let one = |verb: &'static str, key, row, before: Option<Row>, reason| {
        let change = Change { verb, key, row, before: before.as_ref(), reason };
        event(&table.captured, columns.len(), &name, change, origin)
    };
    match (change.before, change.after) {
        (Some(before), None) => out.push(one("delete", key(&before), before, None, None)),
        (None, Some(after)) => out.push(one("insert", key(&after), after, None, None)),
        (Some(before), Some(after)) => {
            let (old, new) = (key(&before), key(&after));
            if old == new {
                out.push(one("update", new, after, Some(before), None));
            } else {
                // Another key is another thing: the old one is gone.
                out.push(one("delete", old, before.clone(), None, Some(KEY_CHANGED)));
                out.push(one("insert", new, after, Some(before), Some(KEY_CHANGED)));
            }
        }
        (None, None) => {}
    }
}

/// All rows of a table are gone.
pub fn truncate(captured: &Captured, origin: &Origin) -> NewEvent {
    finished(Topic::whole(captured.topic.clone()), "truncate", None, origin.context(), origin)
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

/// What an event says of a row.
pub struct Change<'a> {
    pub verb: &'a str,
    pub key: FullKey,
    pub row: Row,
    pub before: Option<&'a Row>,
    pub reason: Option<&'a str>,
}

/// A row as an event; `name` says what its columns are called.
pub fn event<'a>(
    captured: &Captured,
    columns: usize,
    name: &dyn Fn(usize) -> &'a str,
    change: Change<'_>,
    origin: &Origin,
) -> NewEvent {
    let Change { verb, key, row, before, reason } = change;
    let mut context = origin.context();
    let (key, full) = key.map_or((None, None), |(key, full)| (Some(key), full));
    if let Some(full) = full.filter(|full| full.len() <= EVENT_BYTES_MAX / 16) {
        context.text("key", &full);
    }
    if let Some(reason) = reason {
        context.text("reason", reason);
    }
    if !row.is_whole() {
        context.raw("incomplete", b"true");
    }
    let names = |which: &dyn Fn(usize) -> bool| {
        let names: Vec<&str> = (0..columns).filter(|n| which(*n)).map(name).collect();
        (!names.is_empty()).then(|| serde_json::to_vec(&names).expect("texts into memory"))
    };
    if let Some(before) = before
        && let Some(changed) = names(&|n| row.cell(n) != before.cell(n))
    {
        context.raw("changed", &changed);
    }
    let total = row.json.len() + before.map_or(0, |before| before.json.len());
    if total <= EVENT_BYTES_MAX {
        if let Some(before) = before {
            context.raw("before", &before.json);
        }
        return finished(Topic { name: captured.topic.clone(), key }, verb, Some(row.json), context, origin);
    }
    // The largest columns are left out of both, and named.
    let both = || [Some(&row), before].into_iter().flatten();
    let cells = || both().flat_map(|row| (0..columns).filter_map(|n| row.cell(n)).map(<[u8]>::len));
    let limits = [4 << 20, 1 << 20, 256 << 10, 64 << 10, 4 << 10];
    let fits = |limit: &usize| cells().filter(|len| len <= limit).sum::<usize>() <= EVENT_BYTES_MAX / 2;
    let limit = limits.into_iter().find(fits).unwrap_or(1 << 10);
    let is_large = |n: usize| both().any(|row| row.cell(n).is_some_and(|cell| cell.len() > limit));
    if let Some(omitted) = names(&is_large) {
        context.raw("omitted", &omitted);
    }
    let label = |n: usize| label(name(n));
    if let Some(before) = before {
        context.raw("before", &before.without(columns, &is_large, &label));
    }
    let data = row.without(columns, &is_large, &label);
    finished(Topic { name: captured.topic.clone(), key }, verb, Some(data), context, origin)
}

fn finished(topic: Topic, verb: &str, data: Option<Vec<u8>>, context: Context, origin: &Origin) -> NewEvent {
    let deleted = verb == "delete" && topic.key.is_some();
    let mut event = NewEvent::new(topic, Bytes::new());
    event.data = data.map(Bytes::from);
    event.name = Some(verb.into());
    event.source = Some(origin.source.clone());
    event.occurred_at = origin.committed_at;
    event.context = Some(context.end());
    event.deleted = deleted;
    event
}

/// A row that was there before.
pub fn present<'a>(
    captured: &Captured,
    columns: &[usize],
    name: &dyn Fn(usize) -> &'a str,
    row: Row,
    origin: &Origin,
) -> NewEvent {
    let (count, key) = (row.count(), key(&row, columns));
    event(captured, count, name, Change { verb: "insert", key, row, before: None, reason: None }, origin)
}

/// The bytes of an event that a batch counts.
pub fn weight(event: &NewEvent) -> usize {
    event.payload_bytes() + 256
}
