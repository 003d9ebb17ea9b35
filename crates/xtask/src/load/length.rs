//! A long log against a short one: publishing, delivering and starting cost the same.

use super::figures::{GROWTH_MAX, fan, start_on};
use super::meter::{Call, Found, growth};
use super::row::Row;
use super::stage::{Process, Server, Stage};
use anyhow::{Result, bail};

/// Events of one request while the log is filled.
const FILL_STEP: u64 = 1_000_000;

pub fn take(stage: &Stage) -> Result<Vec<Row>> {
    let (short, long) = (10_000, if stage.is_quick { 1_000_000 } else { 10_000_000 });
    let (server, yardstick) = (stage.server()?, stage.yardstick()?);
    let mut measured = Vec::new();
    for (name, length) in [("short", short), ("long", long)] {
        fill(stage, &server, length)?;
        measured.push(measure(stage, &server, &yardstick, name)?);
    }
    let data = server.data.clone();
    drop((server, yardstick));
    let (start, _) = start_on(stage, &data, "start on a long log", 150.0)?;
    let (publish, deliver): (Vec<Found>, Vec<Found>) = measured.into_iter().unzip();
    let to = if stage.is_quick { "1 million" } else { "10 million" };
    Ok(vec![
        growth(&format!("publish, log of 10 thousand to {to}"), &publish[0], &publish[1], GROWTH_MAX),
        growth(&format!("deliver, log of 10 thousand to {to}"), &deliver[0], &deliver[1], GROWTH_MAX),
        start,
    ])
}

/// Delivering comes first: it adds few events, publishing adds many.
fn measure(stage: &Stage, server: &Server, yardstick: &Process, name: &str) -> Result<(Found, Found)> {
    let deliver = fan(stage, server, yardstick, &format!("deliver, {name} log"), "sse");
    let deliver = deliver.with("subs", 1000).with("rate", 50).run(stage)?;
    let publish =
        Call::new("pub", format!("publish, {name} log")).server(server).beside(yardstick).runs(stage);
    let publish = publish.publishing(server, "t").with("conns", 64).run(stage)?;
    Ok((publish, deliver))
}

/// Streams events into topic `t` until it has `length`.
fn fill(stage: &Stage, server: &Server, length: u64) -> Result<()> {
    let mut tail = if length <= 10_000 { 0 } else { server.tail("t")? };
    while tail < length {
        let count = FILL_STEP.min(length - tail);
        let call = Call::new("stream", "fill").server(server).publishing(server, "t").with("runs", 1);
        call.with("count", count).with("size", 150).run(stage)?;
        let now = server.tail("t")?;
        if now < tail + count {
            bail!("{count} events were streamed and the log went from {tail} to {now}");
        }
        tail = now;
    }
    Ok(())
}
