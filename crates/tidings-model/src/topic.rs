//! Addresses: `topic` or `topic:key`.
//!
//! Grammar: a name is up to 200 bytes, and 1 to 50 characters where a client makes the topic: longer ones are
//! those of captured tables, which clients may address like any other; no control characters, not `*`, no blank at either end; the first `:` ends the name. A key is
//! 1 to 255 bytes. Case is kept. Names that begin with `$` belong to the system.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// Why a text is not an address. All of them carry the code `topic_invalid`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic name must not be empty")]
    Empty,
    #[error("a topic name has at most {max} characters, this one has {len}")]
    TooLong { len: usize, max: usize },
    #[error("a topic name must not contain control characters")]
    Control,
    #[error("a topic name must not begin or end with a blank")]
    Blank,
    #[error("`*` is not a topic name")]
    Star,
    #[error("a key has 1 to 255 bytes, this one has {0}")]
    KeyLength(usize),
    #[error("a key must not contain control characters")]
    KeyControl,
}

/// The name of a topic, without a key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Characters a client may use in a name.
    pub const CHARS_MAX: usize = 50;
    /// Bytes a captured `schema.table` may have.
    pub const BYTES_MAX: usize = 200;

    /// A name that a client gives to something new.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let name = Self::parse_captured(text);
        match text.chars().count() {
            len if len > Self::CHARS_MAX => Err(TopicError::TooLong { len, max: Self::CHARS_MAX }),
            _ => name,
        }
    }

    /// A name made by a source, up to 200 bytes; also what storage accepts, and what addresses may say.
    pub fn parse_captured(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(TopicError::TooLong { len: text.len(), max: Self::BYTES_MAX });
        }
        if text == "*" {
            return Err(TopicError::Star);
        }
        if text.chars().any(|c| c.is_control() || c == ':') {
            return Err(TopicError::Control);
        }
        if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
            return Err(TopicError::Blank);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a client may make a topic of this name.
    pub fn check_new(&self) -> Result<(), TopicError> {
        match self.0.chars().count() {
            len if len > Self::CHARS_MAX => Err(TopicError::TooLong { len, max: Self::CHARS_MAX }),
            _ => Ok(()),
        }
    }

    /// `$schedule`: what becomes of scheduled events. Whoever has an id may read it, and sees its own.
    pub fn schedule() -> Self {
        static NAME: LazyLock<TopicName> = LazyLock::new(|| TopicName("$schedule".into()));
        NAME.clone()
    }

    /// `$dead`: events that were refused. Only admins read it.
    pub fn dead() -> Self {
        static NAME: LazyLock<TopicName> = LazyLock::new(|| TopicName("$dead".into()));
        NAME.clone()
    }

    pub fn is_dead(&self) -> bool {
        &*self.0 == "$dead"
    }

    pub fn is_schedule(&self) -> bool {
        &*self.0 == "$schedule"
    }

    /// Whether the name belongs to the system (`$schedule`, `$dead`): not publishable by clients.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// The thing within a topic that an event is about: 1 to 255 bytes of text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<str>);

impl Key {
    pub const BYTES_MAX: usize = 255;

    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(TopicError::KeyLength(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(TopicError::KeyControl);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An address: a whole topic, or one key of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    pub name: TopicName,
    pub key: Option<Key>,
}

impl Topic {
    /// `name` or `name:key`; everything after the first `:` is the key. The name may be that of a captured
    /// table; whether a topic of this name may be made is asked where that happens.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let (name, key) = match text.split_once(':') {
            None => (text, None),
            Some((name, key)) => (name, Some(Key::parse(key)?)),
        };
        Ok(Self { name: TopicName::parse_captured(name)?, key })
    }

    pub fn whole(name: TopicName) -> Self {
        Self { name, key: None }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            None => fmt::Display::fmt(&self.name, f),
            Some(key) => write!(f, "{}:{key}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_ends_the_name_and_the_text_comes_back() {
        let topic = Topic::parse("users:a:b").unwrap();
        assert_eq!((topic.name.as_str(), topic.key.as_ref().unwrap().as_str()), ("users", "a:b"));
        assert_eq!(topic.to_string(), "users:a:b");
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        for bad in ["", "*", " a", "a ", "a\nb", ":k", "a:"] {
            assert!(Topic::parse(bad).is_err(), "{bad:?}");
        }
        assert!(TopicName::parse(&"é".repeat(50)).is_ok());
        assert_eq!(TopicName::parse(&"a".repeat(51)), Err(TopicError::TooLong { len: 51, max: 50 }));
        assert!(Topic::parse(&"a".repeat(200)).is_ok_and(|t| t.name.check_new().is_err()));
        assert!(Topic::parse(&"é".repeat(50)).is_ok_and(|t| t.name.check_new().is_ok()));
        assert!(TopicName::parse_captured(&"a".repeat(201)).is_err());
        assert!(Key::parse(&"k".repeat(256)).is_err());
    }
}
