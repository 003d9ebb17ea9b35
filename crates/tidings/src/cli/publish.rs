//! `tidings publish`: the lines of stdin become events.

use super::client::{self, Client};
use super::fields::{self, Fields};
use super::lines::{Line, Lines};
use super::sender::{BATCH_BYTES, BATCH_LINES, Sender};
use super::token::duration;
use super::{Context, Usage};
use anyhow::{Result, bail};
use serde_json::value::RawValue;
use std::time::Duration;
use tidings::{Timestamp, Topic, Uuid};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub client: client::Args,
    /// The topic, or `topic:key`
    #[arg(value_parser = |text: &str| Topic::parse(text))]
    topic: Topic,
    /// Take each event's key from this field of the line, which must be a JSON object
    #[arg(long, value_name = "FIELD")]
    key_field: Option<String>,
    /// Give every event this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Schedule every event for this time (RFC 3339, such as 2030-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Timestamp::parse(text))]
    at: Option<Timestamp>,
    /// The lines are whole events (with `data`, `key`, `name` ...), not only their data
    #[arg(long, conflicts_with_all = ["key_field", "name", "at"])]
    events: bool,
    /// How long to go on trying while the server cannot be reached
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    retry: Duration,
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    if args.key_field.is_some() && args.topic.key.is_some() {
        return Err(Usage("--key-field does not go with a key in the topic".into()).into());
    }
    let client = Client::new(&args.client, context)?;
    let mut sender = Sender::new(&client, args.retry);
    let done = send_all(&args, &mut sender).await;
    sender.finish(&format!(" to {}", args.topic));
    done
}

async fn send_all(args: &Args, sender: &mut Sender<'_>) -> Result<()> {
    let mut lines = Lines::of(std::io::stdin());
    loop {
        let batch = lines.batch(BATCH_LINES, BATCH_BYTES).await?;
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let (first, last) = (first.number, last.number);
        let (mut body, mut count, mut bytes) = (Vec::new(), 0, 0);
        let mut broken = None;
        for line in &batch {
            match write_event(args, line, &mut body) {
                Ok(is_event) => count += u64::from(is_event),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
            bytes += line.bytes;
        }
        // The lines before a bad one are published; the user goes on behind them.
        if count > 0 {
            let sent = sender.send(&args.topic, body, count, bytes).await;
            sent.map_err(|failure| Sender::explain(failure, first, last))?;
        }
        if let Some(error) = broken {
            return Err(error);
        }
    }
}

/// Appends the event of a line; `false` if the line holds none.
fn write_event(args: &Args, line: &Line, body: &mut Vec<u8>) -> Result<bool> {
    let text = line.text.as_str();
    let id = format!("\"{}\"", Uuid::now_v7());
    if args.events {
        return write_whole_event(line, &id, body);
    }
    let object = Fields::parse(text);
    let key = match &args.key_field {
        None => None,
        Some(field) => Some(key(object.as_ref(), field, line.number)?),
    };
    let name = args.name.as_ref().map(|name| json_text(name));
    let data = if object.is_some() { text.to_owned() } else { json_text(text) };
    let at = args.at.map(|at| json_text(&at.to_string()));
    let (key, name, at) = (key.as_ref(), name.as_ref(), at.as_ref());
    let all = [("id", Some(&id)), ("key", key), ("name", name), ("available_at", at), ("data", Some(&data))];
    fields::write(all.into_iter().filter_map(|(field, value)| Some((field, value?.as_str()))), body);
    Ok(true)
}

fn write_whole_event(line: &Line, id: &str, body: &mut Vec<u8>) -> Result<bool> {
    if line.text.trim().is_empty() {
        return Ok(false);
    }
    let Some(fields) = Fields::parse(&line.text) else {
        bail!("line {} is not a JSON object (json_invalid)", line.number);
    };
    let first: &[_] = if fields.get("id").is_some() { &[] } else { &[("id", id)] };
    fields.write(first, body);
    Ok(true)
}

/// The key as a JSON string: texts as they are, numbers and truth values as they are written.
fn key(object: Option<&Fields<'_>>, field: &str, number: u64) -> Result<String> {
    let Some(object) = object else {
        bail!("line {number} is not a JSON object, so it has no field {field:?} (event_invalid)");
    };
    match object.get(field).map(RawValue::get) {
        Some(text) if text.starts_with('"') => Ok(text.to_owned()),
        Some(plain) if !plain.starts_with(['{', '[']) && plain != "null" => Ok(json_text(plain)),
        _ => bail!("line {number} has no text or number in the field {field:?} (event_invalid)"),
    }
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a string into memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn event(flags: &[&str], text: &str) -> Result<serde_json::Value> {
        let args = Cli::parse_from(["publish", "t"].iter().chain(flags)).args;
        let mut body = Vec::new();
        write_event(&args, &Line { number: 1, text: text.into(), bytes: 0 }, &mut body)?;
        let mut event: serde_json::Value = serde_json::from_slice(&body)?;
        assert!(event.as_object_mut().unwrap().remove("id").is_some());
        Ok(event)
    }

    #[test]
    fn objects_are_data_as_they_are_and_other_lines_are_text() {
        use serde_json::json;
        assert_eq!(event(&[], r#"{"a":1}"#).unwrap(), json!({"data": {"a": 1}}));
        assert_eq!(event(&[], "17").unwrap(), json!({"data": "17"}));
        assert_eq!(event(&["--name", "n"], "a \"b\"").unwrap(), json!({"name": "n", "data": "a \"b\""}));
        assert_eq!(
            event(&["--key-field", "a"], r#"{"a":1}"#).unwrap(),
            json!({"key": "1", "data": {"a": 1}})
        );
        assert_eq!(event(&["--events"], r#"{"data":1}"#).unwrap(), json!({"data": 1}));
        let at = "2030-01-31T12:00:00.000Z";
        assert_eq!(event(&["--at", at], "1").unwrap(), json!({"available_at": at, "data": "1"}));
        for (flags, line) in
            [(&["--key-field", "b"][..], r#"{"a":1}"#), (&["--key-field", "b"], "x"), (&["--events"], "x")]
        {
            assert!(event(flags, line).is_err(), "{line}");
        }
    }
}
