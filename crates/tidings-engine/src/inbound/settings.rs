//! What can be set for inbound webhooks.

use serde::{Deserialize, Serialize};

/// Settings under `[inbound]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InboundSettings {
    /// Inbound webhooks that may exist.
    pub max: usize,
    /// Messages that each may bring at once, and in the long run; 0 for either does not bound.
    pub burst: u32,
    pub per_minute: u32,
}

impl Default for InboundSettings {
    fn default() -> Self {
        Self { max: 10_000, burst: 1000, per_minute: 60_000 }
    }
}
