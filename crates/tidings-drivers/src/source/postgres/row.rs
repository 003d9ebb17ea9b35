//! A changed row as an event.
//!
//! Owns: data, `context`, key, and what becomes of a row whose key changed: a delete of the old key and an insert of the
//! new one. Values come as JSON already. Never: decides who sees it.

use super::form::{join, string};
use bytes::Bytes;
use std::borrow::Cow;
use tidings_model::{Key, NewEvent, Timestamp, Topic, TopicName};

/// Data and context of one event hold at most this; beyond it the largest columns are left out, and named.
const EVENT_BYTES_MAX: usize = 12 << 20;

/// A table's rows, as far as all of them have it in common.
#[derive(Debug)]
pub struct Layout {
    pub topic: TopicName,
    pub columns: Vec<String>,
    /// Places of the primary key's columns, in the key's order.
    pub key: Vec<usize>,
}

/// Each column's value as JSON; `None` where it is not known.
pub type Values = Vec<Option<Bytes>>;

/// What is told of a whole transaction.
pub struct Moment {
    pub source: Box<str>,
    pub committed_at: Timestamp,
    /// Members of `context`, without braces.
    pub context: Vec<u8>,
}

impl Moment {
    /// `position` is where it lies in the database's own order.
    pub fn new(source: &str, transaction: u64, committed_at: Timestamp, position: &str) -> Self {
        let context =
            format!("\"transaction\":{transaction},\"committed_at\":\"{committed_at}\",\"position\":");
        let mut context = context.into_bytes();
        string(position, &mut context);
        Self { source: source.into(), committed_at, context }
    }
}

/// What happened to a row.
pub enum Change {
    Insert(Values),
    /// `old` holds what is known of the row before.
    Update {
        old: Option<Values>,
        new: Values,
    },
    Delete {
        old: Values,
    },
    Truncate,
}

/// The events of one change, in order.
pub fn events(layout: &Layout, moment: &Moment, change: Change) -> impl Iterator<Item = NewEvent> {
    let (first, second) = match change {
        Change::Insert(new) => (event(layout, moment, "insert", &new, None, None), None),
        Change::Delete { old } => (event(layout, moment, "delete", &old, None, None), None),
        Change::Truncate => {
            let topic = Topic::whole(layout.topic.clone());
            let mut context = moment.context.clone();
            context.insert(0, b'{');
            context.push(b'}');
            (finish(moment, topic, "truncate", None, context), None)
        }
        Change::Update { old: None, new } => (event(layout, moment, "update", &new, None, None), None),
        Change::Update { old: Some(old), mut new } => {
            // A large value that was not touched is not repeated; the old row may still say it.
            for (new, old) in new.iter_mut().zip(&old) {
                if new.is_none() {
                    new.clone_from(old);
                }
            }
            let moves =
                layout.key.iter().any(|i| matches!((&old[*i], &new[*i]), (Some(a), Some(b)) if a != b));
            if moves {
                let gone = event(layout, moment, "delete", &old, None, Some("key_changed"));
                (gone, Some(event(layout, moment, "insert", &new, Some(&old), Some("key_changed"))))
            } else {
                (event(layout, moment, "update", &new, Some(&old), None), None)
            }
        }
    };
    std::iter::once(first).chain(second)
}

fn event(
    layout: &Layout,
    moment: &Moment,
    name: &'static str,
    row: &Values,
    before: Option<&Values>,
    reason: Option<&str>,
) -> NewEvent {
    let (key, whole) = match key(layout, row) {
        Some((key, whole)) => (Some(key), whole),
        None => (None, None),
    };
    let is_delete = name == "delete";
    let limit = column_limit(row, before);
    let fits = |value: &Bytes| value.len() <= limit;
    let write = |values: &Values, out: &mut Vec<u8>| {
        let known = layout.columns.iter().zip(values);
        let known = known.filter_map(|(name, value)| Some((name, value.as_ref().filter(|v| fits(v))?)));
        join(out, b'{', b'}', known, |(name, value), out| {
            string(name, out);
            out.push(b':');
            out.extend_from_slice(value);
        });
    };
    let mut context = Vec::with_capacity(moment.context.len() + 2);
    context.push(b'{');
    context.extend_from_slice(&moment.context);
    let member = |name: &str, out: &mut Vec<u8>| {
        out.push(b',');
        string(name, out);
        out.push(b':');
    };
    if let Some(whole) = whole {
        member("key", &mut context);
        string(&whole, &mut context);
    }
    if let Some(reason) = reason {
        member("reason", &mut context);
        string(reason, &mut context);
    }
    let names = |title: &str, which: &dyn Fn(usize) -> bool, context: &mut Vec<u8>| {
        let mut found = (0..layout.columns.len()).filter(|i| which(*i)).peekable();
        if found.peek().is_some() {
            member(title, context);
            join(context, b'[', b']', found, |i, out| string(&layout.columns[i], out));
        }
    };
    if let Some(before) = before {
        let is_whole = before.iter().all(Option::is_some);
        if is_whole {
            names("changed", &|i| row[i].is_some() && row[i] != before[i], &mut context);
        }
        member("before", &mut context);
        write(before, &mut context);
    }
    if !is_delete {
        names("unchanged_toast", &|i| row[i].is_none(), &mut context);
    }
    names("omitted", &|i| row[i].as_ref().is_some_and(|v| !fits(v)), &mut context);
    context.push(b'}');
    let mut data = Vec::with_capacity(row.iter().flatten().map(|v| v.len() + 16).sum());
    write(row, &mut data);
    let topic = Topic { name: layout.topic.clone(), key };
    finish(moment, topic, name, Some(data.into()), context)
}

fn finish(
    moment: &Moment,
    topic: Topic,
    name: &'static str,
    data: Option<Bytes>,
    context: Vec<u8>,
) -> NewEvent {
    let deleted = name == "delete" && topic.key.is_some();
    let mut event = NewEvent::new(topic, Bytes::new());
    event.data = data;
    event.name = Some(name.into());
    event.source = Some(moment.source.clone());
    event.occurred_at = Some(moment.committed_at);
    event.context = Some(context.into());
    event.deleted = deleted;
    event
}

/// The longest value that is kept, so that everything together fits.
fn column_limit(row: &Values, before: Option<&Values>) -> usize {
    let values = || row.iter().chain(before.into_iter().flatten()).flatten();
    let total = |limit: usize| values().map(Bytes::len).filter(|n| *n <= limit).sum::<usize>();
    let limits = [usize::MAX, 4 << 20, 1 << 20, 256 << 10, 64 << 10, 4 << 10];
    limits.into_iter().find(|limit| total(*limit) <= EVENT_BYTES_MAX).unwrap_or(1 << 10)
}

/// The key of a row, and its whole text where it is too long for one; `None` where there is none or it is not known.
fn key(layout: &Layout, row: &Values) -> Option<(Key, Option<String>)> {
    if layout.key.is_empty() {
        return None;
    }
    let texts: Option<Vec<Cow<'_, str>>> =
        layout.key.iter().map(|i| Some(plain(row[*i].as_ref()?))).collect();
    Some(Key::of_columns(texts?.iter().map(AsRef::as_ref)))
}

/// A JSON value as the text that it stands for.
fn plain(json: &Bytes) -> Cow<'_, str> {
    let text = std::str::from_utf8(json).unwrap_or_default();
    match text.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => text[1..text.len() - 1].into(),
        [b'"', ..] => serde_json::from_str::<String>(text).map_or_else(|_| text.into(), Cow::from),
        _ => text.into(),
    }
}
