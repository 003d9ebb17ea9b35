//! An event on its way in: parsed and checked, not yet stored.

use crate::{Code, Key, Timestamp, Topic, TopicError, TopicName, Uuid};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a client or a source wants to be kept. `data` and `context` are JSON texts, byte-exact as sent.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub topic: Topic,
    /// Given by the client it is the idempotency key; otherwise one is made.
    pub id: Option<Uuid>,
    pub name: Option<Box<str>>,
    pub source: Option<Box<str>>,
    pub user: Option<Box<str>>,
    pub occurred_at: Option<Timestamp>,
    /// In the future: the event is scheduled and appears then.
    pub available_at: Option<Timestamp>,
    pub data: Option<Bytes>,
    pub context: Option<Bytes>,
    pub attributes: Attributes,
    /// Takes the key out of State.
    pub deleted: bool,
}

/// Optional attributes that travel with an event and mean nothing to the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_key: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_schema: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

impl Attributes {
    /// Bytes of their values.
    fn bytes(&self) -> usize {
        let Self { group_key, reference_key, trace_key, anonymous_key, data_schema, prev_id, verified: _ } =
            self;
        let texts = [group_key, reference_key, trace_key, anonymous_key, data_schema, prev_id];
        texts.into_iter().flatten().map(|text| text.len()).sum()
    }
}

/// Why something is no event. [`EventError::code`] is the stable word for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error("not valid JSON: {0}")]
    Json(String),
    #[error("not valid UTF-8 after byte {0}")]
    Utf8(usize),
    #[error("{0}")]
    FieldUnknown(String),
    #[error("{0}")]
    Type(String),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("the event is for {in_event}, the request for {in_request}")]
    TopicDiffers { in_event: Topic, in_request: Topic },
    #[error("`{field}` has at most 255 bytes and no control characters")]
    Text { field: &'static str },
    #[error("an event name must not begin with `$`")]
    NameReserved,
    #[error("`context` must be a JSON object")]
    Context,
    #[error("a deletion needs a key")]
    DeletionWithoutKey,
}

impl EventError {
    const TEXT_MAX: usize = 300;

    pub fn code(&self) -> Code {
        match self {
            Self::Json(_) => Code::JsonInvalid,
            Self::Utf8(_) => Code::Utf8Invalid,
            Self::FieldUnknown(_) => Code::FieldUnknown,
            Self::Topic(_) => Code::TopicInvalid,
            _ => Code::EventInvalid,
        }
    }

    /// What was sent, as a text.
    ///
    /// # Errors
    /// When it is none, with the place where it ceases to be.
    pub fn text(bytes: &[u8]) -> Result<&str, Self> {
        std::str::from_utf8(bytes).map_err(|e| Self::Utf8(e.valid_up_to()))
    }

    /// Reads what was sent; a value of another type than its field's is refused with the field's name.
    ///
    /// # Errors
    /// As [`EventError::from_json`] sorts them.
    pub fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Self> {
        serde_json::from_str(json).map_err(|error| {
            let Self::Type(text) = Self::from_json(&error) else { return Self::from_json(&error) };
            // Only now, as keeping track of where it reads would slow every event down.
            match serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json)) {
                Err(error) if error.path().iter().len() > 0 => {
                    Self::Type(Self::cut(format!("`{}`: {text}", error.path())))
                }
                _ => Self::Type(text),
            }
        })
    }

    /// Sorts a parser's complaint by what the sender can do about it.
    pub fn from_json(error: &serde_json::Error) -> Self {
        let text = Self::cut(error.to_string());
        match error.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => {
                Self::FieldUnknown(text)
            }
            serde_json::error::Category::Data => Self::Type(text),
            _ => Self::Json(text),
        }
    }

    /// A parser repeats what it did not expect, however long; an answer does not.
    fn cut(mut text: String) -> String {
        if text.len() > Self::TEXT_MAX {
            text.truncate(text.floor_char_boundary(Self::TEXT_MAX));
            text.push_str("...");
        }
        text
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an event, which is a JSON object")]
struct Wire<'a> {
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    id: Option<Uuid>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    occurred_at: Option<Timestamp>,
    available_at: Option<Timestamp>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(default)]
    deleted: bool,
    group_key: Option<Box<str>>,
    reference_key: Option<Box<str>>,
    trace_key: Option<Box<str>>,
    anonymous_key: Option<Box<str>>,
    data_schema: Option<Box<str>>,
    prev_id: Option<Box<str>>,
    verified: Option<bool>,
}

/// `null` is a value like any other; only a field that is not there is absent.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(d: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(d).map(Some)
}

impl NewEvent {
    /// An event with nothing but its address and data.
    pub fn new(topic: Topic, data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()), ..Self::empty(topic) }
    }

    #[cfg(test)]
    pub(crate) fn empty_for_tests(topic: Topic) -> Self {
        Self::empty(topic)
    }

    fn empty(topic: Topic) -> Self {
        Self {
            topic,
            id: None,
            name: None,
            source: None,
            user: None,
            occurred_at: None,
            available_at: None,
            data: None,
            context: None,
            attributes: Attributes::default(),
            deleted: false,
        }
    }

    /// An event as JSON, sent to `topic`; `topic` and `key` within it may only agree with that.
    pub fn parse(json: &[u8], topic: &Topic) -> Result<Self, EventError> {
        let text = EventError::text(json)?;
        Self::parse_str(text, Some(topic))
    }

    /// An event as JSON that names its own topic.
    pub fn parse_addressed(json: &[u8]) -> Result<Self, EventError> {
        let text = EventError::text(json)?;
        Self::parse_str(text, None)
    }

    /// A JSON array of events, all sent to `topic`.
    pub fn parse_array(json: &[u8], topic: &Topic) -> Result<Vec<Self>, EventError> {
        let text = EventError::text(json)?;
        let parts: Vec<&RawValue> = EventError::read(text)?;
        parts.into_iter().map(|part| Self::parse_str(part.get(), Some(topic))).collect()
    }

    fn parse_str(text: &str, topic: Option<&Topic>) -> Result<Self, EventError> {
        let wire: Wire<'_> = EventError::read(text)?;
        let event = Self {
            topic: address(wire.topic.as_deref(), wire.key.as_deref(), topic)?,
            id: wire.id,
            name: wire.name.map(Into::into),
            source: wire.source.map(Into::into),
            user: wire.user.map(Into::into),
            occurred_at: wire.occurred_at,
            available_at: wire.available_at,
            data: wire.data.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes())),
            context: wire.context.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes())),
            attributes: Attributes {
                group_key: wire.group_key,
                reference_key: wire.reference_key,
                trace_key: wire.trace_key,
                anonymous_key: wire.anonymous_key,
                data_schema: wire.data_schema,
                prev_id: wire.prev_id,
                verified: wire.verified,
            },
            deleted: wire.deleted,
        };
        event.check()?;
        Ok(event)
    }

    /// The address that an event's own words and its request's give together; at least one must name a topic.
    pub fn address(
        named: Option<&str>,
        key: Option<&str>,
        request: Option<&Topic>,
    ) -> Result<Topic, EventError> {
        address(named, key, request)
    }

    /// The rules that hold for every event, whichever door it came through.
    pub fn check(&self) -> Result<(), EventError> {
        if self.name.as_ref().is_some_and(|n| n.starts_with('$')) {
            return Err(EventError::NameReserved);
        }
        for (field, value) in [("name", &self.name), ("source", &self.source), ("user", &self.user)] {
            if value.as_ref().is_some_and(|v| v.len() > 255 || v.chars().any(char::is_control)) {
                return Err(EventError::Text { field });
            }
        }
        if self.context.as_ref().is_some_and(|c| c.first() != Some(&b'{')) {
            return Err(EventError::Context);
        }
        if self.deleted && self.topic.key.is_none() {
            return Err(EventError::DeletionWithoutKey);
        }
        Ok(())
    }

    /// Bytes that count against the limit for one event.
    pub fn payload_bytes(&self) -> usize {
        let json = [&self.data, &self.context].into_iter().flatten().map(Bytes::len).sum::<usize>();
        json + self.attributes.bytes()
    }
}

/// Joins the address of the request with the one written in the event.
fn address(named: Option<&str>, key: Option<&str>, request: Option<&Topic>) -> Result<Topic, EventError> {
    let mut topic = match (named, request) {
        (None, Some(request)) => request.clone(),
        (None, None) => return Err(EventError::Type("missing field `topic`".into())),
        // The usual case needs no second parse: the event repeats the name of the request.
        (Some(named), Some(request)) if named == request.name.as_str() => request.clone(),
        (Some(named), request) => {
            let own = Topic::parse(named)?;
            if let Some(request) = request
                && (own.name != request.name || (request.key.is_some() && own.key != request.key))
            {
                return Err(EventError::TopicDiffers { in_event: own, in_request: request.clone() });
            }
            own
        }
    };
    if let Some(key) = key {
        match &topic.key {
            None => topic.key = Some(Key::parse(key)?),
            Some(own) if own.as_str() == key => {}
            Some(_) => {
                let in_event = Topic { name: TopicName::clone(&topic.name), key: Some(Key::parse(key)?) };
                return Err(EventError::TopicDiffers { in_event, in_request: topic });
            }
        }
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<NewEvent, EventError> {
        NewEvent::parse(json.as_bytes(), &Topic::parse("t").unwrap())
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        let event = parse(r#"{"data": {"b" : 1.0, "a":[ 1e2 ]} ,"key":"k"}"#).unwrap();
        assert_eq!(event.data.unwrap(), r#"{"b" : 1.0, "a":[ 1e2 ]}"#);
        assert_eq!(event.topic.to_string(), "t:k");
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_field() {
        let said = parse(r#"{"data":1,"key":5}"#).unwrap_err().to_string();
        assert_eq!(said, "`key`: invalid type: integer `5`, expected a string at line 1 column 17");
        let said = parse("7").unwrap_err().to_string();
        assert!(said.starts_with("invalid type: integer `7`, expected an event"), "{said}");
        let nested = format!(r#"{{"a":{{"{}":[1,"x"]}}}}"#, "k".repeat(400));
        type Nested = std::collections::BTreeMap<String, std::collections::BTreeMap<String, Vec<u8>>>;
        let said = EventError::read::<Nested>(&nested).unwrap_err().to_string();
        assert!(said.starts_with("`a.kkk") && said.len() < 310, "{said}");
    }

    #[test]
    fn each_mistake_has_its_code() {
        for (json, code) in [
            ("{", Code::JsonInvalid),
            (r#"{"data":1}x"#, Code::JsonInvalid),
            (r#"{"nane":"x"}"#, Code::FieldUnknown),
            (r#"{"name":7}"#, Code::EventInvalid),
            (r#"[]"#, Code::EventInvalid),
            (r#"{"name":"$gap"}"#, Code::EventInvalid),
            (r#"{"id":"7"}"#, Code::EventInvalid),
            (r#"{"occurred_at":"today"}"#, Code::EventInvalid),
            (r#"{"context":[]}"#, Code::EventInvalid),
            (r#"{"deleted":true}"#, Code::EventInvalid),
            (r#"{"topic":"u"}"#, Code::EventInvalid),
            (r#"{"key":""}"#, Code::TopicInvalid),
        ] {
            assert_eq!(parse(json).unwrap_err().code(), code, "{json}");
        }
        let latin1 = NewEvent::parse(b"{\"name\":\"\xe9\"}", &Topic::parse("t").unwrap());
        assert_eq!(latin1.unwrap_err().code(), Code::Utf8Invalid);
    }

    #[test]
    fn attributes_count_against_the_limit_of_an_event() {
        let event = parse(r#"{"data":123,"context":{},"group_key":"ab","data_schema":"cde"}"#).unwrap();
        assert_eq!(event.payload_bytes(), 10);
    }

    #[test]
    fn a_refusal_is_short_however_long_the_mistake() {
        let long = "é".repeat(5000);
        for json in [format!("{{\"{long}\":1}}"), format!("\"{long}\"")] {
            assert!(parse(&json).unwrap_err().to_string().len() < 400);
        }
    }

    #[test]
    fn an_event_may_repeat_its_address_and_narrow_it() {
        assert_eq!(parse(r#"{"topic":"t:9"}"#).unwrap().topic.to_string(), "t:9");
        let keyed = Topic::parse("t:9").unwrap();
        assert!(NewEvent::parse(br#"{"key":"9","topic":"t"}"#, &keyed).is_ok());
        assert!(NewEvent::parse(br#"{"key":"8"}"#, &keyed).is_err());
    }
}
