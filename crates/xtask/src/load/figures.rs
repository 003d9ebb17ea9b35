//! The standard set, one entry a figure.

use super::entities;
use super::meter::{Call, Found, growth};
use super::row::{Row, Target};
use super::stage::{Process, Server, Stage, open_files_max};
use super::{broker, length, mariadb, postgres, rows, rpc, socketio, webhooks};
use anyhow::{Result, bail};

pub struct Figure {
    pub name: &'static str,
    pub what: &'static str,
    pub take: fn(&Stage) -> Result<Vec<Row>>,
}

pub const ALL: &[Figure] = &[
    Figure {
        name: "fan-sse-max",
        what: "1,000 SSE subscribers, as fast as it goes",
        take: |s| fan_max(s, "sse"),
    },
    Figure {
        name: "fan-ws-max",
        what: "1,000 WebSocket subscribers, as fast as it goes",
        take: |s| fan_max(s, "ws"),
    },
    Figure { name: "fan-sse-50", what: "1,000 SSE subscribers, 50 events/s", take: |s| fan_50(s, "sse") },
    Figure { name: "fan-ws-50", what: "1,000 WebSocket subscribers, 50 events/s", take: |s| fan_50(s, "ws") },
    Figure {
        name: "fan-sse-10000",
        what: "10,000 SSE subscribers, 5 events/s",
        take: |s| fan_10000(s, "sse"),
    },
    Figure {
        name: "fan-ws-10000",
        what: "10,000 WebSocket subscribers, 5 events/s",
        take: |s| fan_10000(s, "ws"),
    },
    Figure { name: "idle-sse", what: "10,000 idle SSE streams", take: |s| idle(s, "sse", 12.0) },
    Figure { name: "idle-ws", what: "10,000 idle WebSockets", take: |s| idle(s, "ws", 6.0) },
    Figure { name: "publish-64", what: "single publishes, 64 connections", take: publish_64 },
    Figure { name: "publish-1", what: "single publishes, one connection", take: publish_1 },
    Figure { name: "stream", what: "NDJSON over one connection", take: |s| stream(s, "stream", 0) },
    Figure {
        name: "stream-keys",
        what: "NDJSON over one connection, keys out of 1,000,000",
        take: |s| stream(s, "stream-keys", 1_000_000),
    },
    Figure { name: "topics", what: "publishing to 1 topic against 10,000", take: topics },
    Figure { name: "subscribers", what: "a delivery to 100 subscribers against 10,000", take: subscribers },
    Figure {
        name: "rows-routed",
        what: "a row for 10 of 100,000 users of one topic: subscriptions without sockets",
        take: rows::routed,
    },
    Figure {
        name: "entities-one",
        what: "1,000 clients of one entity, 50 changes/s, against plain WebSockets",
        take: entities::one,
    },
    Figure {
        name: "entities-10000",
        what: "10,000 clients of one entity, 5 changes/s: one fetch a change",
        take: entities::many,
    },
    Figure {
        name: "entities-keys",
        what: "10,000 clients of 10,000 entities, 1,000 changes/s",
        take: entities::keys,
    },
    Figure { name: "entities-nats", what: "the same over NATS", take: entities::over_nats },
    Figure { name: "entities-idle", what: "10,000 idle clients of entity-sync", take: entities::idle },
    Figure {
        name: "postgres-latency",
        what: "from an insert in PostgreSQL to an SSE, WebSocket and Socket.IO client, 100 transactions/s, against a bare client",
        take: postgres::latency,
    },
    Figure {
        name: "postgres-rate",
        what: "rows captured a second, in transactions of 1 and of 200 rows, against a bare client",
        take: postgres::rate,
    },
    Figure {
        name: "postgres-large",
        what: "memory through a transaction of 1,000,000 rows",
        take: postgres::large,
    },
    Figure {
        name: "postgres-triggers",
        what: "a write with our triggers against one with a bare NOTIFY",
        take: postgres::triggers,
    },
    Figure {
        name: "mariadb-latency",
        what: "from an insert in MariaDB to an SSE client, 100 transactions/s, against a bare client",
        take: mariadb::latency,
    },
    Figure {
        name: "mariadb-unseen",
        what: "the same, and no event waits until other sessions see its row",
        take: mariadb::latency_unseen,
    },
    Figure {
        name: "mariadb-rate",
        what: "rows captured a second, in transactions of 1 and of 200 rows, against a bare client",
        take: mariadb::rate,
    },
    Figure {
        name: "grpc-publish",
        what: "single publishes over gRPC against HTTP, 64 connections",
        take: rpc::publish,
    },
    Figure { name: "grpc-stream", what: "PublishStream over one connection", take: rpc::stream },
    Figure { name: "grpc-pull", what: "pages of 1,000 events over one connection", take: rpc::pull },
    Figure {
        name: "grpc-fan",
        what: "1,000 Subscribe streams against 1,000 WebSockets, 50 events/s",
        take: rpc::fan,
    },
    Figure { name: "socketio-fan", what: "1,000 Socket.IO clients, 50 events/s", take: socketio::fan },
    Figure {
        name: "socketio-burst",
        what: "1,000 Socket.IO clients, as fast as it goes",
        take: socketio::burst,
    },
    Figure { name: "start", what: "first answer and memory on an empty log", take: start },
    Figure {
        name: "broker-connect",
        what: "Broker's state on connect, 100 names of 1,000 collections",
        take: broker::connect,
    },
    Figure {
        name: "broker-insert",
        what: "Broker's insert into 10 collections against 100,000",
        take: broker::insert,
    },
    Figure { name: "broker-idle", what: "100 users of Broker, logged in and idle", take: broker::idle },
    Figure {
        name: "webhooks-key",
        what: "webhooks to one receiver, keys in parallel",
        take: webhooks::by_key,
    },
    Figure {
        name: "webhooks-topic",
        what: "webhooks one after the other, to a receiver that takes 1 ms",
        take: webhooks::by_topic,
    },
    Figure { name: "webhooks-idle", what: "10,000 destinations while nothing happens", take: webhooks::idle },
    Figure { name: "length", what: "a log of 10 thousand events against 10 million", take: length::take },
];

/// Cost that shall not grow may do so by this factor: two runs of the same thing differ by nearly as much.
pub const GROWTH_MAX: f64 = 1.25;

pub const DELIVERY: &str = "us/delivery";
pub const PUBLISH: &str = "us/publish";

pub fn pair(stage: &Stage) -> Result<(Server, Process)> {
    Ok((stage.server()?, stage.yardstick()?))
}

pub fn fan(stage: &Stage, server: &Server, yardstick: &Process, label: &str, protocol: &str) -> Call {
    let call = Call::new("fan", label).server(server).beside(yardstick).runs(stage);
    call.publishing(server, "t").subscribing(server, protocol)
}

fn fan_max(stage: &Stage, protocol: &str) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let label = format!("fan-{protocol}-max");
    let call = fan(stage, &server, &yardstick, &label, protocol).with("subs", 1000);
    let found = call.with("window", 16).with("pub-conns", 4).run(stage)?;
    Ok(vec![found.cost_row(DELIVERY, 1.25)])
}

fn fan_50(stage: &Stage, protocol: &str) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let label = format!("fan-{protocol}-50");
    let call = fan(stage, &server, &yardstick, &label, protocol).with("subs", 1000);
    let found = call.with("rate", 50).run(stage)?;
    Ok(vec![found.cost_row(DELIVERY, 1.25), found.latency_row(1.3)])
}

/// The generator holds one connection for each subscriber, the server too, and both need a few files more.
pub fn check_open_files() -> Result<()> {
    match open_files_max() {
        limit if limit >= 10_200 => Ok(()),
        limit => {
            bail!("10,000 connections need a limit of 10,200 open files, this one is {limit} (ulimit -n)")
        }
    }
}

fn many(stage: &Stage, label: &str, protocol: &str) -> Result<Found> {
    check_open_files()?;
    let (server, yardstick) = pair(stage)?;
    let call = fan(stage, &server, &yardstick, label, protocol).flag("apart");
    call.with("subs", 10_000).with("rate", 5).run(stage)
}

fn fan_10000(stage: &Stage, protocol: &str) -> Result<Vec<Row>> {
    let found = many(stage, &format!("fan-{protocol}-10000"), protocol)?;
    Ok(vec![found.cost_row(DELIVERY, 1.25), found.latency_row(1.3)])
}

fn idle(stage: &Stage, protocol: &str, kilobytes_max: f64) -> Result<Vec<Row>> {
    check_open_files()?;
    let server = stage.server()?;
    let hold = if stage.is_quick { 5 } else { 40 };
    let call = Call::new("idle", format!("idle-{protocol}")).server(&server).subscribing(&server, protocol);
    let found = call.with("conns", 10_000).with("hold", hold).run(stage)?;
    let mut memory = found.row("KB each", "bytes_per_conn", "", "", Target::AtMost(kilobytes_max));
    memory.tidings /= 1000.0;
    let mut cpu = found.row("% of a core", "cpu_percent", "", "", Target::AtMost(1.0));
    cpu.figure.push_str(" cpu");
    Ok(vec![memory, cpu])
}

fn publish_64(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let call = Call::new("pub", "publish-64").server(&server).beside(&yardstick).runs(stage);
    let found = call.publishing(&server, "t").with("conns", 64).run(stage)?;
    Ok(vec![found.cost_row(PUBLISH, 2.2)])
}

fn publish_1(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let call = Call::new("pub", "publish-1").server(&server).beside(&yardstick).runs(stage);
    let found = call.publishing(&server, "t").with("conns", 1).run(stage)?;
    Ok(vec![found.row("publishes/s", "per_s", "yardstick_per_s", "ratio_per_s", Target::RatioAtLeast(0.75))])
}

fn stream(stage: &Stage, label: &str, keys: u64) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let count = match (stage.is_quick, keys) {
        (true, _) => 100_000,
        (false, 0) => 1_000_000,
        (false, _) => 500_000,
    };
    let call = Call::new("stream", label).server(&server).beside(&yardstick).runs(stage);
    let found = call.publishing(&server, "t").with("count", count).with("keys", keys).run(stage)?;
    let target = Target::AtLeast(if keys > 0 { 60_000.0 } else { 200_000.0 });
    let mut row = found.row("events/s", "per_s", "yardstick_per_s", "ratio_per_s", target);
    // Noisy runs are not in the summary, but their events are in the log.
    let (acknowledged, tail) = (found.number("units"), server.tail("t")?);
    if (tail as f64) < acknowledged || tail % count != 0 {
        row.faults.push(format!("{acknowledged} events acknowledged, {tail} in the log"));
    }
    Ok(vec![row])
}

fn topics(stage: &Stage) -> Result<Vec<Row>> {
    let (server, yardstick) = pair(stage)?;
    let call =
        |label| Call::new("pub", label).server(&server).beside(&yardstick).runs(stage).with("conns", 64);
    let one = call("topics 1").publishing(&server, "one").run(stage)?;
    let many = call("topics 10000").publishing(&server, "many%N").with("topics", 10_000).run(stage)?;
    Ok(vec![growth("topics, 1 to 10,000", &one, &many, GROWTH_MAX)])
}

/// Both situations deliver 50,000 events a second.
fn subscribers(stage: &Stage) -> Result<Vec<Row>> {
    let few = {
        let (server, yardstick) = pair(stage)?;
        let call = fan(stage, &server, &yardstick, "subscribers 100", "sse");
        call.with("subs", 100).with("rate", 500).run(stage)?
    };
    let many = many(stage, "subscribers 10000", "sse")?;
    Ok(vec![growth("subscribers, 100 to 10,000", &few, &many, GROWTH_MAX)])
}

fn start(stage: &Stage) -> Result<Vec<Row>> {
    let data = stage.fresh_path("data");
    // The first start of all makes the data directory and its secret.
    drop(stage.server_on(&data)?);
    start_on(stage, &data, "start", 30.0).map(|(time, memory)| vec![time, memory])
}

/// Time to the first answer, and memory without any connection.
pub fn start_on(stage: &Stage, data: &std::path::Path, label: &str, ms_max: f64) -> Result<(Row, Row)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let command = format!("{} serve --data {} --port {port}", stage.tidings.display(), data.display());
    let call = Call::new("start", label).with("cmd", command).with("addr", format!("127.0.0.1:{port}"));
    let found = call.with("path", "/livez").with("runs", 5).run(stage)?;
    let time = found.row("ms", "ms", "", "", Target::AtMost(ms_max));
    let mut memory = found.row("MB", "rss_mb", "", "", Target::AtMost(15.0));
    memory.figure.push_str(" memory");
    Ok((time, memory))
}
