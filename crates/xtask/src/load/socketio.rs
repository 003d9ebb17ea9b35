//! Figures of Socket.IO: what its frames cost beside a plain WebSocket's, and that a burst cuts nobody off.

use super::figures::DELIVERY;
use super::meter::Call;
use super::row::Row;
use super::stage::{Server, Stage};
use anyhow::{Context, Result};

/// The generator answers no pings: none are due while it measures.
const SETTINGS: &str = "[socketio]\nping_ms = 3600000\n";

fn server(stage: &Stage) -> Result<Server> {
    let settings = stage.fresh_path("tidings.toml");
    std::fs::write(&settings, SETTINGS)?;
    stage.server_with(&["--config", settings.to_str().context("a path in UTF-8")?])
}

/// Clients that are in and subscribed to `t`, over a WebSocket from the beginning.
fn subscribing(call: Call, server: &Server) -> Call {
    call.with("proto", "ws")
        .with("path", "/socket.io/?EIO=4&transport=websocket")
        .with("send", format!(r#"40{{"token":"{}"}}"#, server.token))
        .with("send", r#"421["subscribe",{"topic":"t"}]"#)
        .with("ready", "431[")
}

pub fn fan(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = (server(stage)?, stage.yardstick()?);
    let call = Call::new("fan", "socketio-fan").server(&server).beside(&yardstick).runs(stage);
    let call = subscribing(call.publishing(&server, "t"), &server);
    let found = call.with("subs", 1000).with("rate", 50).run(stage)?;
    Ok(vec![found.cost_row(DELIVERY, 1.8), found.latency_row(1.3)])
}

pub fn burst(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = (server(stage)?, stage.yardstick()?);
    let call = Call::new("fan", "socketio-burst").server(&server).beside(&yardstick).runs(stage);
    let call = subscribing(call.publishing(&server, "t"), &server);
    let found = call.with("subs", 1000).with("window", 16).with("pub-conns", 4).run(stage)?;
    Ok(vec![found.cost_row(DELIVERY, 1.8)])
}
