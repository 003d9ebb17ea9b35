//! Frames of Phoenix channels, in both of their versions, and what a client asks for in them.
//!
//! Owns: reading and writing `[join_ref, ref, topic, event, payload]` (2.0.0) and the same as an object (1.0.0),
//! which address a channel's name means, and what a join says. Never: knows who may do what.

use crate::{Filter, FilterError, From, FromError, Topic, TopicError, Uuid};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Bytes of a `ref` or `join_ref`, of a channel's name, and of an event's.
const REF_BYTES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 512;

/// How frames are written; the client says which with `vsn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

impl Version {
    /// `vsn` of the URL; absent is the first. `None` for a version that is not spoken.
    pub fn parse(vsn: Option<&str>) -> Option<Self> {
        let vsn = vsn.unwrap_or("1.0.0");
        let is_minor = |major: &str| {
            let rest = vsn.strip_prefix(major).and_then(|rest| rest.strip_prefix(".0."));
            rest.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
        };
        if is_minor("1") { Some(Self::V1) } else { is_minor("2").then_some(Self::V2) }
    }
}

/// The client's own mark of a message, as the JSON it was written in: a text or a number.
pub type Ref = Option<Box<str>>;

/// What a client says.
#[derive(Debug)]
pub struct Frame<'a> {
    pub join_ref: Ref,
    pub reference: Ref,
    pub topic: Cow<'a, str>,
    pub event: Cow<'a, str>,
    /// JSON.
    pub payload: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a frame of this version of Phoenix channels")]
    Form,
    #[error("`ref` and `join_ref` are texts or numbers of at most 64 bytes")]
    Ref,
    #[error("the names of channels and events have at most 512 bytes")]
    Name,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow)]
    join_ref: Option<&'a RawValue>,
}

type Array<'a> =
    (Option<&'a RawValue>, Option<&'a RawValue>, Cow<'a, str>, Cow<'a, str>, Option<&'a RawValue>);

impl<'a> Frame<'a> {
    /// Reads one text frame.
    pub fn parse(text: &'a str, version: Version) -> Result<Self, FrameError> {
        let object = match version {
            Version::V1 => serde_json::from_str(text).map_err(|_| FrameError::Form)?,
            Version::V2 => {
                let (join_ref, reference, topic, event, payload): Array<'a> =
                    serde_json::from_str(text).map_err(|_| FrameError::Form)?;
                Object { topic, event, payload, reference, join_ref }
            }
        };
        let Object { topic, event, payload, reference, join_ref } = object;
        if topic.len() > NAME_BYTES_MAX || event.len() > NAME_BYTES_MAX {
            return Err(FrameError::Name);
        }
        let (join_ref, reference) = (mark(join_ref)?, mark(reference)?);
        Ok(Self { join_ref, reference, topic, event, payload: payload.map_or("{}", RawValue::get) })
    }
}

fn mark(raw: Option<&RawValue>) -> Result<Ref, FrameError> {
    let Some(json) = raw.map(RawValue::get) else { return Ok(None) };
    let is_mark = matches!(json.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'));
    if !is_mark || json.len() > REF_BYTES_MAX {
        return Err(FrameError::Ref);
    }
    Ok(Some(json.into()))
}

/// One message as a frame of that version. `payload` is JSON; the marks are as [`Frame`] holds them.
pub fn write(
    version: Version,
    (join_ref, reference): (Option<&str>, Option<&str>),
    topic: &str,
    event: &str,
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + topic.len() + event.len() + 96);
    let (join_ref, reference) = (join_ref.unwrap_or("null"), reference.unwrap_or("null"));
    let parts = match version {
        Version::V1 => ["{\"join_ref\":", ",\"ref\":", ",\"topic\":", ",\"event\":", ",\"payload\":", "}"],
        Version::V2 => ["[", ",", ",", ",", ",", "]"],
    };
    let [a, b, c, d, e, end] = parts.map(str::as_bytes);
    for part in [a, join_ref.as_bytes(), b, reference.as_bytes(), c] {
        out.extend_from_slice(part);
    }
    serde_json::to_writer(&mut out, topic).expect("a text into memory");
    out.extend_from_slice(d);
    serde_json::to_writer(&mut out, event).expect("a text into memory");
    for part in [e, payload, end] {
        out.extend_from_slice(part);
    }
    out
}

/// What a channel's name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `events:UUID`: what a destination lets through.
    Destination(Uuid),
    /// `events:users`, `events:users:123`, and `topic:` likewise.
    Topic(Topic),
}

impl Address {
    /// `None` where there can be no such channel.
    pub fn parse(name: &str) -> Option<Result<Self, TopicError>> {
        if let Some(rest) = name.strip_prefix("events:") {
            // Only as it is written by us: a topic may be called anything else.
            let id = rest.parse().ok().filter(|id: &Uuid| id.to_string() == rest);
            return Some(
                id.map_or_else(|| Topic::parse(rest).map(Self::Topic), |id| Ok(Self::Destination(id))),
            );
        }
        name.strip_prefix("topic:").map(|rest| Topic::parse(rest).map(Self::Topic))
    }
}

/// The payload of a join.
#[derive(Debug, PartialEq)]
pub struct Join {
    pub token: Option<Box<str>>,
    /// Where to begin; from now on where it is not said.
    pub from: From,
    pub says_where: bool,
    pub filter: Filter,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("a join's payload is an object with `token`, and `cursor` or `from`, and `filter` if wanted")]
    Form,
    #[error(transparent)]
    From(#[from] FromError),
    #[error(transparent)]
    Filter(#[from] FilterError),
}

#[derive(Deserialize)]
struct JoinWire<'a> {
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    /// As it came with the last event; before the first there is none.
    #[serde(borrow)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    filter: Option<Cow<'a, str>>,
}

impl Join {
    pub fn parse(payload: &str) -> Result<Self, JoinError> {
        let wire: JoinWire<'_> = serde_json::from_str(payload).map_err(|_| JoinError::Form)?;
        let from = wire.cursor.or(wire.from);
        let filter = wire.filter.filter(|text| !text.is_empty());
        Ok(Self {
            token: wire.token.map(Into::into),
            says_where: from.is_some(),
            from: from.as_deref().map_or(Ok(From::Latest), From::parse)?,
            filter: filter.as_deref().map(Filter::parse).transpose()?.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_written() {
        let array = r#"["1", 2, "events:t", "phx_join", {"token":"x"}]"#;
        let object =
            r#"{"topic":"events:t","event":"phx_join","payload":{"token":"x"},"ref":2,"join_ref":"1"}"#;
        for (text, version) in [(array, Version::V2), (object, Version::V1)] {
            let frame = Frame::parse(text, version).unwrap();
            assert_eq!((frame.join_ref.as_deref(), frame.reference.as_deref()), (Some("\"1\""), Some("2")));
            assert_eq!(
                (&*frame.topic, &*frame.event, frame.payload),
                ("events:t", "phx_join", r#"{"token":"x"}"#)
            );
            let marks = (frame.join_ref.as_deref(), frame.reference.as_deref());
            let again = write(version, marks, &frame.topic, &frame.event, frame.payload.as_bytes());
            let left: serde_json::Value = serde_json::from_slice(&again).unwrap();
            assert_eq!(left, serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
        let short =
            Frame::parse(r#"{"topic":"phoenix","event":"heartbeat","payload":null}"#, Version::V1).unwrap();
        assert_eq!((short.reference, short.payload), (None, "{}"));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let long = format!(r#"[null,"{}","t","e",{{}}]"#, "x".repeat(70));
        for text in ["", "{}", "[1,2,3]", r#"[null,null,"t","e",{},1]"#, r#"[[],null,"t","e",{}]"#, &long] {
            assert!(Frame::parse(text, Version::V2).is_err(), "{text}");
        }
        let long = format!(r#"[null,null,"{}","e",{{}}]"#, "x".repeat(513));
        assert_eq!(Frame::parse(&long, Version::V2).unwrap_err(), FrameError::Name);
        assert!(Frame::parse(r#"[null,null,"t","e",{}]"#, Version::V1).is_err());
    }

    #[test]
    fn versions_are_told_by_their_numbers() {
        assert_eq!(Version::parse(None), Some(Version::V1));
        assert_eq!(Version::parse(Some("1.0.0")), Some(Version::V1));
        assert_eq!(Version::parse(Some("2.0.0")), Some(Version::V2));
        for other in ["", "2", "2.1.0", "3.0.0", "2.0.", "20.0.0"] {
            assert_eq!(Version::parse(Some(other)), None, "{other}");
        }
    }

    #[test]
    fn a_channels_name_says_where_it_leads() {
        let id = Uuid::from_u128(7);
        let topic = |text: &str| Some(Ok(Address::Topic(Topic::parse(text).unwrap())));
        assert_eq!(Address::parse(&format!("events:{id}")), Some(Ok(Address::Destination(id))));
        assert_eq!(Address::parse("events:users:123"), topic("users:123"));
        assert_eq!(Address::parse(&format!("topic:{id}")), topic(&id.to_string()));
        assert!(matches!(Address::parse("events:"), Some(Err(_))));
        assert_eq!(Address::parse("room:lobby"), None);
    }

    #[test]
    fn a_join_says_who_and_from_where() {
        let join = Join::parse(r#"{"token":"x","from":"earliest","cursor":null,"other":1}"#).unwrap();
        assert_eq!((join.token.as_deref(), join.from), (Some("x"), From::Earliest));
        assert_eq!(Join::parse("{}").unwrap().from, From::Latest);
        assert!(matches!(Join::parse(r#"{"cursor":"x"}"#), Err(JoinError::From(_))));
        assert!(matches!(Join::parse(r#"{"filter":"name =="}"#), Err(JoinError::Filter(_))));
        for bad in ["[]", "1", r#"{"token":1}"#] {
            assert_eq!(Join::parse(bad), Err(JoinError::Form), "{bad}");
        }
    }
}
