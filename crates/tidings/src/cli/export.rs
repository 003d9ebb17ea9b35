//! `tidings export`: topics as NDJSON on stdout, up to the position they had at the start.

use super::client::{self, Client, Failure, topic_path};
use super::retry::Retry;
use super::topics::{self, Listed};
use super::{Context, Usage};
use anyhow::{Result, bail};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::Write as _;
use std::time::Duration;
use tidings::{Code, Topic, TopicName};

const PAGE: usize = 1000;
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// The topics
    #[arg(value_name = "TOPIC", required_unless_present = "all", value_parser = |text: &str| TopicName::parse(text))]
    topics: Vec<TopicName>,
    /// Every topic that the token may read, except those of the system
    #[arg(long, conflicts_with = "topics")]
    all: bool,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    /// Behind the page.
    cursor: String,
    more: bool,
    /// Events between the asked position and the page are gone.
    #[serde(default)]
    gap: bool,
}

#[derive(Deserialize)]
struct Placed {
    offset: u64,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(&args.client, context)?;
    let mut chosen = topics::list(&client).await?;
    if args.all {
        // What the system writes there it writes itself where this is imported.
        chosen.retain(|topic| !topic.name.starts_with('$'));
    } else {
        let known = chosen;
        chosen = Vec::new();
        for name in &args.topics {
            match known.iter().find(|t| t.name == name.as_str()) {
                Some(topic) => chosen.push(topic.clone()),
                None => bail!("nothing has been published to topic {name} ({})", Code::TopicUnknown),
            }
        }
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = 0;
    for topic in &chosen {
        written += export(&client, topic, &mut out).await?;
    }
    out.flush()?;
    eprintln!("exported {written} events of {} topics", chosen.len());
    Ok(())
}

/// Writes the events of one topic up to the tail it had when it was listed.
async fn export(client: &Client, listed: &Listed, out: &mut impl std::io::Write) -> Result<u64> {
    let name = TopicName::parse_captured(&listed.name).map_err(|e| Usage(e.to_string()))?;
    let path = topic_path(&Topic::whole(name));
    let mut written = 0;
    // State outlives retention: events before the oldest kept one are reached only through it.
    if listed.oldest > 1 {
        written += pages(client, &format!("{path}/state"), 0, listed.oldest - 1, out).await?;
    }
    let from = listed.oldest - 1;
    written += pages(client, &format!("{path}/events"), from, listed.tail, out).await?;
    Ok(written)
}

/// Writes what `path` has after `after`, up to and including `last`.
async fn pages(
    client: &Client,
    path: &str,
    after: u64,
    last: u64,
    out: &mut impl std::io::Write,
) -> Result<u64> {
    let (mut written, mut retry) = (0, Retry::new(RETRY));
    let (mut after, mut limit) = (after.to_string(), format!("&limit={PAGE}"));
    loop {
        let request = client.request(Method::GET, &format!("{path}?after={after}{limit}"))?;
        let page: Page = match client.json(request).await {
            Ok(page) => page,
            // The server is set to smaller pages; its own size will do.
            Err(Failure::Refused { code, .. })
                if code == Code::ParameterInvalid.as_str() && !limit.is_empty() =>
            {
                limit.clear();
                continue;
            }
            Err(failure) => {
                retry.failed(failure, |text| eprintln!("tidings: {text}")).await?;
                continue;
            }
        };
        retry.succeeded();
        if page.gap {
            eprintln!("tidings: gap: events of {path} behind {after} are no longer kept");
        }
        for event in &page.events {
            let Placed { offset } = serde_json::from_str(event.get())?;
            if offset > last {
                return Ok(written);
            }
            writeln!(out, "{}", event.get().replace('\n', " "))?;
            written += 1;
        }
        if !page.more {
            return Ok(written);
        }
        after = page.cursor;
    }
}
