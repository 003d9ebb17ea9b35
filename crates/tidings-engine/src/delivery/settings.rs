//! What an admin says about a destination, and what the server says about all webhooks.
//!
//! Owns: names and meaning of the fields, as they are sent and stored. Never: checks them; see `destination`.

use super::secret::SigningSecret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A way out, as an admin describes it. Only `name`, `kind` and `topic` are needed, with `url` for a webhook and
/// `target` for a topic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DestinationSettings {
    pub name: Box<str>,
    pub kind: Kind,
    /// `topic` or `topic:key`.
    pub topic: Box<str>,
    /// An expression; events that do not match pass it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Box<str>>,
    /// Nothing is sent while this is set; what was not sent yet follows afterwards.
    pub paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_key: Option<Box<str>>,
    /// Where a webhook goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Box<str>>,
    /// Further headers of a webhook.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<Box<str>, Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Box<str>>,
    #[serde(skip_serializing_if = "is_usual")]
    pub format: Format,
    /// A webhook is signed with each of them. One is made up where none is given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SigningSecret>,
    #[serde(skip_serializing_if = "is_usual")]
    pub order: Order,
    #[serde(skip_serializing_if = "is_usual")]
    pub on_dead: OnDead,
    /// The same as under `[webhooks]`, for this one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_base_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_max_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_private_addresses: Option<bool>,
    /// How long a queue lends an event to one consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Where a topic destination copies events to: `topic`, which keeps the event's key, or `topic:key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<str>>,
}

/// What becomes of an event at a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is posted to a URL.
    #[default]
    Webhook,
    /// It is pushed to connections that join.
    Websocket,
    /// It waits until one of several consumers takes it.
    #[serde(alias = "api")]
    Queue,
    /// It is copied to another topic.
    Topic,
}

/// What waits for what at a webhook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Each event for all before it.
    #[default]
    Topic,
    /// Each event for those of its key.
    Key,
    /// Nothing for anything.
    None,
}

/// What follows when an event could not be delivered at last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDead {
    /// The events behind it.
    #[default]
    GoOn,
    /// Nothing, until it is replayed.
    Hold,
}

/// The form of a webhook's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `timestamp`, `type`, and `data` with the whole event under EventRelay's names.
    #[default]
    EventRelay,
    /// A CloudEvent (structured, JSON).
    CloudEvents,
    /// The event as every other door of Tidings has it.
    Event,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Websocket => "websocket",
            Self::Queue => "queue",
            Self::Topic => "topic",
        }
    }
}

/// Settings under `[webhooks]`: what holds where a destination says nothing else. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// The wait after the first failed attempt; it doubles with each further one.
    pub retry_base_ms: u64,
    /// The longest wait between two attempts.
    pub retry_max_ms: u64,
    /// Attempts after which a delivery is dead.
    pub max_attempts: u32,
    /// How long a receiver may take to answer.
    pub timeout_ms: u64,
    /// Attempts at once for one destination whose order allows it.
    pub parallel: u16,
    /// Whether receivers may lie in networks that only this server reaches.
    pub allow_private_addresses: bool,
    /// How long a queue lends an event to one consumer.
    pub lease_ms: u64,
    /// Whether what was delivered is kept in `$deliveries`; what failed always is.
    pub history: bool,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            retry_base_ms: 1000,
            retry_max_ms: 3_600_000,
            max_attempts: 20,
            timeout_ms: 15_000,
            parallel: 32,
            allow_private_addresses: false,
            lease_ms: 30_000,
            history: true,
        }
    }
}
