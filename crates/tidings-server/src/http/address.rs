//! What a request's path and query say.
//!
//! Owns: percent-decoding, and that a parameter nobody knows is refused instead of ignored.

use crate::refusal::Refusal;
use http::Uri;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use tidings_engine::delivery::DeliveryId;
use tidings_model::{Code, EntityKey, Filter, Limits, Topic, TopicName, Uuid};

/// The third part of the path, `{topic}`, `{name}` or `{id}`, decoded.
fn segment(uri: &Uri) -> Option<Cow<'_, str>> {
    nth(uri.path(), 3)
}

fn nth(path: &str, n: usize) -> Option<Cow<'_, str>> {
    // By bytes: the texts are too short for a search of any other kind.
    let segment = path.as_bytes().split(|byte| *byte == b'/').nth(n)?;
    let segment = std::str::from_utf8(segment).ok()?;
    if segment.bytes().all(|byte| byte != b'%') {
        return Some(segment.into());
    }
    percent_decode_str(segment).decode_utf8().ok()
}

/// The entity that `{entity}/{id}` names.
pub fn entity_key(uri: &Uri) -> Result<EntityKey, Refusal> {
    Ok(EntityKey::parse(
        &nth(uri.path(), 3).ok_or_else(not_text)?,
        &nth(uri.path(), 4).ok_or_else(not_text)?,
    )?)
}

/// The address that `{topic}` of a path names.
pub fn topic(path: &str) -> Result<Topic, Refusal> {
    Ok(Topic::parse(&nth(path, 3).ok_or_else(not_text)?)?)
}

/// The whole topic that `{name}` names.
pub fn topic_name(uri: &Uri) -> Result<TopicName, Refusal> {
    Ok(TopicName::parse_captured(&segment(uri).ok_or_else(not_text)?)?)
}

/// The id of a scheduled event.
pub fn scheduled_id(uri: &Uri) -> Result<Uuid, Refusal> {
    let unknown = || Refusal::new(Code::ScheduledUnknown, "the path does not name an event by its UUID");
    segment(uri).and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The id of a user.
pub fn user_id(uri: &Uri) -> Result<Uuid, Refusal> {
    let unknown = || Refusal::new(Code::UserUnknown, "the path does not name a user by its UUID");
    segment(uri).and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The id of an inbound webhook.
pub fn inbound_id(uri: &Uri) -> Result<Uuid, Refusal> {
    let unknown =
        || Refusal::new(Code::InboundUnknown, "the path does not name an inbound webhook by its UUID");
    segment(uri).and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The id of an API key.
pub fn key_id(uri: &Uri) -> Result<Uuid, Refusal> {
    let unknown = || Refusal::new(Code::KeyUnknown, "the path does not name an API key by its UUID");
    segment(uri).and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The id of a destination.
pub fn destination_id(uri: &Uri) -> Result<Uuid, Refusal> {
    let unknown =
        || Refusal::new(Code::DestinationUnknown, "the path does not name a destination by its UUID");
    segment(uri).and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

/// The id of a delivery.
pub fn delivery_id(uri: &Uri) -> Result<DeliveryId, Refusal> {
    let unknown =
        || Refusal::new(Code::DeliveryUnknown, "the path does not name a delivery: DESTINATION.OFFSET");
    segment(uri).and_then(|text| DeliveryId::parse(&text)).ok_or_else(unknown)
}

fn not_text() -> Refusal {
    Refusal::new(Code::TopicInvalid, "the path is not percent-encoded UTF-8")
}

/// A decoded query string.
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Pairs that one query may have.
    const PAIRS_MAX: usize = 512;

    /// Reads the query; each name must be one of `known`.
    pub fn parse(uri: &'a Uri, known: &[&str]) -> Result<Self, Refusal> {
        let Some(text) = uri.query().filter(|text| !text.is_empty()) else { return Ok(Self(Vec::new())) };
        let mut pairs = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&&*name) {
                let name: String = name.chars().take(40).collect();
                return Err(Refusal::parameter(match known {
                    [] => format!("there is no query parameter `{name}` here, nor any other"),
                    _ => format!("there is no query parameter `{name}` here, only {}", known.join(", ")),
                }));
            }
            if pairs.len() == Self::PAIRS_MAX {
                return Err(Refusal::parameter("the query has too many parameters"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter that may repeat.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that may stand there once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.all(name);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(Refusal::parameter(format!("`{name}` may stand in the query only once"))),
        }
    }

    /// How many to answer with at most.
    pub fn limit(&self, limits: &Limits) -> Result<usize, Refusal> {
        let Some(text) = self.one("limit")? else { return Ok(limits.page_events_default) };
        let max = limits.page_events;
        let limit = text.parse().ok().filter(|n| (1..=max).contains(n));
        limit.ok_or_else(|| Refusal::parameter(format!("`limit` is a number from 1 to {max}")))
    }

    /// Which events are wanted: `name`, repeated or separated by commas, and the expression `filter`.
    pub fn filter(&self) -> Result<Filter, Refusal> {
        let mut filter = self.one("filter")?.map(Filter::parse).transpose()?.unwrap_or_default();
        self.all("name").try_for_each(|names| filter.add_names(names))?;
        Ok(filter)
    }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let not_text = |_| Refusal::parameter("the query is not percent-encoded UTF-8");
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Ok(percent_decode_str(&spaced).decode_utf8().map_err(not_text)?.into_owned().into());
    }
    percent_decode_str(text).decode_utf8().map_err(not_text)
}
