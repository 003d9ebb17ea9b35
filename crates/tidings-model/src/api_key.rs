//! What a caller with an API key brings along.
//!
//! Owns: the kinds of keys and what each may have. Never: knows the secret; that is the engine's.

use crate::{Lease, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Publishes to its topics.
    Producer,
    /// Takes from its destinations, and reads what it is granted.
    Consumer,
    /// Both.
    ProducerConsumer,
    /// May do everything.
    Admin,
}

impl KeyKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::ProducerConsumer => "producer_consumer",
            Self::Admin => "admin",
        }
    }

    /// Whether topics to publish to can be given to it.
    pub fn produces(self) -> bool {
        matches!(self, Self::Producer | Self::ProducerConsumer)
    }

    /// Whether destinations, and topics to subscribe to, can be given to it.
    pub fn consumes(self) -> bool {
        matches!(self, Self::Consumer | Self::ProducerConsumer)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key that a caller showed, or that a token was made from, as it stood when it was verified.
#[derive(Debug, Clone)]
pub struct KeyHold {
    pub id: Uuid,
    pub kind: KeyKind,
    /// Ends when anything about the key changes; the caller is then verified anew.
    pub lease: Arc<Lease>,
}

/// Destinations whose events may be taken, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations(Arc<[Uuid]>);

impl Destinations {
    /// Destinations that one key or token may name.
    pub const MAX: usize = 1024;

    pub fn contains(&self, id: Uuid) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = Uuid> {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Uuid> for Destinations {
    fn from_iter<I: IntoIterator<Item = Uuid>>(ids: I) -> Self {
        let mut ids: Vec<Uuid> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_found_whatever_their_order_was() {
        let ids: Destinations = [5, 1, 3, 1].into_iter().map(Uuid::from_u128).collect();
        assert_eq!(ids.len(), 3);
        assert!(ids.contains(Uuid::from_u128(3)) && !ids.contains(Uuid::from_u128(2)));
        assert!(!Destinations::default().contains(Uuid::nil()));
    }
}
