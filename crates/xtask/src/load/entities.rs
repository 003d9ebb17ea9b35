//! Figures of entities: rows that follow a topic, so that each change carries its own time.
//!
//! From the publish to the frame at the client: one commit, one signal, one fetch, one delivery.

use super::figures::{DELIVERY, GROWTH_MAX, check_open_files, fan};
use super::meter::{Call, Found, growth};
use super::row::{Row, Target};
use super::stage::{Server, Stage};
use anyhow::{Context, Result, bail};

/// The entity `t` is the newest event of topic `t`.
const SETTINGS: &str = "[entities.t]\ntopic = \"t\"\n";

fn server(stage: &Stage, flags: &[&str]) -> Result<Server> {
    let settings = stage.fresh_path("tidings.toml");
    std::fs::write(&settings, SETTINGS)?;
    let mut all = vec!["--config", settings.to_str().context("a path in UTF-8")?];
    all.extend(flags);
    stage.server_with(&all)
}

/// Clients of entity `t` with this id, told when they are subscribed.
fn subscribing(call: Call, id: &str) -> Call {
    let frame = format!(r#"{{"action":"subscribe","body":{{"id":"{id}","entity":"t"}}}}"#);
    call.with("proto", "ws")
        .with("path", "/ws/entity-sync/?ack=1")
        .with("send", frame)
        .with("ready", "subscribed")
}

fn call(stage: &Stage, server: &Server, label: &str, topic: &str, id: &str) -> Call {
    let call = Call::new("fan", label).server(server).runs(stage).publishing(server, topic);
    subscribing(call, id)
}

/// Fetches so far.
fn fetches(server: &Server) -> Result<f64> {
    let metrics = server.text("/metrics")?;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("tidings_entity_fetches_total{entity=\"t\"} "));
    Ok(line.context("the fetches are counted")?.parse()?)
}

fn latency(found: &Found, ms_max: f64) -> Row {
    let mut row = found.row("ms p99", "p99_ms", "", "", Target::AtMost(ms_max));
    row.figure.push_str(" latency");
    row
}

pub fn one(stage: &Stage) -> Result<Vec<Row>> {
    let plain = {
        let (server, yardstick) = (stage.server()?, stage.yardstick()?);
        fan(stage, &server, &yardstick, "entities plain", "ws")
            .with("subs", 1000)
            .with("rate", 50)
            .run(stage)?
    };
    let (server, yardstick) = (server(stage, &[])?, stage.yardstick()?);
    let call = call(stage, &server, "entities-one", "t:1", "1").beside(&yardstick);
    let found = call.with("subs", 1000).with("rate", 50).run(stage)?;
    Ok(vec![
        found.cost_row(DELIVERY, 1.25),
        found.latency_row(1.3),
        growth("an entity against a plain WebSocket", &plain, &found, GROWTH_MAX),
    ])
}

pub fn many(stage: &Stage) -> Result<Vec<Row>> {
    check_open_files()?;
    let server = server(stage, &[])?;
    let call = call(stage, &server, "entities-10000", "t:1", "1");
    let found = call.with("subs", 10_000).with("rate", 5).run(stage)?;
    let mut row = found.row("fetches/change", "published", "", "", Target::AtMost(1.0));
    // Each run counts only itself, and noisy ones are not in the summary: the log has them all.
    row.tidings = fetches(&server)? / server.tail("t")? as f64;
    Ok(vec![row])
}

fn over(stage: &Stage, label: &str, flags: &[&str], ms_max: f64) -> Result<Vec<Row>> {
    check_open_files()?;
    let server = server(stage, flags)?;
    let call = call(stage, &server, label, "t:%N", "{n}").with("topics", 10_000).with("reach", 1);
    let found = call.with("subs", 10_000).with("rate", 1000).run(stage)?;
    Ok(vec![latency(&found, ms_max)])
}

pub fn keys(stage: &Stage) -> Result<Vec<Row>> {
    over(stage, "entities-keys", &[], 2.0)
}

pub fn over_nats(stage: &Stage) -> Result<Vec<Row>> {
    if peers::find("nats-server").is_none() {
        bail!("nats-server is missing; `cargo xtask test` installs it");
    }
    let nats = peers::nats(&[]).started();
    over(stage, "entities-nats", &["--bus", &format!("nats://127.0.0.1:{}", nats.port())], 5.0)
}

pub fn idle(stage: &Stage) -> Result<Vec<Row>> {
    check_open_files()?;
    let server = server(stage, &[])?;
    let hold = if stage.is_quick { 5 } else { 40 };
    let call = subscribing(Call::new("idle", "entities-idle").server(&server), "{n}");
    let found = call.with("conns", 10_000).with("hold", hold).run(stage)?;
    let mut memory = found.row("KB each", "bytes_per_conn", "", "", Target::AtMost(7.0));
    memory.tidings /= 1000.0;
    Ok(vec![memory])
}
