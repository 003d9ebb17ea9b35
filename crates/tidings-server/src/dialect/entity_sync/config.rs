//! What can be set for entity-sync's door.

use serde::{Deserialize, Serialize};

/// Settings of the door. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntitySync {
    /// Whether the door is there.
    pub enabled: bool,
    /// Where it is.
    pub path: String,
    /// Who may subscribe.
    pub auth: Auth,
    /// Origins of browser pages that may connect beside this server's own and `http.origins`; `*` allows all.
    #[serde(deserialize_with = "crate::origins::read")]
    pub origins: Vec<String>,
    /// Largest message of a client.
    pub message_bytes: usize,
    /// How often a client is sent a ping, and how long nothing may be heard from it.
    pub ping_ms: u64,
    pub pong_ms: u64,
    /// A write that makes no progress for this long ends the connection.
    pub write_timeout_ms: u64,
    /// How long a message that is passed through may take.
    pub pass_through_timeout_ms: u64,
}

/// What a client's secret is to the door.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Opaque: anybody may subscribe, and the resolver decides.
    #[default]
    None,
    /// A token of this server. What it does not grant is not sent, and the connection ends with it.
    Jwt,
}

impl Default for EntitySync {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/ws/entity-sync/".into(),
            auth: Auth::None,
            origins: Vec::new(),
            message_bytes: 64 << 10,
            ping_ms: 54_000,
            pong_ms: 60_000,
            write_timeout_ms: 10_000,
            pass_through_timeout_ms: 10_000,
        }
    }
}

impl EntitySync {
    /// Why the path cannot be taken.
    pub fn complaint(&self) -> Option<String> {
        let path = &self.path;
        if !self.enabled {
            return None;
        }
        if !path.starts_with('/') || path.contains(['{', '}', '*', '?', '#', ' ']) {
            return Some("a path begins with / and is plain text".into());
        }
        let is_taken = path.starts_with("/v1/") || crate::http::is_route(path);
        is_taken.then(|| format!("{path} is the path of another door"))
    }
}
