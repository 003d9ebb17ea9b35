//! What an application calls one of its things: a kind of entity and an id.
//!
//! Grammar: the entity as a topic's name, the id as a key. Never: puts the two into one text, where `a.b` and
//! `c` could be taken for `a` and `b.c`.

use crate::{Key, Topic, TopicError, TopicName};
use serde::Deserialize;
use std::borrow::Cow;

/// One thing of an application. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    pub entity: TopicName,
    pub id: Key,
}

/// Why a text is not a signal that an entity changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntityKeyError {
    #[error("not a JSON object with the texts `entity` and `id`")]
    Json,
    #[error(transparent)]
    Name(#[from] TopicError),
}

impl EntityKey {
    pub fn parse(entity: &str, id: &str) -> Result<Self, TopicError> {
        Ok(Self { entity: TopicName::parse(entity)?, id: Key::parse(id)? })
    }

    /// Reads `{"entity":"items","id":"100"}`, as it travels over queues.
    pub fn from_json(json: &[u8]) -> Result<Self, EntityKeyError> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            entity: Cow<'a, str>,
            #[serde(borrow)]
            id: Cow<'a, str>,
        }
        let wire: Wire<'_> = serde_json::from_slice(json).map_err(|_| EntityKeyError::Json)?;
        Ok(Self::parse(&wire.entity, &wire.id)?)
    }

    /// Writes what [`EntityKey::from_json`] reads.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "entity": self.entity.as_str(), "id": self.id.as_str() }).to_string()
    }

    /// The address `entity:id`, where a grant or a topic of that name is meant.
    pub fn topic(&self) -> Topic {
        Topic { name: self.entity.clone(), key: Some(self.id.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_read_alike_when_joined_are_different() {
        assert_ne!(EntityKey::parse("a.b", "c").unwrap(), EntityKey::parse("a", "b.c").unwrap());
        assert!(EntityKey::parse("a:b", "c").is_err() && EntityKey::parse("a", "").is_err());
    }

    #[test]
    fn json_comes_back_and_other_json_is_refused() {
        let key = EntityKey::parse("items", "1; drop \"é\"").unwrap();
        assert_eq!(EntityKey::from_json(key.to_json().as_bytes()), Ok(key));
        for bad in
            ["", "[]", r#"{"entity":"items"}"#, r#"{"entity":"items","id":1}"#, r#"{"entity":"","id":"1"}"#]
        {
            assert!(EntityKey::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
