//! Figures of gRPC, each beside the same work over HTTP or a WebSocket.

use super::figures::pair;
use super::meter::{Call, growth};
use super::row::{Row, Target};
use super::stage::{Server, Stage};
use anyhow::Result;

fn header(server: &Server) -> String {
    format!("Authorization: Bearer {}", server.token)
}

/// A unary publish may cost this much of one over HTTP.
pub fn publish(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let call = |label| {
        let call = Call::new("pub", label).server(&server).beside(&yardstick).runs(stage);
        call.publishing(&server, "t").with("conns", 64)
    };
    let http = call("publish over HTTP").run(stage)?;
    let rpc = call("publish over gRPC").with("pub-rpc", "t").run(stage)?;
    Ok(vec![growth("grpc-publish", &http, &rpc, 1.3)])
}

fn measure(stage: &Stage, server: &Server, what: &str, least: f64) -> Result<Row> {
    let call = Call::new("rpc", format!("grpc-{what}")).server(server).runs(stage).with("what", what);
    let found = call.with("pub-header", header(server)).run(stage)?;
    Ok(found.row("events/s", "per_s", "", "", Target::AtLeast(least)))
}

pub fn stream(stage: &Stage) -> Result<Vec<Row>> {
    let server = stage.server()?;
    let mut row = measure(stage, &server, "stream", 150_000.0)?;
    if server.tail("t")? == 0 {
        row.faults.push("nothing in the log".into());
    }
    Ok(vec![row])
}

/// Pages of a topic that holds more than the server keeps in memory.
pub fn pull(stage: &Stage) -> Result<Vec<Row>> {
    let server = stage.server()?;
    let count = if stage.is_quick { 100_000 } else { 1_000_000 };
    let fill = Call::new("stream", "filling").server(&server).publishing(&server, "t").with("runs", 1);
    fill.with("count", count).run(stage)?;
    Ok(vec![measure(stage, &server, "pull", 500_000.0)?])
}

pub fn fan(stage: &Stage) -> Result<Vec<Row>> {
    let run = |label: &str, protocol: &str| {
        let (server, yardstick) = pair(stage)?;
        let call = super::figures::fan(stage, &server, &yardstick, label, protocol);
        call.with("subs", 1000).with("rate", 50).run(stage)
    };
    let (ws, grpc) = (run("deliveries over WebSockets", "ws")?, run("deliveries over gRPC", "grpc")?);
    Ok(vec![growth("grpc-fan", &ws, &grpc, 2.0)])
}
