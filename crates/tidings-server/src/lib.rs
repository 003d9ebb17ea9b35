//! The doors of Tidings: HTTP, SSE, WebSocket and gRPC over one port.
//!
//! Owns: sockets, frames, statuses. A door decodes, calls the engine, encodes; it decides nothing about
//! events. Never: reads the environment, installs a subscriber for logs, or exits.

mod answers;
mod caller;
mod coarse;
mod config;
mod conn;
mod dialect;
mod door;
mod fan;
mod gate;
mod grpc;
mod handover;
mod http;
mod http2;
mod lane;
mod listen;
mod looks;
mod metrics;
#[cfg(test)]
mod mutated;
mod origins;
mod phoenix;
mod rates;
mod refusal;
mod round;
mod socketio;
mod sse;
mod stream;
mod tls;
mod transport;
mod turn;
mod upgrade;
mod wire;
mod ws;

pub use config::{Config, TlsFiles};
pub use dialect::entity_sync::{Auth as EntityAuth, EntitySync};
pub use dialect::esink::{Esink, SecurityToken};
pub use door::Door;
pub use grpc::config::Config as GrpcConfig;
pub use listen::{BindError, Server};
pub use metrics::Metrics;
pub use phoenix::Phoenix;
pub use rates::{Call, Meter, Rate, Rates};
pub use socketio::SocketIo;

use axum::middleware::Next;

/// What a program with a listener of its own nests.
pub use axum::Router;

/// All doors as a router. Connections, TLS and their bounds are the listener's whose router this is part of.
pub fn router(door: Door) -> Router {
    let router = http::router(door.clone());
    if !door.config.grpc.is_shared() {
        return router;
    }
    let grpc = grpc::Grpc::new(door);
    router.layer(axum::middleware::from_fn(move |request: axum::extract::Request, next: Next| {
        let grpc = grpc.clone();
        async move {
            if grpc::Grpc::is_call(&request) { grpc.call(request).await } else { next.run(request).await }
        }
    }))
}
