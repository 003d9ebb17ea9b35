//! The state of one name as Broker's clients get it: columns, events, rows.
//!
//! Owns: the rendered part of each collection, kept in the order of the rows, and how many rows have which
//! columns; so a change renders one collection, and a frame is put together by copying. Never: reads the log.

use super::{ascii, title};
use bytes::Bytes;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use tidings_engine::broker::{BrokerEvent, Place};
use tidings_model::{Event, Uuid};

/// The rendered collections of a name, the newest first.
#[derive(Default)]
pub struct View {
    rows: BTreeMap<Reverse<Place>, Part>,
    /// How many rows have just these columns. Most rows of a name share theirs.
    shapes: BTreeMap<Columns, usize>,
    /// What the row before had.
    usual: Columns,
    /// The parts' texts, and what is left of those that went.
    texts: Vec<u8>,
    /// Bytes of `texts` that no part has.
    dead: usize,
    bytes: usize,
    bytes_max: usize,
    /// Collections were left out for want of room.
    pub is_cut: bool,
}

/// The names of a row's own columns, in order.
type Columns = Arc<[Box<str>]>;

/// One collection: the event and the row as they go out, one behind the other in [`View::texts`].
struct Part {
    event: usize,
    row: usize,
    end: usize,
    columns: Columns,
}

impl Part {
    fn len(&self) -> usize {
        self.end - self.event
    }

    fn bytes(&self) -> usize {
        self.len() + 16 * self.columns.len() + PART
    }
}

/// What keeping a part costs beside its text.
const PART: usize = 96;
/// Texts are moved together when more than this, and more than half of all, is dead.
const DEAD_MAX: usize = 64 << 10;
/// Fields of every row, which a column of the data's own would cover.
const FIXED: [&str; 2] = ["timestamp", "collection_id"];

impl View {
    /// Holds parts of `bytes_max` bytes at most; beyond that the collections with the oldest events go.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// The latest event of its collection takes the place of the one before.
    pub fn put(&mut self, event: &Event, place: Place, before: Option<Place>) {
        if let Some(gone) = before.and_then(|before| self.rows.remove(&Reverse(before))) {
            self.forget(gone);
        }
        if event.record().is_deleted() {
            return;
        }
        let Some(fields) = event.data().and_then(fields) else { return };
        let columns = self.columns(&fields);
        let begin = self.texts.len();
        stored(&mut self.texts, event, place);
        let row = self.texts.len();
        render_row(&mut self.texts, event, place, &fields);
        let part = Part { event: begin, row, end: self.texts.len(), columns };
        self.bytes += part.bytes();
        self.rows.insert(Reverse(place), part);
        while self.bytes > self.bytes_max && self.rows.len() > 1 {
            let (_, gone) = self.rows.pop_last().expect("not empty");
            self.forget(gone);
            self.is_cut = true;
        }
    }

    /// Counts a row with the columns of these fields.
    fn columns(&mut self, fields: &[Field<'_>]) -> Columns {
        if !self.usual.iter().map(AsRef::as_ref).eq(fields.iter().map(|(name, _)| name.as_ref())) {
            self.usual = fields.iter().map(|(name, _)| name.as_ref().into()).collect();
        }
        match self.shapes.get_mut(&self.usual) {
            Some(count) => *count += 1,
            None => {
                self.shapes.insert(Arc::clone(&self.usual), 1);
            }
        }
        Arc::clone(&self.usual)
    }

    fn forget(&mut self, part: Part) {
        self.bytes -= part.bytes();
        self.dead += part.len();
        if self.dead > DEAD_MAX.max(self.texts.len() / 2) {
            self.compact();
        }
        let count = self.shapes.get_mut(&part.columns).expect("counted when it came in");
        *count -= 1;
        if *count == 0 {
            self.shapes.remove(&part.columns);
        }
    }

    /// Moves the texts together.
    fn compact(&mut self) {
        let mut texts = Vec::with_capacity(self.texts.len() - self.dead);
        for part in self.rows.values_mut() {
            let begin = texts.len();
            texts.extend_from_slice(&self.texts[part.event..part.end]);
            (part.row, part.event, part.end) = (part.row - part.event + begin, begin, texts.len());
        }
        (self.texts, self.dead) = (texts, 0);
    }

    /// Bytes it holds, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.dead
    }

    /// The whole state as one frame. The order of the fields is the one that Broker's own client survives:
    /// it takes the first `data:`, `id:` and so on wherever they are.
    pub fn frame(&self, name: &str) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes + 1024);
        write!(out, "id:{}\nretry:5000\nevent:{name}\ndata:", Uuid::now_v7()).expect("memory");
        out.extend_from_slice(br#"{"columns":[{"field":"timestamp","title":"Timestamp"},"#);
        out.extend_from_slice(br#"{"field":"collection_id","title":"collection_id"}"#);
        let names: BTreeSet<&str> = self.shapes.keys().flat_map(|c| c.iter()).map(AsRef::as_ref).collect();
        for name in names {
            out.extend_from_slice(br#",{"field":"#);
            ascii::string(&mut out, name);
            out.extend_from_slice(br#","title":"#);
            ascii::string(&mut out, &title::title(name));
            out.push(b'}');
        }
        for (list, part) in
            [("events", (|p| p.event..p.row) as fn(&Part) -> Range<usize>), ("rows", |p| p.row..p.end)]
        {
            write!(out, "],\"{list}\":[").expect("memory");
            for (i, row) in self.rows.values().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&self.texts[part(row)]);
            }
        }
        out.extend_from_slice(b"]}\n\n");
        out.into()
    }
}

/// The event as JSON in one line of ASCII.
pub fn render(event: &BrokerEvent) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data.len() + 320);
    let BrokerEvent { id, user, collection, event: name, timestamp, is_published, is_cancelled, data } =
        event;
    render_event(&mut out, *id, [user, collection, name], *timestamp, [*is_published, *is_cancelled], data);
    out
}

/// As [`render`] for a stored event, without a copy of it.
fn stored(out: &mut Vec<u8>, event: &Event, place: Place) {
    let record = event.record();
    let texts = [record.user().unwrap_or_default(), event.key().unwrap_or_default(), event.topic().as_str()];
    render_event(out, record.id(), texts, place.timestamp, [true, false], record.data().unwrap_or("null"));
}

fn render_event(
    out: &mut Vec<u8>,
    id: Uuid,
    [user, collection, event]: [&str; 3],
    timestamp: i64,
    [is_published, is_cancelled]: [bool; 2],
    data: &str,
) {
    out.extend_from_slice(br#"{"id":""#);
    out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    for (name, text) in
        [(r#"","user_id":"#, user), (r#","collection_id":"#, collection), (r#","event":"#, event)]
    {
        out.extend_from_slice(name.as_bytes());
        ascii::string(out, text);
    }
    write!(
        out,
        ",\"timestamp\":{timestamp},\"published\":{is_published},\"cancelled\":{is_cancelled},\"data\":"
    )
    .expect("memory");
    ascii::json(out, data);
    out.push(b'}');
}

fn render_row(out: &mut Vec<u8>, event: &Event, place: Place, fields: &[Field<'_>]) {
    out.push(b'{');
    for (name, value) in fields {
        ascii::string(out, name);
        out.push(b':');
        ascii::json(out, value.get());
        out.push(b',');
    }
    write!(out, "\"timestamp\":\"{}\",\"collection_id\":", place.timestamp).expect("memory");
    ascii::string(out, event.key().unwrap_or_default());
    out.push(b'}');
}

type Field<'a> = (Cow<'a, str>, &'a RawValue);

/// The fields of a JSON object that are columns, by name; `None` for other values. A name that is repeated counts
/// once, with its last value.
fn fields(data: &str) -> Option<Vec<Field<'_>>> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<Field<'de>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields: Vec<Field<'de>> = Vec::with_capacity(8);
            while let Some((Text(name), value)) = map.next_entry()? {
                if !FIXED.contains(&name.as_ref()) {
                    fields.push((name, value));
                }
            }
            // The sort keeps the order of equals, and of those the last stays.
            fields.sort_by(|(a, _), (b, _)| b.cmp(a));
            fields.reverse();
            fields.dedup_by(|(later, _), (first, _)| later == first);
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_str(data).deserialize_map(Fields).ok()
}

/// A text that is borrowed where it holds no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidings_model::{Epoch, NewEvent, Offset, RecordWriter, Timestamp, Topic, TopicName};

    fn event(offset: u64, key: &str, seconds: i64, data: &str) -> (Event, Place) {
        let topic = Topic::parse(&format!("t:{key}")).unwrap();
        let mut new = NewEvent::new(topic, data.to_owned());
        new.occurred_at = Timestamp::from_millis(seconds * 1000);
        let record = RecordWriter::encode(&new, Uuid::from_u128(offset.into()));
        let event = Event::new(TopicName::parse("t").unwrap(), Epoch(1), Offset(offset), record.into());
        (event.unwrap(), Place { timestamp: seconds, offset: Offset(offset) })
    }

    fn state(view: &View) -> Value {
        let frame = String::from_utf8(view.frame("t").to_vec()).unwrap();
        assert!(frame.is_ascii() && frame.ends_with("\n\n") && frame.starts_with("id:"));
        let lines: Vec<&str> = frame.trim_end().lines().collect();
        assert_eq!((lines.len(), lines[1], lines[2]), (4, "retry:5000", "event:t"));
        serde_json::from_str(lines[3].strip_prefix("data:").unwrap()).unwrap()
    }

    #[test]
    fn columns_are_those_of_the_rows_there_are() {
        let mut view = View::new(1 << 20);
        let (a, at_a) = event(1, "a", 5, r#"{"userId":1,"timestamp":7,"b":2,"b":3}"#);
        view.put(&a, at_a, None);
        let (b, at_b) = event(2, "b", 9, "{\"client_name\":\n\"é\"}");
        view.put(&b, at_b, None);
        let found = state(&view);
        let fields: Vec<&str> =
            found["columns"].as_array().unwrap().iter().map(|c| c["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["timestamp", "collection_id", "b", "client_name", "userId"]);
        assert_eq!(found["columns"][4]["title"], "User id");
        assert_eq!(found["rows"][0], json!({"client_name": "é", "timestamp": "9", "collection_id": "b"}));
        assert_eq!(found["rows"][1], json!({"userId": 1, "b": 3, "timestamp": "5", "collection_id": "a"}));
        assert_eq!(found["events"][1]["data"]["timestamp"], 7);

        let (later, at) = event(3, "a", 6, r#"{"c":1}"#);
        view.put(&later, at, Some(at_a));
        let found = state(&view);
        assert_eq!(found["columns"].as_array().unwrap().len(), 4);
        let (no_object, at_last) = event(4, "a", 6, "\"{}\"");
        view.put(&no_object, at_last, Some(at));
        assert_eq!(state(&view)["rows"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn beyond_its_room_the_oldest_go_and_nothing_is_counted_twice() {
        let mut view = View::new(2000);
        for n in 1..=50 {
            let (event, place) = event(n, &n.to_string(), n as i64, r#"{"x":1}"#);
            view.put(&event, place, None);
        }
        assert!(view.is_cut && view.bytes <= 2000);
        assert_eq!(state(&view)["rows"][0]["timestamp"], "50");
        let sum: usize = view.rows.values().map(Part::bytes).sum();
        let rows: usize = view.shapes.values().sum();
        assert_eq!((sum, rows, view.shapes.len()), (view.bytes, view.rows.len(), 1));
    }

    #[test]
    fn what_is_replaced_takes_no_room_for_long() {
        let mut view = View::new(1 << 20);
        let mut places = [None; 20];
        for n in 1..=10_000 {
            let key = n as usize * 7 % places.len();
            let (event, place) = event(n, &format!("k{key}"), n as i64, &format!("{{\"x\":{n}}}"));
            view.put(&event, place, places[key].replace(place));
            let live: usize = view.rows.values().map(Part::len).sum();
            assert_eq!(view.texts.len(), live + view.dead);
            assert!(view.texts.len() <= DEAD_MAX + live, "{} of {live}", view.texts.len());
        }
        let found = state(&view);
        for (i, row) in found["rows"].as_array().unwrap().iter().enumerate() {
            let n = 10_000 - i as u64;
            let key = format!("k{}", n * 7 % 20);
            assert_eq!(*row, json!({"x": n, "timestamp": n.to_string(), "collection_id": key}));
            assert_eq!(found["events"][i]["collection_id"], row["collection_id"]);
        }
        assert_eq!(found["rows"].as_array().unwrap().len(), 20);
    }
}
