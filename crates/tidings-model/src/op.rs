//! What a client says in a WebSocket text frame.

use crate::Code;
use crate::{EntityKey, EventError, Filter, FilterError, From, FromError, NewEvent, Topic, TopicError};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One operation, with the client's own `ref` that the answer repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// At most 64 bytes.
    pub reference: Option<Box<str>>,
    pub verb: Verb,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Subscribe {
        topic: Topic,
        from: From,
        filter: Filter,
    },
    Unsubscribe {
        topic: Topic,
    },
    /// The rows of an entity, now and whenever they change.
    Watch {
        key: EntityKey,
    },
    Unwatch {
        key: EntityKey,
    },
    /// What the entities' resolvers get to see.
    Secret {
        secret: Box<str>,
    },
    Publish {
        events: Vec<NewEvent>,
    },
    /// A fresh token for this connection.
    Auth {
        token: Box<str>,
    },
    Ping,
}

/// Why a frame is no operation, with the `ref` if there was one to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct OpError {
    pub reference: Option<Box<str>>,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error("`op` is subscribe, unsubscribe, publish, secret, auth or ping, not {0:?}")]
    Unknown(String),
    #[error("`{op}` needs `{field}`")]
    Missing { op: &'static str, field: &'static str },
    #[error("`ref` has at most 64 bytes")]
    Ref,
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    From(#[from] FromError),
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl Why {
    pub fn code(&self) -> Code {
        match self {
            Self::Event(e) => e.code(),
            Self::Unknown(_) => Code::OpUnknown,
            Self::Missing { .. } | Self::Ref => Code::ParameterInvalid,
            Self::Topic(_) => Code::TopicInvalid,
            Self::From(_) => Code::CursorInvalid,
            Self::Filter(e) => e.code(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a frame is a JSON object")]
struct Wire<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, rename = "ref")]
    reference: Option<Cow<'a, str>>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    from: Option<Cow<'a, str>>,
    /// Names, as in `?name=`.
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    /// An expression, as in `?filter=`.
    #[serde(borrow)]
    filter: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow)]
    entity: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    secret: Option<Cow<'a, str>>,
}

impl Op {
    /// Reads one text frame.
    pub fn parse(text: &str) -> Result<Self, OpError> {
        let wire: Wire<'_> =
            EventError::read(text).map_err(|why| OpError { reference: None, why: why.into() })?;
        if wire.reference.as_ref().is_some_and(|r| r.len() > 64) {
            return Err(OpError { reference: None, why: Why::Ref });
        }
        let reference: Option<Box<str>> = wire.reference.as_deref().map(Into::into);
        match wire.verb() {
            Ok(verb) => Ok(Self { reference, verb }),
            Err(why) => Err(OpError { reference, why }),
        }
    }
}

impl Wire<'_> {
    fn verb(&self) -> Result<Verb, Why> {
        match &*self.op {
            "subscribe" if self.entity.is_some() => Ok(Verb::Watch { key: self.key("subscribe")? }),
            "unsubscribe" if self.entity.is_some() => Ok(Verb::Unwatch { key: self.key("unsubscribe")? }),
            "secret" => {
                let secret = self.secret.as_deref().ok_or(Why::Missing { op: "secret", field: "secret" })?;
                Ok(Verb::Secret { secret: secret.into() })
            }
            "subscribe" => Ok(Verb::Subscribe {
                topic: self.topic("subscribe")?,
                from: self.from.as_deref().map_or(Ok(From::Latest), From::parse)?,
                filter: self.filter()?,
            }),
            "unsubscribe" => Ok(Verb::Unsubscribe { topic: self.topic("unsubscribe")? }),
            "publish" => {
                let topic = self.topic("publish")?;
                let events = match (self.event, self.events) {
                    (Some(one), None) => vec![NewEvent::parse(one.get().as_bytes(), &topic)?],
                    (None, Some(all)) => NewEvent::parse_array(all.get().as_bytes(), &topic)?,
                    _ => return Err(Why::Missing { op: "publish", field: "event` or `events" }),
                };
                Ok(Verb::Publish { events })
            }
            "auth" => {
                let token = self.token.as_deref().ok_or(Why::Missing { op: "auth", field: "token" })?;
                Ok(Verb::Auth { token: token.into() })
            }
            "ping" => Ok(Verb::Ping),
            other => Err(Why::Unknown(other.chars().take(40).collect())),
        }
    }

    fn filter(&self) -> Result<Filter, FilterError> {
        let mut filter = self.filter.as_deref().map(Filter::parse).transpose()?.unwrap_or_default();
        filter.add_names(self.name.as_deref().unwrap_or_default())?;
        Ok(filter)
    }

    fn key(&self, op: &'static str) -> Result<EntityKey, Why> {
        let entity = self.entity.as_deref().unwrap_or_default();
        let id = self.id.as_deref().ok_or(Why::Missing { op, field: "id" })?;
        Ok(EntityKey::parse(entity, id)?)
    }

    fn topic(&self, op: &'static str) -> Result<Topic, Why> {
        let text = self.topic.as_deref().ok_or(Why::Missing { op, field: "topic" })?;
        Ok(Topic::parse(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verbs_are_read() {
        let op = Op::parse(r#"{"op":"subscribe","ref":"1","topic":"t:9","from":"earliest"}"#).unwrap();
        assert_eq!(op.reference.as_deref(), Some("1"));
        let Verb::Subscribe { topic, from, .. } = op.verb else { panic!("{op:?}") };
        assert_eq!((topic.to_string().as_str(), from), ("t:9", From::Earliest));
        let op = Op::parse(r#"{"op":"publish","topic":"t","events":[{"data":1},{"data":2}]}"#).unwrap();
        assert!(matches!(op.verb, Verb::Publish { events } if events.len() == 2));
    }

    #[test]
    fn mistakes_carry_a_code_and_the_ref() {
        for (text, code) in [
            ("{", Code::JsonInvalid),
            ("[]", Code::EventInvalid),
            (r#"{"op":"dance","ref":"r"}"#, Code::OpUnknown),
            (r#"{"op":"subscribe","ref":"r"}"#, Code::ParameterInvalid),
            (r#"{"op":"subscribe","topic":"*","ref":"r"}"#, Code::TopicInvalid),
            (r#"{"op":"subscribe","entity":"e","ref":"r"}"#, Code::ParameterInvalid),
            (r#"{"op":"unsubscribe","entity":"e:","id":"1","ref":"r"}"#, Code::TopicInvalid),
            (r#"{"op":"secret","ref":"r"}"#, Code::ParameterInvalid),
            (r#"{"op":"subscribe","topic":"t","from":"x","ref":"r"}"#, Code::CursorInvalid),
            (r#"{"op":"subscribe","topic":"t","filter":"","ref":"r"}"#, Code::FilterInvalid),
            (r#"{"op":"publish","topic":"t","event":{"x":1},"ref":"r"}"#, Code::FieldUnknown),
        ] {
            let error = Op::parse(text).unwrap_err();
            assert_eq!(error.why.code(), code, "{text}");
            assert_eq!(error.reference.is_some(), text.contains("ref"), "{text}");
        }
    }
}
