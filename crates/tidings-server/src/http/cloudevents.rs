//! CloudEvents 1.0 over HTTP: structured, batched and binary.
//!
//! Owns: how its attributes become an event's fields. `id` is the idempotency key: as it is where it is a
//! UUID, else a UUID v5 of source and id, with the original in `context.ce_id`. `type` is the name, `source`
//! the source, `subject` the key where the path has none, `time` is `occurred_at`, the extension `availableat`
//! is `available_at`; the rest goes to `context`.
//! Data that is not JSON is kept as a JSON string, bytes as base64 with `context.data_encoding`.

use super::publish;
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tidings_engine::Error;
use tidings_model::{EventError, Key, NewEvent, Timestamp, Topic, Uuid};

/// One event as a JSON object.
pub fn structured(body: &[u8], topic: &Topic) -> Result<NewEvent, Refusal> {
    let text = EventError::text(body)?;
    Ok(object(text, topic)?)
}

/// An array of events.
pub fn batch(body: &[u8], topic: &Topic, max: usize) -> Result<Vec<NewEvent>, Refusal> {
    let parse = |(index, json): (usize, &RawValue)| {
        object(json.get(), topic).map_err(|source| Refusal::from(Error::Event { index, source }))
    };
    publish::array(body, max)?.into_iter().enumerate().map(parse).collect()
}

/// Attributes in `ce-` headers, data in the body.
pub fn binary(headers: &HeaderMap, body: Bytes, topic: &Topic) -> Result<NewEvent, Refusal> {
    let mut attributes = Attributes::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = std::str::from_utf8(value.as_bytes()).ok();
        let text = text.and_then(|text| percent_decode_str(text).decode_utf8().ok());
        let text = text.ok_or_else(|| invalid(format!("header `ce-{name}` is not percent-encoded UTF-8")))?;
        attributes.set(name, Value::String(text.into_owned()))?;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if let Some(kind) = kind {
        attributes.set("datacontenttype", Value::String(kind.to_owned()))?;
    }
    let data = match body {
        body if body.is_empty() => None,
        body if is_json(kind) => {
            let json: &RawValue = serde_json::from_slice(&body).map_err(|e| EventError::from_json(&e))?;
            Some(Bytes::copy_from_slice(json.get().as_bytes()))
        }
        body => Some(match std::str::from_utf8(&body).ok().filter(|_| is_text(kind)) {
            Some(text) => Value::from(text).to_string().into(),
            None => attributes.encoded(&STANDARD.encode(&body)),
        }),
    };
    Ok(attributes.into_event(data, topic)?)
}

fn object(json: &str, topic: &Topic) -> Result<NewEvent, EventError> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = EventError::read(json)?;
    let mut attributes = Attributes::default();
    let mut data = None;
    for (name, value) in members {
        let has_data = data.is_some();
        match &*name {
            "data" | "data_base64" if has_data => {
                return Err(invalid("an event has either `data` or `data_base64`"));
            }
            "data" => data = Some(Bytes::copy_from_slice(value.get().as_bytes())),
            "data_base64" => {
                let text: Cow<'_, str> = serde_json::from_str(value.get())
                    .map_err(|_| invalid("`data_base64` is not a string"))?;
                STANDARD.decode(&*text).map_err(|_| invalid("`data_base64` is not base64"))?;
                data = Some(attributes.encoded(&text));
            }
            name => {
                let value = EventError::read(value.get())?;
                attributes.set(name, value)?;
            }
        }
    }
    attributes.into_event(data, topic)
}

#[derive(Default)]
struct Attributes {
    has_version: bool,
    id: Option<String>,
    source: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    time: Option<Timestamp>,
    available_at: Option<Timestamp>,
    context: Map<String, Value>,
}

impl Attributes {
    /// Takes one attribute. `null` is as good as absent.
    fn set(&mut self, name: &str, value: Value) -> Result<(), EventError> {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !is_name {
            let name: String = name.chars().take(40).collect();
            return Err(invalid(format!(
                "{name:?} is no CloudEvents attribute: small letters and digits only"
            )));
        }
        let text = match value {
            Value::Null => return Ok(()),
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) if !OURS.contains(&name) => {
                self.context.insert(name.to_owned(), value);
                return Ok(());
            }
            _ => return Err(invalid(format!("attribute `{name}` has a value of the wrong type"))),
        };
        match name {
            "specversion" if text == "1.0" => self.has_version = true,
            "specversion" => return Err(invalid("`specversion` is not \"1.0\"")),
            "id" => self.id = Some(text),
            "source" => self.source = Some(text),
            "type" => self.kind = Some(text),
            "subject" => self.subject = Some(text),
            "time" => self.time = Some(timestamp(name, &text)?),
            "availableat" => self.available_at = Some(timestamp(name, &text)?),
            _ => drop(self.context.insert(name.to_owned(), text.into())),
        }
        Ok(())
    }

    /// Bytes that are no JSON, as the JSON text that stands for them.
    fn encoded(&mut self, base64: &str) -> Bytes {
        self.context.insert("data_encoding".into(), "base64".into());
        Value::from(base64).to_string().into()
    }

    fn into_event(mut self, data: Option<Bytes>, topic: &Topic) -> Result<NewEvent, EventError> {
        let required = |value: Option<String>, name: &str| {
            value.filter(|v| !v.is_empty()).ok_or_else(|| invalid(format!("attribute `{name}` is missing")))
        };
        if !self.has_version {
            return Err(invalid("attribute `specversion` is missing"));
        }
        let (id, source) = (required(self.id, "id")?, required(self.source, "source")?);
        let kind = required(self.kind, "type")?;
        let uuid = id.parse().unwrap_or_else(|_| {
            let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
            self.context.insert("ce_id".into(), id.as_str().into());
            Uuid::new_v5(&space, id.as_bytes())
        });
        let mut topic = topic.clone();
        match (self.subject, &topic.key) {
            (Some(subject), None) => topic.key = Some(Key::parse(&subject)?),
            (Some(subject), Some(key)) if subject != key.as_str() => {
                self.context.insert("subject".into(), subject.into());
            }
            _ => {}
        }
        let context = (!self.context.is_empty()).then(|| Value::Object(self.context).to_string().into());
        let event = NewEvent {
            id: Some(uuid),
            name: Some(kind.into()),
            source: Some(source.into()),
            occurred_at: self.time,
            available_at: self.available_at,
            context,
            ..NewEvent::new(topic, data.clone().unwrap_or_default())
        };
        let event = NewEvent { data, ..event };
        event.check()?;
        Ok(event)
    }
}

/// Attributes that have a field of their own, all texts.
const OURS: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "availableat",
    "datacontenttype",
    "dataschema",
];

fn timestamp(name: &str, text: &str) -> Result<Timestamp, EventError> {
    Timestamp::parse(text).map_err(|e| invalid(format!("`{name}` is {e}")))
}

fn invalid(why: impl Into<String>) -> EventError {
    EventError::Type(why.into())
}

/// Whether data of this Content-Type is JSON; it is where nothing is said.
fn is_json(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    })
}

fn is_text(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| kind.trim().to_ascii_lowercase().starts_with("text/"))
}
