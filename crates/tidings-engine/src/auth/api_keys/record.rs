//! An API key: what is stored, what others may know, and its rules.
//!
//! Owns: the stored form (versioned JSON). A secret has 256 random bits, so that its plain SHA-256 cannot be
//! turned back. Never: touches the log, or holds a secret longer than it takes to compare it.

use super::ApiKeyError;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tidings_model::{Destinations, Grant, Grants, KeyKind, Timestamp, Uuid};

const NAME_BYTES_MAX: usize = 255;
const SECRET_BYTES: usize = 32;
const VERSION: u32 = 1;

/// An API key as others may know it.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: Uuid,
    /// The public half of the credentials.
    pub key: String,
    pub name: String,
    pub kind: KeyKind,
    /// A word of the operator's own; it grants nothing.
    pub group_key: Option<String>,
    pub publish: Grants,
    pub subscribe: Grants,
    pub destinations: Destinations,
    pub created_at: Timestamp,
    pub revoked: bool,
}

/// An API key to be.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub name: String,
    pub kind: KeyKind,
    pub group_key: Option<String>,
    pub publish: Grants,
    pub subscribe: Grants,
    pub destinations: Destinations,
}

impl NewApiKey {
    /// A key that has nothing yet.
    pub fn new(name: impl Into<String>, kind: KeyKind) -> Self {
        let (publish, subscribe) = (Grants::none(), Grants::none());
        let destinations = Destinations::default();
        Self { name: name.into(), kind, group_key: None, publish, subscribe, destinations }
    }
}

/// What a key gets instead of what it had; an absent field stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ApiKeyPatch {
    pub publish: Option<Grants>,
    pub subscribe: Option<Grants>,
    pub destinations: Option<Destinations>,
}

/// A new key with its secret, which nobody can show again.
#[derive(Clone)]
pub struct IssuedApiKey {
    pub key: ApiKey,
    pub secret: String,
}

impl IssuedApiKey {
    /// What follows `Authorization: Bearer`: `key:secret` in base64.
    pub fn token(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.key.key, self.secret))
    }
}

impl std::fmt::Debug for IssuedApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} (secret)", self.key)
    }
}

/// The id and the secret that a token names, if it has the form of an API key's.
pub fn open(token: &str) -> Option<(Uuid, String)> {
    /// Clients differ in whether they pad.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    // A JWT has points, base64 has none.
    if token.len() > 4096 || token.contains('.') {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
    let (key, secret) = text.split_once(':')?;
    let id: Uuid = key.parse().ok().filter(|id: &Uuid| id.simple().to_string() == key)?;
    Some((id, secret.to_owned()))
}

/// A key as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    pub id: Uuid,
    pub name: String,
    pub kind: KeyKind,
    /// SHA-256 of the secret, in base64.
    digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    publish: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    subscribe: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    destinations: Vec<Uuid>,
    /// Milliseconds since 1970.
    created_at: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
}

impl Record {
    /// The record of a new key, and its secret.
    pub fn issue(new: NewApiKey, now: Timestamp) -> Result<(Self, String), ApiKeyError> {
        check_text("name", &new.name)?;
        if let Some(group_key) = &new.group_key {
            check_text("group_key", group_key)?;
        }
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|_| ApiKeyError::Randomness)?;
        let secret = URL_SAFE_NO_PAD.encode(random);
        let mut record = Self {
            v: VERSION,
            id: Uuid::new_v4(),
            name: new.name,
            kind: new.kind,
            digest: digest(&secret),
            group_key: new.group_key,
            publish: Vec::new(),
            subscribe: Vec::new(),
            destinations: Vec::new(),
            created_at: now.as_millis(),
            revoked: false,
        };
        record.set_publish(&new.publish)?;
        record.set_subscribe(&new.subscribe)?;
        record.set_destinations(&new.destinations)?;
        Ok((record, secret))
    }

    /// Reads a stored key; a text says what is wrong with it.
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

    /// Whether `secret` is this key's, in the same time whatever it is.
    pub fn is_secret(&self, secret: &str) -> bool {
        digest(secret).as_bytes().ct_eq(self.digest.as_bytes()).into()
    }

    pub fn set_publish(&mut self, grants: &Grants) -> Result<(), ApiKeyError> {
        if !grants.is_empty() && !self.kind.produces() {
            return Err(ApiKeyError::Kind { kind: self.kind, what: "topics to publish to" });
        }
        self.publish = texts(grants)?;
        Ok(())
    }

    pub fn set_subscribe(&mut self, grants: &Grants) -> Result<(), ApiKeyError> {
        if !grants.is_empty() && !self.kind.consumes() {
            return Err(ApiKeyError::Kind { kind: self.kind, what: "topics to subscribe to" });
        }
        self.subscribe = texts(grants)?;
        Ok(())
    }

    pub fn set_destinations(&mut self, ids: &Destinations) -> Result<(), ApiKeyError> {
        if !ids.is_empty() && !self.kind.consumes() {
            return Err(ApiKeyError::Kind { kind: self.kind, what: "destinations" });
        }
        if ids.len() > Destinations::MAX {
            return Err(ApiKeyError::TooMany { max: Destinations::MAX });
        }
        self.destinations = ids.iter().collect();
        Ok(())
    }

    pub fn publish(&self) -> Grants {
        grants(&self.publish)
    }

    pub fn subscribe(&self) -> Grants {
        grants(&self.subscribe)
    }

    pub fn destinations(&self) -> Destinations {
        self.destinations.iter().copied().collect()
    }

    pub fn api_key(&self) -> ApiKey {
        ApiKey {
            id: self.id,
            key: self.id.simple().to_string(),
            name: self.name.clone(),
            kind: self.kind,
            group_key: self.group_key.clone(),
            publish: self.publish(),
            subscribe: self.subscribe(),
            destinations: self.destinations(),
            created_at: Timestamp::default().plus_millis(self.created_at),
            revoked: self.revoked,
        }
    }
}

fn digest(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

pub(super) fn check_text(field: &'static str, text: &str) -> Result<(), ApiKeyError> {
    let is_plain = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    if is_plain && text.len() <= NAME_BYTES_MAX { Ok(()) } else { Err(ApiKeyError::Text { field }) }
}

fn texts(grants: &Grants) -> Result<Vec<String>, ApiKeyError> {
    if grants.len() > Grants::MAX {
        return Err(ApiKeyError::TooMany { max: Grants::MAX });
    }
    Ok(grants.iter().map(Grant::to_string).collect())
}

/// What was stored was checked; what cannot be read any more grants nothing.
fn grants(texts: &[String]) -> Grants {
    texts.iter().filter_map(|text| Grant::parse(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(kind: KeyKind) -> (Record, String) {
        Record::issue(NewApiKey::new("app", kind), Timestamp::default()).unwrap()
    }

    #[test]
    fn the_secret_is_compared_but_not_kept_and_the_token_leads_back_to_both() {
        let (record, secret) = issue(KeyKind::Producer);
        let stored = String::from_utf8(record.bytes().to_vec()).unwrap();
        assert!(!stored.contains(&secret));
        let back = Record::parse(stored.as_bytes()).unwrap();
        assert!(back.is_secret(&secret) && !back.is_secret("") && !back.is_secret(&secret[1..]));
        let issued = IssuedApiKey { key: back.api_key(), secret: secret.clone() };
        assert!(!format!("{issued:?}").contains(&secret));
        let token = issued.token();
        assert_eq!(open(&token), Some((record.id, secret.clone())));
        assert_eq!(open(token.trim_end_matches('=')), Some((record.id, secret)));
        let upper = STANDARD.encode(format!("{}:x", record.id.simple().to_string().to_uppercase()));
        for no_key in ["", "a.b.c", "????", &STANDARD.encode("no-colon"), &STANDARD.encode("x:y"), &upper] {
            assert_eq!(open(no_key), None, "{no_key}");
        }
    }

    #[test]
    fn each_kind_takes_only_what_it_can_use() {
        let (topic, ids) = (Grants::all(), [Uuid::from_u128(1)].into_iter().collect());
        for (kind, publishes, consumes) in [
            (KeyKind::Producer, true, false),
            (KeyKind::Consumer, false, true),
            (KeyKind::ProducerConsumer, true, true),
            (KeyKind::Admin, false, false),
        ] {
            let (mut record, _) = issue(kind);
            assert_eq!(record.set_publish(&topic).is_ok(), publishes, "{kind}");
            assert_eq!(record.set_subscribe(&topic).is_ok(), consumes, "{kind}");
            assert_eq!(record.set_destinations(&ids).is_ok(), consumes, "{kind}");
            assert!(record.set_publish(&Grants::none()).is_ok());
        }
        for bad in ["", " a", "a\n", &"x".repeat(256)] {
            let new = NewApiKey::new(bad, KeyKind::Producer);
            assert!(Record::issue(new, Timestamp::default()).is_err(), "{bad:?}");
        }
    }
}
