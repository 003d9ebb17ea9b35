//! Events on their way in (JSON, WebSocket frames) and in their stored form.

use super::{Target, owned, refused, same};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_model::op::{Op, Verb};
use tidings_model::{Audience, Epoch, Event, NewEvent, Offset, Record, RecordWriter, Timestamp, Topic, Uuid};

const EVENTS: &[&str] = &[
    r#"{"name":"order.created","data":{"id":7,"total": 1.50,"tags":["a","\u00e9"]}}"#,
    r#"{"topic":"t","key":"9","id":"0190163d-8694-739b-aea5-966c26f8ad90","deleted":true}"#,
    r#"{"topic":"t:9","occurred_at":"2026-01-01T00:00:00Z","available_at":"2026-01-01T00:00:00.123+01:00","data":null}"#,
    r#"{"user":"u1","source":"crm","context":{"before":{}},"verified":false,"group_key":"g","prev_id":"p"}"#,
    r#"[{"data":1},{"data":"two"},{"name":"$no"}]"#,
    r#"[]"#,
    r#"{"data":"\ud800"}"#,
];

const JSON: &[&[u8]] = &[
    b"\"data\":",
    b"\"key\":\"",
    b"\"topic\":\"t:9\"",
    b"\"id\":\"",
    b"\"deleted\":true",
    b"\"context\":{}",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b",",
    b"\\u0000",
    b"\\ud83d\\ude00",
    b"1e400",
    b"\"name\":\"$x\"",
    b"\"verified\":true",
    b"\"occurred_at\":\"1970-01-01T00:00:00Z\"",
    b"\"op\":\"publish\"",
    b"\"event\":",
    b"\"events\":[",
    b"\"ref\":\"r\"",
    b"\"from\":\"latest\"",
    b"\"token\":\"x\"",
];

pub const EVENT: Target = Target { name: "event", check: event, seeds: || owned(EVENTS), dictionary: JSON };

fn event(input: &[u8]) -> Result<String, String> {
    let mut outcomes = Vec::new();
    for address in ["t", "t:9"] {
        let topic = Topic::parse(address).map_err(|e| e.to_string())?;
        let one = NewEvent::parse(input, &topic);
        same("a second parse", NewEvent::parse(input, &topic), one.clone())?;
        outcomes.push(match one {
            Ok(event) => stored(&event)?,
            Err(error) => refused(error.code(), &error)?,
        });
        outcomes.push(match NewEvent::parse_array(input, &topic) {
            Ok(events) => {
                events.iter().try_for_each(|event| stored(event).map(drop))?;
                format!("{} events", events.len().min(4))
            }
            Err(error) => refused(error.code(), &error)?,
        });
    }
    match NewEvent::parse_addressed(input) {
        Ok(event) => drop(stored(&event)?),
        Err(error) => drop(refused(error.code(), &error)?),
    }
    Ok(outcomes.join(" "))
}

/// What `Event` prints, as far as it must agree with what came in.
#[derive(Deserialize)]
struct Printed<'a> {
    topic: String,
    key: Option<String>,
    offset: u64,
    name: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

/// An accepted event keeps its rules, and every field survives being stored and printed.
fn stored(event: &NewEvent) -> Result<String, String> {
    event.check().map_err(|e| format!("accepted against the rules: {e}"))?;
    let id = event.id.unwrap_or(Uuid::from_u128(7));
    let mut bytes = RecordWriter::encode(event, id);
    RecordWriter::stamp(&mut bytes, Timestamp::default());
    let record =
        Record::parse(Bytes::from(bytes.clone())).map_err(|e| format!("stored and unreadable: {e}"))?;
    let key = event.topic.key.as_ref().map(|k| k.as_str());
    same("id", record.id(), id)?;
    same("key", record.key(), key)?;
    same("name", record.name(), event.name.as_deref().filter(|n| !n.is_empty()))?;
    same("occurred_at", record.occurred_at(), event.occurred_at)?;
    same("available_at", record.available_at(), event.available_at)?;
    same("deleted", record.is_deleted(), event.deleted)?;
    same("data", record.data().map(str::as_bytes), event.data.as_deref())?;
    same("context", record.context().map(str::as_bytes), event.context.as_deref())?;
    let stored = Event::new(event.topic.name.clone(), Epoch(1), Offset(3), bytes.into());
    let json = stored.map_err(|e| e.to_string())?.to_json();
    let printed: Printed<'_> = serde_json::from_str(&json).map_err(|e| format!("{e}: {json}"))?;
    same("printed topic", printed.topic, event.topic.to_string())?;
    same("printed key", printed.key.as_deref(), key)?;
    same("printed offset", printed.offset, 3)?;
    same("printed name", printed.name.as_deref(), record.name())?;
    // A `null` is printed as such, and reads back as nothing.
    let text = |raw: Option<&RawValue>| raw.map_or("null".to_owned(), |raw| raw.get().to_owned());
    same("printed data", text(printed.data).as_str(), record.data().unwrap_or("null"))?;
    same("printed context", text(printed.context).as_str(), record.context().unwrap_or("null"))?;
    Ok(format!("event {} {} {}", key.is_some(), event.data.is_some(), event.context.is_some()))
}

pub const RECORD: Target = Target {
    name: "record",
    check: record,
    seeds: || {
        let topic = Topic::parse("t").expect("a topic");
        let events = EVENTS.iter().filter_map(|json| NewEvent::parse(json.as_bytes(), &topic).ok());
        events.map(|event| RecordWriter::encode(&event, Uuid::from_u128(7))).collect()
    },
    dictionary: &[
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x01\x00\x00\x00",
        b"\xff\xff\xff\x7f",
        b"\x02ab",
        b"{}",
    ],
};

fn record(input: &[u8]) -> Result<String, String> {
    let record = match Record::parse(Bytes::copy_from_slice(input)) {
        Ok(record) => record,
        Err(error) => return Ok(error.to_string()),
    };
    let peeked = RecordWriter::peek(input);
    same("a peek", peeked, (record.id(), record.id_given(), record.key(), record.is_deleted()))?;
    same("the bytes", record.as_bytes().as_ref(), input)?;
    let (name, user, source) = (record.name(), record.user(), record.source());
    let (context, attributes, data) = (record.context(), record.attributes(), record.data());
    let times = (record.occurred_at(), record.available_at(), record.published_at());
    same("the printed time", Timestamp::parse(&times.2.to_string()), Ok(times.2))?;
    let topic = Topic::parse("t").map_err(|e| e.to_string())?;
    let event = Event::new(topic.name, Epoch(1), Offset(1), Bytes::copy_from_slice(input));
    let event = event.map_err(|e| format!("a record and yet no event: {e}"))?;
    if event.to_json().is_empty() {
        return Err("nothing is printed".into());
    }
    let audience = match event.audience() {
        Audience::Everyone => "everyone".to_owned(),
        Audience::Nobody => "nobody".to_owned(),
        Audience::Users(users) => {
            let bytes: usize = users.iter().map(<[u8]>::len).sum();
            if bytes > input.len() {
                return Err(format!("{bytes} bytes of users in {} bytes", input.len()));
            }
            format!("users {}", users.contains("u1"))
        }
    };
    let texts = [name, user, source, context, attributes, data].map(|text| text.is_some());
    Ok(format!("{audience} {texts:?} {} {}", times.0.is_some(), times.1.is_some()))
}

pub const FRAME: Target = Target {
    name: "frame",
    check: frame,
    seeds: || {
        owned(&[
            r#"{"op":"subscribe","ref":"1","topic":"t:9","from":"earliest","name":"order.*"}"#,
            r#"{"op":"publish","topic":"t","event":{"data":{"a":1},"key":"k"}}"#,
            r#"{"op":"publish","ref":"2","topic":"t","events":[{"data":1},{"data":2}]}"#,
            r#"{"op":"unsubscribe","topic":"t"}"#,
            r#"{"op":"auth","token":"a.b.c"}"#,
            r#"{"op":"ping","ref":"p"}"#,
            r#"{"op":"dance"}"#,
        ])
    },
    dictionary: JSON,
};

fn frame(input: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(input);
    let parsed = Op::parse(&text);
    same("a second parse", Op::parse(&text), parsed.clone())?;
    let reference = match &parsed {
        Ok(op) => &op.reference,
        Err(error) => &error.reference,
    };
    if reference.as_ref().is_some_and(|r| r.len() > 64) {
        return Err("a reference above its bound".into());
    }
    match parsed {
        Err(error) => refused(error.why.code(), &error),
        Ok(Op { verb: Verb::Publish { events }, .. }) => {
            events.iter().try_for_each(|event| stored(event).map(drop))?;
            Ok(format!("publish {}", events.len().min(4)))
        }
        Ok(Op { verb: Verb::Subscribe { topic, filter, .. }, .. }) => {
            same("the printed topic", Topic::parse(&topic.to_string()), Ok(topic))?;
            Ok(format!("subscribe {}", filter.is_empty()))
        }
        Ok(op) => Ok(format!("{:?}", std::mem::discriminant(&op.verb))),
    }
}
