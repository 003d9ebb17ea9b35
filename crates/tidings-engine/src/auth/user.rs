//! A user: what is stored, and what may be asked of a new one.
//!
//! Owns: the stored form (versioned JSON) and the rules for names. Never: hashes, or touches the log.

use super::refusal::UserError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_model::{Grant, Grants, Timestamp, Uuid};

/// Longest name.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest password hash that is taken in.
pub const HASH_BYTES_MAX: usize = 512;
const VERSION: u32 = 1;

/// A user as others may know it.
#[derive(Debug, Clone)]
pub struct User {
    pub id: Uuid,
    pub name: String,
    /// The user's own collection, where a client names one.
    pub collection_id: Option<Uuid>,
    pub publish: Grants,
    pub subscribe: Grants,
    pub created_at: Timestamp,
    pub revoked: bool,
}

/// A user to be.
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    pub name: String,
    pub secret: NewSecret,
    pub collection_id: Option<Uuid>,
    pub publish: Grants,
    pub subscribe: Grants,
    /// Given by an admin who brings users along from elsewhere; else made up.
    pub id: Option<Uuid>,
}

/// What a new user will log in with.
#[derive(Clone)]
pub enum NewSecret {
    Password(String),
    /// A hash made elsewhere: argon2 in PHC form, or bcrypt.
    Hash(String),
}

impl Default for NewSecret {
    fn default() -> Self {
        Self::Password(String::new())
    }
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What may be changed about a user; an absent field stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserPatch {
    pub collection_id: Option<Option<Uuid>>,
    pub publish: Option<Grants>,
    pub subscribe: Option<Grants>,
    pub password: Option<NewSecret>,
}

/// What a name and a password must be like.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub name_bytes_min: usize,
    pub password_chars_min: usize,
}

impl Rules {
    pub(crate) fn check_name(self, name: &str) -> Result<(), UserError> {
        if name.len() < self.name_bytes_min || name.len() > NAME_BYTES_MAX {
            return Err(UserError::NameLength);
        }
        if name.chars().any(char::is_control) {
            return Err(UserError::NAME_CONTROL);
        }
        if name.trim() != name {
            return Err(UserError::NAME_BLANK);
        }
        Ok(())
    }

    pub(crate) fn check_password(self, password: &str) -> Result<(), UserError> {
        let min = self.password_chars_min;
        if password.chars().take(min).count() < min {
            return Err(UserError::PasswordShort { min });
        }
        Ok(())
    }
}

/// A user as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    pub id: Uuid,
    pub name: String,
    pub hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subscribe: Vec<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// Tokens of an earlier one are refused. Grows with each logging out and the like, and is at least the
    /// time of that in milliseconds.
    pub generation: u64,
}

impl Record {
    pub fn new(new: &NewUser, id: Uuid, hash: String, now: Timestamp) -> Self {
        let created_at = now.as_millis();
        Self {
            v: VERSION,
            id,
            name: new.name.clone(),
            hash,
            collection_id: new.collection_id,
            publish: texts(&new.publish),
            subscribe: texts(&new.subscribe),
            created_at,
            revoked: false,
            generation: created_at.max(0) as u64,
        }
    }

    /// Reads a stored user; a text says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if record.v != VERSION {
            return Err(format!("version {} is not known", record.v));
        }
        Ok(record)
    }

    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain fields").into()
    }

    /// No token so far counts any more.
    pub fn renew(&mut self, now: Timestamp) {
        self.generation = (self.generation + 1).max(now.as_millis().max(0) as u64);
    }

    pub fn set_publish(&mut self, grants: &Grants) {
        self.publish = texts(grants);
    }

    pub fn set_subscribe(&mut self, grants: &Grants) {
        self.subscribe = texts(grants);
    }

    pub fn publish(&self) -> Grants {
        grants(&self.publish)
    }

    pub fn subscribe(&self) -> Grants {
        grants(&self.subscribe)
    }

    pub fn user(&self) -> User {
        User {
            id: self.id,
            name: self.name.clone(),
            collection_id: self.collection_id,
            publish: self.publish(),
            subscribe: self.subscribe(),
            created_at: Timestamp::default().plus_millis(self.created_at),
            revoked: self.revoked,
        }
    }
}

fn texts(grants: &Grants) -> Vec<String> {
    grants.iter().map(Grant::to_string).collect()
}

/// What was stored was parsed before; what no longer parses grants nothing.
fn grants(texts: &[String]) -> Grants {
    texts.iter().filter_map(|text| Grant::parse(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Rules = Rules { name_bytes_min: 1, password_chars_min: 8 };

    #[test]
    fn names_are_plain_texts_of_bounded_length() {
        for good in ["a", "Ada Lovelace", "ada@example.com", "数学", &"x".repeat(255)] {
            assert_eq!(STRICT.check_name(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "a\0b", "a\nb", "\u{85}", &"x".repeat(256), &"é".repeat(128)] {
            assert_eq!(STRICT.check_name(bad).unwrap_err().code().as_str(), "user_name_invalid", "{bad:?}");
        }
        assert_eq!(Rules { name_bytes_min: 0, ..STRICT }.check_name(""), Ok(()));
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        assert_eq!(STRICT.check_password("éééééééé"), Ok(()));
        assert_eq!(STRICT.check_password("éééé"), Err(UserError::PasswordShort { min: 8 }));
        assert_eq!(Rules { password_chars_min: 0, ..STRICT }.check_password(""), Ok(()));
    }

    #[test]
    fn a_stored_user_is_read_back_and_another_version_refused() {
        let new = NewUser {
            name: "ada".into(),
            publish: [Grant::parse("a:1").unwrap(), Grant::All].into_iter().collect(),
            ..NewUser::default()
        };
        let mut record = Record::new(&new, Uuid::from_u128(7), "$2b$".into(), Timestamp::default());
        let before = record.generation;
        record.renew(Timestamp::default());
        assert_eq!(record.generation, before + 1, "also within one millisecond");
        let text = String::from_utf8(record.bytes().to_vec()).unwrap();
        assert!(text.starts_with("{\"v\":1,\"id\":\"00000000-0000-0000-0000-000000000007\""), "{text}");
        let back = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(back.user().publish, new.publish);
        assert!(Record::parse(text.replace("\"v\":1", "\"v\":2").as_bytes()).is_err());
    }
}
