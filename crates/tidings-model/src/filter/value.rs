//! What a field holds and what it is compared with.
//!
//! Owns: which values are equal, and which of two comes first.

use super::decimal::Decimal;
use super::json;
use crate::Timestamp;
use std::borrow::Cow;
use std::cmp::Ordering;

const DAY_MS: i64 = 86_400_000;

/// A value in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Truth(bool),
    Number(Decimal<'static>),
    Text(Box<str>),
    /// A day in UTC, by its first moment.
    Day(Timestamp),
    Moment(Timestamp),
}

/// A value in an event.
#[derive(Debug, Clone)]
pub(super) enum Seen<'a> {
    /// Or absent.
    Null,
    Truth(bool),
    Number(Decimal<'a>),
    Text(Cow<'a, str>),
    Time(Timestamp),
    /// As it stands in the JSON.
    Array(&'a str),
    /// An object, or a text that is no Unicode: equal to nothing.
    Opaque,
}

impl Value {
    /// A day or a moment from its text.
    pub fn time(text: &str) -> Option<Self> {
        Self::day(text).or_else(|| Timestamp::parse(text).ok().map(Self::Moment))
    }

    pub fn day(text: &str) -> Option<Self> {
        // The shape is looked at first, as the parser of times knows more of them.
        let is_day = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let moment = is_day.then(|| Timestamp::parse(&format!("{text}T00:00:00Z")))?;
        moment.ok().map(Self::Day)
    }

    /// Whether a JSON value may be equal to this one, by its first byte.
    fn is_kin(&self, json: &str) -> bool {
        match json.as_bytes().first() {
            Some(b'n') => matches!(self, Self::Null),
            Some(b't' | b'f') => matches!(self, Self::Truth(_)),
            Some(b'"') => matches!(self, Self::Text(_) | Self::Day(_) | Self::Moment(_)),
            Some(b'[' | b'{') => false,
            _ => matches!(self, Self::Number(_)),
        }
    }

    /// Whether other values of its kind come before and after it.
    pub fn has_order(&self) -> bool {
        !matches!(self, Self::Null | Self::Truth(_))
    }
}

impl<'a> Seen<'a> {
    /// Reads a JSON value.
    pub fn of(json: Option<&'a str>) -> Self {
        let Some(json) = json else { return Self::Null };
        match json.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Truth(true),
            Some(b'f') => Self::Truth(false),
            Some(b'-' | b'0'..=b'9') => Self::Number(Decimal::read(json)),
            Some(b'"') => json::unescape(json).map_or(Self::Opaque, Self::Text),
            Some(b'[') => Self::Array(json),
            _ => Self::Opaque,
        }
    }

    pub fn of_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }

    pub fn of_time(time: Option<Timestamp>) -> Self {
        time.map_or(Self::Null, Self::Time)
    }

    /// How this stands to `value`; `None` where the two are of different kinds.
    pub fn compare(&self, value: &Value) -> Option<Ordering> {
        Some(match (self, value) {
            (Self::Null, Value::Null) => Ordering::Equal,
            (Self::Truth(own), Value::Truth(other)) => own.cmp(other),
            (Self::Number(own), Value::Number(other)) => own.compare(other),
            (Self::Text(own), Value::Text(other)) => (**own).cmp(&**other),
            (Self::Time(own), Value::Day(other)) => day(*own).cmp(&day(*other)),
            (Self::Time(own), Value::Moment(other)) => own.cmp(other),
            (Self::Text(own), Value::Day(_) | Value::Moment(_)) => match Value::time(own)? {
                Value::Day(time) | Value::Moment(time) => return Seen::Time(time).compare(value),
                _ => return None,
            },
            _ => return None,
        })
    }

    pub fn equals(&self, value: &Value) -> bool {
        self.compare(value) == Some(Ordering::Equal)
    }

    /// Whether a part of this text, or an element of this array, is `value`.
    pub fn contains(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(own), Value::Text(part)) => own.contains(&**part),
            (Self::Array(own), value) => json::elements(own)
                .any(|element| value.is_kin(element) && Seen::of(Some(element)).equals(value)),
            _ => false,
        }
    }

    pub fn starts_with(&self, start: &str) -> bool {
        matches!(self, Self::Text(own) if own.starts_with(start))
    }
}

fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY_MS)
}
