//! The doors of Tidings: HTTP, SSE and WebSocket over one port.
//!
//! Owns: sockets, frames, statuses. A door decodes, calls the engine, encodes; it decides nothing about
//! events. Never: reads the environment, installs a subscriber for logs, or exits.

mod caller;
mod coarse;
mod config;
mod conn;
mod dialect;
mod door;
mod fan;
mod gate;
mod handover;
mod http;
mod listen;
mod metrics;
mod refusal;
mod socketio;
mod sse;
mod stream;
mod tls;
mod upgrade;
mod wire;
mod ws;

pub use config::{Config, TlsFiles};
pub use dialect::entity_sync::{Auth as EntityAuth, EntitySync};
pub use dialect::esink::{Esink, SecurityToken};
pub use door::Door;
pub use listen::{BindError, Server};
pub use metrics::Metrics;
pub use socketio::SocketIo;

/// What a program with a listener of its own nests.
pub use axum::Router;

/// All doors as a router. Connections, TLS and their bounds are the listener's whose router this is part of.
pub fn router(door: Door) -> Router {
    http::router(door)
}
