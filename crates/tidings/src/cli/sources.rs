//! `tidings sources`: the databases whose changes are captured, and how that goes.

use super::Context;
use super::client::{self, Client};
use anyhow::Result;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct List {
    sources: Vec<Value>,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    use std::io::Write as _;
    let client = Client::new(&args.client, context)?;
    let list: List = client.json(client.request(Method::GET, "/v1/sources")?).await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        for source in &list.sources {
            writeln!(out, "{source}")?;
        }
        return Ok(());
    }
    let heads = ["SOURCE", "KIND", "MODE", "STATE", "POSITION", "LAG", "KEPT THERE", "EVENTS"];
    let rows: Vec<[String; 8]> = list.sources.iter().map(row).collect();
    let width =
        |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0).max(heads[i].len());
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    writeln!(out, "{}", line(heads.to_vec()))?;
    for (row, source) in rows.iter().zip(&list.sources) {
        writeln!(out, "{}", line(row.iter().map(String::as_str).collect()))?;
        // What is over is not repeated here; `--json` has it.
        let is_well = matches!(source["state"].as_str(), Some("streaming" | "snapshot"));
        if let (false, Some(text)) = (is_well, source["error"]["text"].as_str()) {
            writeln!(out, "  {text}")?;
        }
    }
    Ok(())
}

fn row(source: &Value) -> [String; 8] {
    let text = |name: &str| source[name].as_str().unwrap_or("-").to_owned();
    let lag = source["lag_ms"].as_u64().map_or_else(|| "-".into(), |ms| format!("{} s", ms / 1000));
    let kept = source["retained_bytes"].as_u64().map_or_else(|| "-".into(), mebibytes);
    let events = source["events"].to_string();
    [text("name"), text("kind"), text("mode"), text("state"), text("position"), lag, kept, events]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
