//! What is stored of an inbound webhook.
//!
//! Owns: its form, and its secrets: the password as a digest only, the signing secret as it is, since signatures
//! need it. Never: shows either after it was made.

use super::refusal::InboundError;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_model::{EventError, Timestamp, Topic, Uuid};

const VERSION: u8 = 1;

pub(super) const SIGNING_FORM: &str =
    "`signing_secret` is `whsec_` and 24 to 64 bytes in base64, or 32 to 128 plain characters";

/// How senders prove who they are, and what their bodies mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A key and a password (HTTP Basic); the whole body is the data.
    Webhook,
    /// A signature of Standard Webhooks; the body has a `type` and `data`.
    StandardWebhook,
}

/// An inbound webhook as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    pub id: Uuid,
    pub name: String,
    pub kind: Kind,
    pub topic: Topic,
    pub event_name: Option<String>,
    pub key: String,
    pub created_at: Timestamp,
}

/// An inbound webhook to be made. Secrets that are not given are drawn.
#[derive(Clone)]
pub struct NewInbound {
    pub name: String,
    pub kind: Kind,
    pub topic: Topic,
    pub event_name: Option<String>,
    pub key: Option<String>,
    pub secret: Option<String>,
    pub signing_secret: Option<String>,
}

/// What to change; an empty event name takes it away.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    pub name: Option<String>,
    pub topic: Option<Topic>,
    pub event_name: Option<String>,
}

/// The secret that goes with a kind, told once.
#[derive(Clone)]
pub struct Secrets {
    pub secret: Option<String>,
    pub signing_secret: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    v: u8,
    pub id: Uuid,
    pub name: String,
    pub kind: Kind,
    topic: String,
    pub event_name: Option<String>,
    pub key: String,
    /// SHA-256 of the password.
    digest: Option<String>,
    signing_secret: Option<String>,
    created_at: i64,
}

impl Record {
    pub fn new(new: NewInbound, id: Uuid, now: Timestamp) -> Result<(Self, Secrets), InboundError> {
        let event_name = new.event_name.filter(|name| !name.is_empty());
        check_text("name", &new.name)?;
        check_event_name(event_name.as_deref())?;
        let is_visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let key = new.key.unwrap_or_else(|| random(18));
        let is_key = (8..=128).contains(&key.len()) && is_visible(&key) && !key.contains(':');
        let is_secret = |text: &String| (24..=128).contains(&text.len()) && is_visible(text);
        if !is_key || !new.secret.as_ref().is_none_or(is_secret) {
            return Err(InboundError::Basic);
        }
        if new.signing_secret.as_deref().is_some_and(|text| signing_key(text).is_none()) {
            return Err(InboundError::Signing);
        }
        let mut record = Self {
            v: VERSION,
            id,
            name: new.name,
            kind: new.kind,
            topic: new.topic.to_string(),
            event_name,
            key,
            digest: None,
            signing_secret: None,
            created_at: now.as_millis(),
        };
        let secrets = record.keep(new.secret, new.signing_secret);
        Ok((record, secrets))
    }

    pub fn rotate(&mut self) -> Secrets {
        self.keep(None, None)
    }

    /// Takes on these secrets, or new ones.
    fn keep(&mut self, secret: Option<String>, signing: Option<String>) -> Secrets {
        match self.kind {
            Kind::Webhook => {
                let secret = secret.unwrap_or_else(|| random(32));
                self.digest = Some(digest_of(&secret));
                Secrets { secret: Some(secret), signing_secret: None }
            }
            Kind::StandardWebhook => {
                let signing = signing.unwrap_or_else(|| format!("whsec_{}", STANDARD.encode(drawn::<32>())));
                self.signing_secret = Some(signing.clone());
                Secrets { secret: None, signing_secret: Some(signing) }
            }
        }
    }

    pub fn change(&mut self, patch: Patch) -> Result<(), InboundError> {
        if let Some(name) = patch.name {
            check_text("name", &name)?;
            self.name = name;
        }
        if let Some(topic) = patch.topic {
            self.topic = topic.to_string();
        }
        if let Some(name) = patch.event_name {
            let name = Some(name).filter(|name| !name.is_empty());
            check_event_name(name.as_deref())?;
            self.event_name = name;
        }
        Ok(())
    }

    /// Reads a stored one; a text says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if record.v != VERSION {
            return Err(format!("version {} is not known", record.v));
        }
        record.topic().map_err(|e| e.to_string())?;
        Ok(record)
    }

    pub fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain fields").into()
    }

    pub fn topic(&self) -> Result<Topic, EventError> {
        Ok(Topic::parse(&self.topic)?)
    }

    /// Where the password's digest is, if it has one.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The bytes that signatures are made with.
    pub fn signing_key(&self) -> Option<Vec<u8>> {
        signing_key(self.signing_secret.as_deref()?)
    }

    pub fn inbound(&self) -> Inbound {
        Inbound {
            id: self.id,
            name: self.name.clone(),
            kind: self.kind,
            topic: self.topic().expect("checked when it was read"),
            event_name: self.event_name.clone(),
            key: self.key.clone(),
            created_at: Timestamp::from_millis(self.created_at).unwrap_or_default(),
        }
    }
}

pub(super) fn digest_of(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, secret.as_bytes()))
}

fn signing_key(text: &str) -> Option<Vec<u8>> {
    if let Some(base64) = text.strip_prefix("whsec_") {
        return STANDARD.decode(base64).ok().filter(|key| (24..=64).contains(&key.len()));
    }
    let is_plain = (32..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_plain.then(|| text.as_bytes().to_vec())
}

fn check_text(field: &'static str, text: &str) -> Result<(), InboundError> {
    let is_good = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    if is_good { Ok(()) } else { Err(InboundError::Text { field }) }
}

fn check_event_name(name: Option<&str>) -> Result<(), InboundError> {
    let Some(name) = name else { return Ok(()) };
    check_text("event_name", name)?;
    if name.starts_with('$') { Err(InboundError::NameReserved) } else { Ok(()) }
}

fn random(bytes: usize) -> String {
    URL_SAFE_NO_PAD.encode(&drawn::<32>()[..bytes])
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}
