//! A destination: what was said about it, checked, and its stored form.
//!
//! Owns: which descriptions make sense. Never: touches the log.

use super::address::is_private;
use super::refusal::DestinationError;
use super::secret::SigningSecret;
use super::settings::{DestinationSettings, Kind, OnDead, Order, WebhookSettings};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use tidings_model::{Filter, Timestamp, Topic, Uuid};
use url::{Host, Url};

/// Characters of a name.
const NAME_CHARS: RangeInclusive<usize> = 3..=255;
/// Longest URL, header value and the like.
const TEXT_BYTES_MAX: usize = 2048;
const HEADERS_MAX: usize = 32;
/// Secrets that sign at once.
const SECRETS_MAX: usize = 8;
const VERSION: u32 = 1;

/// What was delivered is not a thing to deliver: each delivery would make another.
const DELIVERIES: &str = "$deliveries";
/// Headers that are the server's own.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A stored way out. Cheap to share, never changed in place.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: Uuid,
    pub created_at: Timestamp,
    pub topic: Topic,
    /// What passes, the key of `topic` included.
    pub filter: Filter,
    /// Where a topic destination copies to.
    pub target: Option<Topic>,
    pub settings: DestinationSettings,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    id: Uuid,
    created_at: Timestamp,
    #[serde(flatten)]
    settings: DestinationSettings,
}

impl Destination {
    /// A destination of what was said, if that makes sense under `rules`.
    pub(super) fn check(
        id: Uuid,
        created_at: Timestamp,
        settings: DestinationSettings,
        rules: &WebhookSettings,
    ) -> Result<Self, DestinationError> {
        let own = Self::of(id, created_at, settings)?;
        let DestinationSettings { name, kind, group_key, user_agent, headers, secrets, .. } = &own.settings;
        if !NAME_CHARS.contains(&name.chars().count()) || name.len() > TEXT_BYTES_MAX || !is_text(name) {
            return Err(invalid(
                "name",
                "3 to 255 characters without control characters or blanks at an end",
            ));
        }
        if own.topic.name.as_str() == DELIVERIES {
            return Err(invalid("topic", "what becomes of deliveries is not delivered"));
        }
        if group_key.as_ref().is_some_and(|text| text.len() > 255 || !is_text(text)) {
            return Err(invalid("group_key", "at most 255 bytes without control characters"));
        }
        match (kind, own.settings.url.as_deref()) {
            (Kind::Webhook, Some(url)) => check_url(url, own.allows_private(rules))?,
            (Kind::Webhook, None) => return Err(invalid("url", "a webhook needs one")),
            (_, Some(_)) => return Err(invalid("url", "only a webhook has one")),
            (_, None) => {}
        }
        match (kind, &own.target) {
            (Kind::Topic, None) => return Err(invalid("target", "a topic destination needs one")),
            (Kind::Topic, Some(target)) if target.name.is_system() => {
                return Err(invalid("target", "a system topic takes no events from outside"));
            }
            (Kind::Topic, Some(target)) if target.name == own.topic.name => {
                return Err(invalid("target", "a topic is not copied to itself"));
            }
            (Kind::Topic, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(invalid("target", "only a topic destination has one")),
        }
        if headers.len() > HEADERS_MAX || headers.iter().any(|(name, value)| !is_header(name, value)) {
            return Err(invalid(
                "headers",
                "at most 32, of letters, digits and `-`, not those Tidings sets itself",
            ));
        }
        if user_agent.as_ref().is_some_and(|text| !is_header_value(text)) {
            return Err(invalid("user_agent", "visible ASCII characters"));
        }
        if secrets.len() > SECRETS_MAX || secrets.iter().any(|secret| !secret.is_valid()) {
            return Err(invalid("secrets", format!("at most {SECRETS_MAX}; {}", SigningSecret::FORM)));
        }
        let DestinationSettings { retry_base_ms, retry_max_ms, max_attempts, timeout_ms, .. } = own.settings;
        within("retry_base_ms", retry_base_ms, 1..=86_400_000)?;
        within("retry_max_ms", retry_max_ms, 1..=86_400_000)?;
        within("max_attempts", max_attempts.map(u64::from), 1..=1000)?;
        within("timeout_ms", timeout_ms, 10..=120_000)?;
        within("parallel", own.settings.parallel.map(u64::from), 1..=256)?;
        within("lease_ms", own.settings.lease_ms, 10..=86_400_000)?;
        Ok(own)
    }

    fn of(id: Uuid, created_at: Timestamp, settings: DestinationSettings) -> Result<Self, DestinationError> {
        let address = |field, text: &str| {
            let parsed = Topic::parse(text).or_else(|_| captured(text));
            parsed.map_err(|error| invalid(field, error.to_string()))
        };
        let topic = address("topic", &settings.topic)?;
        let target = settings.target.as_deref().map(|text| address("target", text)).transpose()?;
        let filter = settings.filter.as_deref().map(Filter::parse).transpose();
        let filter = filter.map_err(|error| invalid("filter", error.to_string()))?.unwrap_or_default();
        let filter = filter.with_key(topic.key.clone());
        Ok(Self { id, created_at, topic, filter, target, settings })
    }

    pub(super) fn bytes(&self) -> Bytes {
        let Self { id, created_at, settings, .. } = self;
        let stored = Stored { v: VERSION, id: *id, created_at: *created_at, settings: settings.clone() };
        serde_json::to_vec(&stored).expect("plain fields").into()
    }

    /// Reads what [`Destination::bytes`] wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // Fields behind `flatten` are not refused by name, so the version is what tells of later forms.
        let mut all: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if all.remove("v") != Some(VERSION.into()) {
            return Err("it was written by another version".into());
        }
        let mut take = |name| all.remove(name).ok_or_else(|| format!("no `{name}`"));
        let (id, created_at) = (take("id")?, take("created_at")?);
        let fault = |error: serde_json::Error| error.to_string();
        let id = serde_json::from_value(id).map_err(fault)?;
        let created_at = serde_json::from_value(created_at).map_err(fault)?;
        let settings = serde_json::from_value(all.into()).map_err(fault)?;
        Self::of(id, created_at, settings).map_err(|error| error.to_string())
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    pub fn is_paused(&self) -> bool {
        self.settings.paused
    }

    /// What holds for this one: its own settings over the server's.
    pub fn policy(&self, rules: &WebhookSettings) -> Policy {
        let own = &self.settings;
        Policy {
            order: own.order,
            on_dead: own.on_dead,
            retry_base_ms: own.retry_base_ms.unwrap_or(rules.retry_base_ms).max(1),
            retry_max_ms: own.retry_max_ms.unwrap_or(rules.retry_max_ms).max(1),
            max_attempts: own.max_attempts.unwrap_or(rules.max_attempts).max(1),
            timeout_ms: own.timeout_ms.unwrap_or(rules.timeout_ms).max(1),
            parallel: match own.order {
                Order::Topic => 1,
                Order::Key | Order::None => usize::from(own.parallel.unwrap_or(rules.parallel).max(1)),
            },
            allow_private: self.allows_private(rules),
        }
    }

    /// How long a queue lends an event.
    pub fn lease_ms(&self, rules: &WebhookSettings) -> u64 {
        self.settings.lease_ms.unwrap_or(rules.lease_ms)
    }

    fn allows_private(&self, rules: &WebhookSettings) -> bool {
        self.settings.allow_private_addresses.unwrap_or(rules.allow_private_addresses)
    }
}

/// What holds for the deliveries of one webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub order: Order,
    pub on_dead: OnDead,
    pub retry_base_ms: u64,
    pub retry_max_ms: u64,
    pub max_attempts: u32,
    pub timeout_ms: u64,
    /// Attempts at once.
    pub parallel: usize,
    pub allow_private: bool,
}

fn invalid(field: &'static str, why: impl Into<String>) -> DestinationError {
    DestinationError::invalid(field, why)
}

/// A topic that a source made may have a longer name.
fn captured(text: &str) -> Result<Topic, tidings_model::TopicError> {
    let (name, key) = text.split_once(':').map_or((text, None), |(name, key)| (name, Some(key)));
    let name = tidings_model::TopicName::parse_captured(name)?;
    Ok(Topic { name, key: key.map(tidings_model::Key::parse).transpose()? })
}

fn within(
    field: &'static str,
    value: Option<u64>,
    range: RangeInclusive<u64>,
) -> Result<(), DestinationError> {
    match value {
        Some(value) if !range.contains(&value) => {
            Err(invalid(field, format!("from {} to {}", range.start(), range.end())))
        }
        _ => Ok(()),
    }
}

fn is_text(text: &str) -> bool {
    text.trim() == text && !text.chars().any(char::is_control)
}

fn is_header(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let is_own = OWN_HEADERS.contains(&&*lower)
        || ["webhook-", "x-event-relay-"].iter().any(|prefix| lower.starts_with(prefix));
    is_token && name.len() <= 128 && !is_own && is_header_value(value)
}

fn is_header_value(value: &str) -> bool {
    value.len() <= TEXT_BYTES_MAX && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
}

/// Whether a webhook may go to that URL, as far as it can be said without looking up its name.
fn check_url(text: &str, allow_private: bool) -> Result<(), DestinationError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid("url", format!("at most {TEXT_BYTES_MAX} bytes")));
    }
    let url = Url::parse(text).map_err(|error| invalid("url", error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("url", "it begins with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("url", "credentials belong into a header, where nobody sees them"));
    }
    let is_private = match url.host() {
        Some(Host::Ipv4(v4)) => is_private(v4.into()),
        Some(Host::Ipv6(v6)) => is_private(v6.into()),
        Some(Host::Domain(name)) => is_local(name),
        None => return Err(invalid("url", "it has no host")),
    };
    if is_private && !allow_private {
        return Err(invalid("url", "a private address; `allow_private_addresses` would allow it"));
    }
    Ok(())
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(fields: Value) -> Result<Destination, DestinationError> {
        let mut all = json!({ "name": "hook", "topic": "users:1", "url": "https://example.com/in" });
        let fields = fields.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(fields);
        let settings = serde_json::from_value(all).unwrap();
        Destination::check(Uuid::from_u128(1), Timestamp::default(), settings, &WebhookSettings::default())
    }

    #[test]
    fn a_description_that_makes_sense_is_stored_and_read_back() {
        let own = made(json!({ "filter": "data.total > 1", "max_attempts": 3, "order": "key" })).unwrap();
        let again = Destination::parse(&own.bytes()).unwrap();
        assert_eq!((again.id, &again.settings, &again.topic), (own.id, &own.settings, &own.topic));
        assert_eq!(again.filter, own.filter);
        assert_eq!(own.policy(&WebhookSettings::default()).max_attempts, 3);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        for (fields, field) in [
            (json!({ "name": "ab" }), "name"),
            (json!({ "name": "a".repeat(256) }), "name"),
            (json!({ "topic": "*" }), "topic"),
            (json!({ "topic": "$deliveries" }), "topic"),
            (json!({ "filter": "data.total >" }), "filter"),
            (json!({ "url": null }), "url"),
            (json!({ "url": "ftp://example.com" }), "url"),
            (json!({ "url": "http://127.0.0.1:9/" }), "url"),
            (json!({ "url": "http://[::ffff:10.0.0.1]/" }), "url"),
            (json!({ "url": "http://2130706433/" }), "url"),
            (json!({ "url": "http://LocalHost./" }), "url"),
            (json!({ "url": "https://me:secret@example.com/" }), "url"),
            (json!({ "kind": "queue" }), "url"),
            (json!({ "kind": "topic", "url": null }), "target"),
            (json!({ "kind": "topic", "url": null, "target": "users:2" }), "target"),
            (json!({ "kind": "topic", "url": null, "target": "$x" }), "target"),
            (json!({ "headers": { "webhook-id": "1" } }), "headers"),
            (json!({ "headers": { "x": "a\nb" } }), "headers"),
            (json!({ "secrets": ["short"] }), "secrets"),
            (json!({ "max_attempts": 0 }), "max_attempts"),
        ] {
            let error = made(fields.clone()).unwrap_err();
            assert!(
                matches!(&error, DestinationError::Invalid { field: f, .. } if *f == field),
                "{fields}: {error}"
            );
        }
        assert!(made(json!({ "url": "http://127.0.0.1:9/", "allow_private_addresses": true })).is_ok());
    }
}
