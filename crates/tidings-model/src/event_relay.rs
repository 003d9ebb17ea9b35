//! Events as JSON in EventRelay's words, in and out.
//!
//! Owns: both spellings of its names (`user_key` and `userId`), what it demands of an event (a name, and data that is
//! an object, also written as text), and in which words a mistake is told. Never: knows over what they travel.

use crate::{Attributes, Cursor, Event, EventError, NewEvent, Timestamp, Topic};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write as _;

#[derive(Deserialize)]
#[serde(expecting = "an event, which is a JSON object")]
struct Wire<'a> {
    #[serde(borrow, alias = "eventId")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "userId")]
    user_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    anonymous_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    group_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reference_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    trace_key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prev_id: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "eventOccurredAt")]
    occurred_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    available_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    data_schema: Option<&'a RawValue>,
}

/// One event to be published to `topic`, or everything that is wrong with it.
pub fn parse(json: &str, topic: &Topic, now: Timestamp) -> Result<NewEvent, Vec<String>> {
    let wire: Wire<'_> = EventError::read(json).map_err(|error| vec![error.to_string()])?;
    let mut errors = Vec::new();
    let text = |text: Option<Cow<'_, str>>| text.filter(|text| !text.is_empty()).map(Box::<str>::from);
    let name = text(wire.name);
    if name.is_none() {
        errors.push("Name can't be blank".to_owned());
    }
    let data = document(wire.data, "Data", &mut errors);
    if data.is_none() && errors.iter().all(|error| !error.starts_with("Data")) {
        errors.push("Data can't be blank".to_owned());
    }
    let id = text(wire.id).and_then(|id| {
        let id = id.parse().map_err(|_| errors.push("Id is no UUID".to_owned()));
        id.ok()
    });
    let mut time = |value: Option<Cow<'_, str>>, field: &str| {
        let value = value.filter(|text| !text.is_empty())?;
        Timestamp::parse(&value).map_err(|error| errors.push(format!("{field} is {error}"))).ok()
    };
    let (occurred_at, available_at) =
        (time(wire.occurred_at, "Occurred at"), time(wire.available_at, "Available at"));
    let context = document(wire.context, "Context", &mut errors);
    let data_schema = document(wire.data_schema, "Data schema", &mut errors);
    let schema = data_schema.map(|json| String::from_utf8_lossy(&json).into_owned().into());
    let new = NewEvent {
        id,
        name,
        source: text(wire.source),
        user: text(wire.user_key),
        occurred_at: occurred_at.or(Some(now)),
        available_at,
        data,
        context,
        attributes: Attributes {
            group_key: text(wire.group_key),
            reference_key: text(wire.reference_key),
            trace_key: text(wire.trace_key),
            anonymous_key: text(wire.anonymous_key),
            data_schema: schema,
            prev_id: text(wire.prev_id),
            verified: Some(true),
        },
        ..NewEvent::new(topic.clone(), Bytes::new())
    };
    if let Err(error) = new.check() {
        errors.push(error.to_string());
    }
    if errors.is_empty() { Ok(new) } else { Err(errors) }
}

/// An object as it was sent, or as the text that holds it.
fn document(raw: Option<&RawValue>, field: &str, errors: &mut Vec<String>) -> Option<Bytes> {
    let mut json = Cow::Borrowed(raw?.get());
    if json.starts_with('"') {
        let text: String = serde_json::from_str(&json).expect("a JSON text");
        if text.trim().is_empty() {
            return None;
        }
        match serde_json::from_str::<&RawValue>(&text) {
            Ok(inner) => json = Cow::Owned(inner.get().to_owned()),
            Err(error) => {
                errors.push(format!("{field} is {}", EventError::from_json(&error)));
                return None;
            }
        }
    }
    if json.starts_with('{') {
        return Some(Bytes::from(json.into_owned()));
    }
    errors.push(format!("{field} must be a JSON object"));
    None
}

/// A call to publish, its events still as they were sent.
#[derive(Debug)]
pub struct Publish<'a> {
    pub topic: Topic,
    pub durable: bool,
    pub events: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PublishWire<'a> {
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    durable: Option<serde_json::Value>,
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

impl<'a> Publish<'a> {
    /// `durable` is true where it is left out.
    pub fn parse(json: &'a str) -> Result<Self, EventError> {
        let wire: PublishWire<'a> = EventError::read(json)?;
        let missing = |field: &str| EventError::Type(format!("missing field `{field}`"));
        let topic = wire.topic.filter(|topic| !topic.is_empty()).ok_or_else(|| missing("topic"))?;
        Ok(Self {
            topic: Topic::parse(&topic)?,
            durable: wire.durable.is_none_or(|durable| is_yes(&durable)),
            events: wire.events.ok_or_else(|| missing("events"))?,
        })
    }
}

/// What EventRelay's clients write for true.
fn is_yes(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Bool(is) => *is,
        serde_json::Value::Number(n) => n.as_f64() == Some(1.0),
        serde_json::Value::String(text) => {
            matches!(text.trim().to_ascii_lowercase().as_str(), "true" | "t" | "yes" | "y" | "on" | "1")
        }
        _ => false,
    }
}

/// Appends an event as EventRelay's clients get it: every name, `null` where there is nothing. With a `cursor` they
/// can go on behind it.
pub fn write(event: &Event, cursor: Option<&Cursor>, out: &mut Vec<u8>) {
    let record = event.record();
    let attributes: Attributes =
        record.attributes().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let topic = match event.key() {
        None => Cow::Borrowed(event.topic().as_str()),
        Some(key) => Cow::Owned(format!("{}:{key}", event.topic())),
    };
    let published_at = record.published_at();
    let occurred_at = record.occurred_at().unwrap_or(published_at);
    let available_at = record.available_at().unwrap_or(published_at);
    write!(out, "{{\"id\":\"{0}\",\"eventId\":\"{0}\"", event.id()).expect("memory");
    for (name, text) in [
        ("topic", Some(&*topic)),
        ("topic_name", Some(event.topic().as_str())),
        ("topic_identifier", event.key()),
        ("name", event.name()),
        ("source", record.source()),
        ("user_key", record.user()),
        ("userId", record.user()),
        ("anonymous_key", attributes.anonymous_key.as_deref()),
        ("group_key", attributes.group_key.as_deref()),
        ("reference_key", attributes.reference_key.as_deref()),
        ("trace_key", attributes.trace_key.as_deref()),
        ("prev_id", attributes.prev_id.as_deref()),
    ] {
        write!(out, ",\"{name}\":").expect("memory");
        serde_json::to_writer(&mut *out, &text).expect("a text into memory");
    }
    write!(
        out,
        ",\"occurred_at\":\"{occurred_at}\",\"eventOccurredAt\":\"{occurred_at}\",\"available_at\":\"{available_at}\""
    )
    .expect("memory");
    if event.is_passing() {
        out.extend_from_slice(b",\"offset\":null,\"durable\":false");
    } else {
        write!(out, ",\"offset\":{},\"durable\":true", event.offset()).expect("memory");
    }
    let schema = attributes.data_schema.as_deref();
    let schema = schema.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    write!(
        out,
        ",\"verified\":{},\"errors\":[],\"data\":{},\"context\":{},\"data_schema\":{}",
        attributes.verified.unwrap_or(true),
        event.data().unwrap_or("null"),
        record.context().unwrap_or("{}"),
        schema.unwrap_or("null"),
    )
    .expect("memory");
    if let Some(cursor) = cursor {
        write!(out, ",\"cursor\":\"{cursor}\"").expect("memory");
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Offset, Position, RecordWriter, Uuid};
    use serde_json::{Value, json};

    fn topic() -> Topic {
        Topic::parse("users:123").unwrap()
    }

    fn read(json: Value) -> Result<NewEvent, Vec<String>> {
        parse(&json.to_string(), &topic(), Timestamp::from_millis(5).unwrap())
    }

    #[test]
    fn both_spellings_are_read_and_data_may_be_text() {
        let id = "04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c";
        let seed = read(json!({
            "eventId": id, "name": "user_login", "source": "websocket", "userId": "123", "context": {},
            "eventOccurredAt": "2020-01-01T00:00:00.000Z", "data": {"email": "a@example.com"},
        }));
        let other = read(json!({
            "id": id, "name": "user_login", "source": "websocket", "user_key": "123", "context": "{}",
            "occurred_at": "2020-01-01T00:00:00.000Z", "data": "{\"email\":\"a@example.com\"}",
        }));
        assert_eq!(seed, other);
        let event = seed.unwrap();
        assert_eq!(event.data.as_deref(), Some(&br#"{"email":"a@example.com"}"#[..]));
        assert_eq!(event.occurred_at.unwrap().to_string(), "2020-01-01T00:00:00.000Z");
        assert_eq!(read(json!({"name": "n", "data": {}})).unwrap().occurred_at.unwrap().as_millis(), 5);
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let errors = read(json!({
            "data": [], "occurred_at": "nonsense", "id": "7", "context": "x", "data_schema": 1,
        }));
        assert_eq!(errors.unwrap_err().len(), 6);
        assert_eq!(read(json!({"name": "n"})).unwrap_err(), ["Data can't be blank"]);
        assert_eq!(read(json!({"name": "$n", "data": ""})).unwrap_err().len(), 2);
        assert_eq!(read(json!([])).unwrap_err().len(), 1);
    }

    #[test]
    fn every_name_goes_out_again() {
        let sent = json!({
            "name": "n", "source": "s", "user_key": "u", "anonymous_key": "a", "group_key": "g",
            "reference_key": "r", "trace_key": "t", "prev_id": "p", "data": {"x": 1}, "context": {"c": "1"},
            "data_schema": {"type": "object"}, "occurred_at": "2020-01-01T00:00:00.000Z",
        });
        let new = read(sent.clone()).unwrap();
        let record = RecordWriter::encode(&new, Uuid::from_u128(1));
        let position = Position { topic: topic().name, epoch: Epoch(1), offset: Offset(4), in_state: false };
        let event = Event::new(topic().name, Epoch(1), Offset(4), record.clone().into()).unwrap();
        let mut out = Vec::new();
        write(&event, Some(&Cursor::of(position.clone())), &mut out);
        let got: Value = serde_json::from_slice(&out).unwrap();
        for (name, value) in sent.as_object().unwrap() {
            assert_eq!(&got[name], value, "{name}");
        }
        assert_eq!(got["cursor"], Cursor::of(position).to_string());
        assert_eq!((&got["topic_name"], &got["topic_identifier"]), (&json!("users"), &json!("123")));
        assert_eq!((&got["offset"], &got["verified"], &got["errors"]), (&json!(4), &json!(true), &json!([])));
        let mut passing = Vec::new();
        write(&Event::passing(topic().name, record.into()).unwrap(), None, &mut passing);
        let got: Value = serde_json::from_slice(&passing).unwrap();
        assert_eq!((&got["offset"], got.get("cursor"), &got["data"]["x"]), (&Value::Null, None, &json!(1)));
    }

    #[test]
    fn a_call_names_its_topic_and_says_whether_to_store() {
        let read =
            |json: &str| Publish::parse(json).map(|p| (p.topic.to_string(), p.durable, p.events.len()));
        let (t, two) = ("users".to_owned(), r#"[{},{"name":1}]"#);
        for (durable, is) in
            [("true", true), ("\"yes\"", true), ("1", true), ("false", false), ("\"no\"", false)]
        {
            let json = format!(r#"{{"topic":"users","durable":{durable},"events":{two}}}"#);
            assert_eq!(read(&json).unwrap(), (t.clone(), is, 2));
        }
        assert_eq!(read(r#"{"topic":"users","events":[]}"#).unwrap(), (t, true, 0));
        for bad in [r#"{"events":[]}"#, r#"{"topic":"","events":[]}"#, r#"{"topic":"t"}"#, "[]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
