//! What a principal may publish to and subscribe to.

use crate::{Topic, TopicError, TopicName};
use std::fmt;

/// One permission: every topic, a whole topic with all its keys, or one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grant {
    /// `*`: every topic but the system's.
    All,
    /// `users` or `users:123`.
    Topic(Topic),
}

impl Grant {
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text == "*" { Ok(Self::All) } else { Topic::parse(text).map(Self::Topic) }
    }

    /// Whether this permission reaches `topic`. `users:1` does not reach the whole of `users`.
    pub fn covers(&self, topic: &Topic) -> bool {
        match self {
            Self::All => !topic.name.is_system(),
            Self::Topic(own) => own.name == topic.name && (own.key.is_none() || own.key == topic.key),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Topic(topic) => topic.fmt(f),
        }
    }
}

/// Several permissions; any one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// Permissions one token may carry.
    pub const MAX: usize = 1024;

    pub fn none() -> Self {
        Self::default()
    }

    pub fn all() -> Self {
        Self(vec![Grant::All])
    }

    pub fn add(&mut self, grant: Grant) {
        if !self.0.contains(&grant) {
            self.0.push(grant);
        }
    }

    pub fn cover(&self, topic: &Topic) -> bool {
        self.0.iter().any(|g| g.covers(topic))
    }

    /// Whether any permission concerns `name`, as a whole or in part.
    pub fn touch(&self, name: &TopicName) -> bool {
        self.0.iter().any(|g| match g {
            Grant::All => !name.is_system(),
            Grant::Topic(own) => &own.name == name,
        })
    }

    /// Each permission.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(iter: I) -> Self {
        let mut grants = Self::none();
        iter.into_iter().for_each(|g| grants.add(g));
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(grant: &str, topic: &str) -> bool {
        Grant::parse(grant).unwrap().covers(&Topic::parse(topic).unwrap())
    }

    #[test]
    fn a_topic_covers_its_keys_and_a_key_only_itself() {
        assert!(covers("users", "users") && covers("users", "users:1") && covers("users:1", "users:1"));
        assert!(!covers("users:1", "users") && !covers("users:1", "users:2") && !covers("users", "user"));
        assert!(covers("*", "users:1") && !covers("*", "$schedule"));
    }
}
