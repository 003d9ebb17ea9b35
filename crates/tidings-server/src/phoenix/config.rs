//! What can be set for Phoenix channels.

use serde::{Deserialize, Serialize};

/// Settings under `[phoenix]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phoenix {
    /// Whether `/socket/websocket` is there.
    pub enabled: bool,
    /// A client that sends nothing for so long, not even a heartbeat, is taken for gone. Milliseconds.
    pub silence_ms: u64,
}

impl Default for Phoenix {
    fn default() -> Self {
        Self { enabled: true, silence_ms: 60_000 }
    }
}
