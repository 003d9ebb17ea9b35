//! What can be set for the doors.

use crate::Rates;
use crate::dialect::entity_sync::EntitySync;
use crate::dialect::esink::Esink;
use crate::grpc;
use crate::phoenix::Phoenix;
use crate::socketio::SocketIo;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tidings_engine::inbound::InboundSettings;

/// Settings under `[http]`. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Origins of browser pages that may call; `*` allows all. None are allowed by default.
    #[serde(deserialize_with = "crate::origins::read")]
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` says where a request comes from.
    pub proxies: Vec<IpAddr>,
    /// Serve TLS with these files; they are read anew when they change.
    pub tls: Option<TlsFiles>,
    /// The cookie that an EventSource may carry its token in, on GET streams from an allowed origin.
    pub cookie: String,
    /// Whether `/metrics` is shown without an admin's token.
    pub metrics_public: bool,
    /// Silence after which a stream is sent a comment or a ping.
    pub ping_ms: u64,
    /// How long after only filtered-out events have passed the cursor is sent alone.
    pub heartbeat_ms: u64,
    /// On shutdown: how long streams may take to end and requests to finish.
    pub drain_ms: u64,
    /// On shutdown clients are told to come back after a time spread evenly up to this.
    pub retry_spread_ms: u64,
    /// entity-sync's door; set under `[entities]`.
    #[serde(skip)]
    pub entity_sync: EntitySync,
    /// The gRPC door; set under `[grpc]`.
    #[serde(skip)]
    pub grpc: grpc::config::Config,
    /// How often callers may call; set under `[rates]`.
    #[serde(skip)]
    pub rates: Rates,
    /// Whether EventRelay's HTTP interface is there; set under `[eventrelay]`.
    #[serde(skip, default = "yes")]
    pub eventrelay: bool,
    /// Inbound webhooks; set under `[inbound]`.
    #[serde(skip)]
    pub inbound: InboundSettings,
    /// Phoenix channels; set under `[phoenix]`.
    #[serde(skip)]
    pub phoenix: Phoenix,
    /// Whether Broker's interface is there; set under `[broker]`.
    #[serde(skip, default = "yes")]
    pub broker: bool,
    /// Socket.IO's door and Esink's interface; set under `[socketio]` and `[esink]`.
    #[serde(skip)]
    pub socketio: SocketIo,
    #[serde(skip)]
    pub esink: Esink,
}

fn yes() -> bool {
    true
}

/// Certificate chain and private key in PEM form.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            origins: Vec::new(),
            proxies: Vec::new(),
            tls: None,
            cookie: "tidings_token".into(),
            metrics_public: false,
            ping_ms: 30_000,
            heartbeat_ms: 15_000,
            drain_ms: 10_000,
            retry_spread_ms: 3_000,
            entity_sync: EntitySync::default(),
            grpc: Default::default(),
            rates: Rates::default(),
            eventrelay: true,
            inbound: InboundSettings::default(),
            phoenix: Phoenix::default(),
            broker: true,
            socketio: SocketIo::default(),
            esink: Esink::default(),
        }
    }
}
