//! Rows of the table that triggers fill, as events.
//!
//! Owns: what such a row means, whoever wrote it. Never: refuses one for good; what cannot be an event is left out,
//! with a reason.

use super::super::captured::Captured;
use super::super::change::{self, Change, FullKey, Origin, plain};
use super::super::row::column::label;
use super::super::row::image::Row;
use super::outbox::Entry;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use tidings_model::{Key, NewEvent, Timestamp};

/// A JSON object's names and values, in their order, byte for byte.
struct Cells<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Cells<'a> {
    fn read(text: &'a str) -> Option<Self> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Cells<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cells<'de>, A::Error> {
                let mut cells = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    cells.push((name, value));
                }
                Ok(Cells(cells))
            }
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let cells = reader.deserialize_map(Pairs).ok()?;
        reader.end().ok()?;
        Some(cells)
    }

    fn has_names_of(&self, other: &Self) -> bool {
        self.0.iter().map(|(name, _)| name).eq(other.0.iter().map(|(name, _)| name))
    }

    fn row(&self) -> Row {
        let labels: Vec<Vec<u8>> = self.0.iter().map(|(name, _)| label(name)).collect();
        Row::build(&labels, |n, out| out.extend_from_slice(self.0[n].1.get().as_bytes()))
    }

    /// The key that these columns make, if they are all there.
    fn key(&self, columns: &[String]) -> FullKey {
        let value = |name: &String| {
            let (_, value) = self.0.iter().find(|(one, _)| one == name)?;
            Some(plain(value.get().as_bytes()))
        };
        let values = columns.iter().map(value).collect::<Option<Vec<_>>>()?;
        (!values.is_empty()).then(|| Key::of_columns(values.iter().map(String::as_str)))
    }
}

/// A name, without a copy where it needs none.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends the events of one row; `key` are the columns of its table's primary key, as far as they are known.
pub fn push(
    out: &mut Vec<NewEvent>,
    captured: &Captured,
    key: &[String],
    entry: &Entry,
    origin: &Origin,
) -> Result<(), String> {
    let verb = entry.kind.to_lowercase();
    if verb == "truncate" {
        out.push(change::truncate(captured, origin));
        return Ok(());
    }
    // A row that was too large for the trigger is known by its key only.
    let text = entry.data.as_deref().or(entry.key.as_deref()).ok_or("it has no data")?;
    let events = match Cells::read(text) {
        Some(cells) => rows(captured, key, entry, &verb, &cells, origin),
        None => {
            serde_json::from_str::<&RawValue>(text).map_err(|_| "its data is no JSON")?;
            let row = Row::whole(text.as_bytes().to_vec());
            let change = Change { verb: &verb, key: None, row, before: None, reason: None };
            vec![change::event(captured, 0, &|_| "", change, origin)]
        }
    };
    for event in &events {
        event.check().map_err(|why| why.to_string())?;
    }
    out.extend(events);
    Ok(())
}

fn rows(
    captured: &Captured,
    key: &[String],
    entry: &Entry,
    verb: &str,
    cells: &Cells<'_>,
    origin: &Origin,
) -> Vec<NewEvent> {
    let name = |n: usize| &*cells.0[n].0;
    let one = |verb, key, row: Row, before: Option<&Row>, reason| {
        let change = Change { verb, key, row, before, reason };
        change::event(captured, cells.0.len(), &name, change, origin)
    };
    let new = cells.key(key);
    let row = if entry.data.is_some() { cells.row() } else { cells.row().cut() };
    // Both rows of an update have the same columns: one trigger has written them.
    let before = entry.before.as_deref().and_then(Cells::read).filter(|_| verb == "update");
    let Some(before) = before.filter(|before| before.has_names_of(cells)) else {
        return vec![one(verb, new, row, None, None)];
    };
    let (old, was) = (before.key(key), before.row());
    if old == new {
        return vec![one("update", new, row, Some(&was), None)];
    }
    let reason = Some(change::KEY_CHANGED);
    vec![one("delete", old, was.clone(), None, reason), one("insert", new, row, Some(&was), reason)]
}

/// What the server calls `2026-11-21 12:34:56.789012`, in UTC.
pub fn moment(text: &str) -> Option<Timestamp> {
    Timestamp::parse(&format!("{}Z", text.replacen(' ', "T", 1))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::TopicName;

    fn events(kind: &str, data: Option<&str>, before: Option<&str>) -> Result<Vec<NewEvent>, String> {
        let topic = TopicName::parse("items").unwrap();
        let captured = Captured { schema: "shop".into(), table: "items".into(), topic };
        let entry = Entry {
            id: 7,
            table: "items".into(),
            kind: kind.into(),
            key: None,
            data: data.map(str::to_owned),
            before: before.map(str::to_owned),
            created_at: None,
        };
        let origin = Origin { committed_at: moment("2026-11-21 12:34:56.789012"), ..Origin::default() };
        let mut out = Vec::new();
        push(&mut out, &captured, &["id".into()], &entry, &origin).map(|()| out)
    }

    #[test]
    fn numbers_keep_their_digits_and_keys_their_columns() {
        let data = r#"{"id": 12345678901234567890, "n": 1.10, "t": "é"}"#;
        let before = r#"{"id": 12345678901234567890, "n": 1.1, "t": "é"}"#;
        let [event] = &events("UPDATE", Some(data), Some(before)).unwrap()[..] else { panic!() };
        assert_eq!(event.topic.to_string(), "items:12345678901234567890");
        let compact = r#"{"id":12345678901234567890,"n":1.10,"t":"é"}"#;
        assert_eq!(event.data.as_deref(), Some(compact.as_bytes()));
        let context = std::str::from_utf8(event.context.as_ref().unwrap()).unwrap();
        assert!(context.contains(r#""changed":["n"]"#), "{context}");
        assert_eq!(event.occurred_at.unwrap().to_string(), "2026-11-21T12:34:56.789Z");
    }

    #[test]
    fn a_row_with_another_key_is_two_events() {
        let both = events("UPDATE", Some(r#"{"id":2}"#), Some(r#"{"id":1}"#)).unwrap();
        let told: Vec<_> =
            both.iter().map(|e| (e.topic.to_string(), e.name.clone().unwrap(), e.deleted)).collect();
        assert_eq!(
            told,
            [("items:1".into(), "delete".into(), true), ("items:2".into(), "insert".into(), false)]
        );
    }

    #[test]
    fn what_others_write_is_taken_if_it_is_json() {
        assert_eq!(events("greet", Some("[1]"), None).unwrap()[0].data.as_deref(), Some(&b"[1]"[..]));
        assert!(events("greet", Some("hello"), None).is_err());
        assert!(events("greet", None, None).is_err());
        assert!(events("$gap", Some("{}"), None).is_err());
        assert_eq!(events("TRUNCATE", None, None).unwrap()[0].name.as_deref(), Some("truncate"));
    }
}
