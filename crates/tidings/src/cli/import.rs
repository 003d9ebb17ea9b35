//! `tidings import`: publishes what `export` wrote. Ids are kept, so importing twice changes nothing within
//! the time that the server remembers them.

use super::Context;
use super::client::{self, Client};
use super::fields::Fields;
use super::lines::{Line, Lines};
use super::sender::{BATCH_BYTES, BATCH_LINES, Sender};
use super::token::duration;
use anyhow::{Result, anyhow, bail};
use std::time::Duration;
use tidings::{Topic, Uuid};

/// The importing log gives these itself.
const STRIPPED: [&str; 2] = ["offset", "published_at"];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// How long to go on trying while the server cannot be reached
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    retry: Duration,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(&args.client, context)?;
    let mut sender = Sender::new(&client, args.retry);
    let done = send_all(&mut sender).await;
    sender.finish("");
    done
}

/// Events of one topic that follow each other.
struct Run {
    topic: Topic,
    body: Vec<u8>,
    first: u64,
    last: u64,
    count: u64,
    bytes: u64,
}

async fn send_all(sender: &mut Sender<'_>) -> Result<()> {
    let mut lines = Lines::of(std::io::stdin());
    loop {
        let batch = lines.batch(BATCH_LINES, BATCH_BYTES).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut run: Option<Run> = None;
        let mut broken = None;
        for line in batch.iter().filter(|l| !l.text.trim().is_empty()) {
            let (topic, event) = match read(line) {
                Ok(read) => read,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            };
            if let Some(done) = run.take_if(|run| run.topic != topic) {
                send(sender, done).await?;
            }
            let run = run.get_or_insert_with(|| Run {
                topic,
                body: Vec::new(),
                first: line.number,
                last: line.number,
                count: 0,
                bytes: 0,
            });
            run.body.extend_from_slice(&event);
            (run.last, run.count, run.bytes) = (line.number, run.count + 1, run.bytes + line.bytes);
        }
        if let Some(done) = run {
            send(sender, done).await?;
        }
        if let Some(error) = broken {
            return Err(error);
        }
    }
}

async fn send(sender: &mut Sender<'_>, run: Run) -> Result<()> {
    let sent = sender.send(&run.topic, run.body, run.count, run.bytes).await;
    sent.map_err(|failure| Sender::explain(failure, run.first, run.last))
}

/// The whole topic of an exported event, and the event as it is published.
fn read(line: &Line) -> Result<(Topic, Vec<u8>)> {
    let number = line.number;
    let Some(mut fields) = Fields::parse(&line.text) else {
        bail!("line {number} is not a JSON object (json_invalid)");
    };
    let Some(address) = fields.get("topic") else {
        bail!("line {number} has no `topic` (event_invalid)");
    };
    let address: String = serde_json::from_str(address.get())
        .map_err(|_| anyhow!("line {number}: `topic` is not a text (event_invalid)"))?;
    let topic = Topic::parse(&address).map_err(|e| anyhow!("line {number}: {e} (topic_invalid)"))?;
    fields.0.retain(|(name, _)| !STRIPPED.contains(&&*name.0));
    let id = format!("\"{}\"", Uuid::now_v7());
    let first: &[_] = if fields.get("id").is_some() { &[] } else { &[("id", &*id)] };
    let mut event = Vec::new();
    fields.write(first, &mut event);
    Ok((Topic::whole(topic.name), event))
}
