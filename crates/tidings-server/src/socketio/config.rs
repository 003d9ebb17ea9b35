//! What can be set for the Socket.IO door.

use serde::{Deserialize, Serialize};

/// Settings under `[socketio]`. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketIo {
    /// Whether the door is there.
    pub enabled: bool,
    /// Topics whose events every client gets as changes, as far as it may see them; captured topics beside.
    pub topics: Vec<String>,
    /// How often a client is asked whether it is there, and how long its answer may take.
    pub ping_ms: u64,
    pub pong_ms: u64,
    /// Largest message of a client, and largest body of its long polling.
    pub payload_bytes: usize,
    /// How long a client may take to show its token, and to change from long polling to a WebSocket.
    pub connect_ms: u64,
    pub upgrade_ms: u64,
    /// How often the tokens of connected clients are looked up again; a revoked one ends its connections.
    pub recheck_ms: u64,
}

impl Default for SocketIo {
    fn default() -> Self {
        Self {
            enabled: true,
            topics: Vec::new(),
            ping_ms: 25_000,
            pong_ms: 20_000,
            payload_bytes: 1_000_000,
            connect_ms: 45_000,
            upgrade_ms: 10_000,
            recheck_ms: 10_000,
        }
    }
}
