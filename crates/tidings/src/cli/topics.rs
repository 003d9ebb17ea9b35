//! `tidings topics`: what there is to read.

use super::Context;
use super::client::{self, Client, Failure, encode};
use anyhow::Result;
use reqwest::Method;
use serde::Deserialize;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// A topic as the server lists it.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
pub struct Listed {
    pub name: String,
    pub oldest: u64,
    pub tail: u64,
}

#[derive(Deserialize)]
struct Page {
    topics: Vec<Listed>,
}

/// All topics that the token may read, in name order.
pub async fn list(client: &Client) -> Result<Vec<Listed>, anyhow::Error> {
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |last| format!("?after={}", encode(&last.name)));
        let request = client.request(Method::GET, &format!("/v1/topics{after}"))?;
        let page: Page =
            client.json(request).await.map_err(|failure: Failure| anyhow::Error::new(failure))?;
        if page.topics.is_empty() {
            return Ok(all);
        }
        all.extend(page.topics);
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    use std::io::Write as _;
    let client = Client::new(&args.client, context)?;
    let topics = list(&client).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        for topic in &topics {
            writeln!(out, "{}", serde_json::to_string(topic)?)?;
        }
        return Ok(());
    }
    let width = topics.iter().map(|t| t.name.chars().count()).max().unwrap_or(0).max("TOPIC".len());
    writeln!(out, "{:width$}  {:>12}  {:>12}  {:>12}", "TOPIC", "EVENTS", "OLDEST", "TAIL")?;
    for Listed { name, oldest, tail } in &topics {
        let events = (tail + 1).saturating_sub(*oldest);
        writeln!(out, "{name:width$}  {events:>12}  {oldest:>12}  {tail:>12}")?;
    }
    Ok(())
}
