//! `tidings destinations`: what an admin does with destinations and their deliveries, through a running server.
//!
//! Owns: the words. Never: touches the data directory but for its secret.

use super::client::{self, Client, encode};
use super::{Context, Place, Usage};
use anyhow::{Result, anyhow, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::Write as _;
use tidings::{Code, Uuid};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List destinations in name order.
    List {
        #[command(flatten)]
        client: client::Args,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Create a destination and print its id: a webhook with --webhook, a copy with --to, else a queue.
    Create {
        #[command(flatten)]
        client: client::Args,
        name: String,
        /// `topic` or `topic:key`
        topic: String,
        /// Post events to this URL
        #[arg(long, value_name = "URL", conflicts_with_all = ["to", "websocket"])]
        webhook: Option<String>,
        /// Copy events to this topic
        #[arg(long, value_name = "TOPIC", conflicts_with = "websocket")]
        to: Option<String>,
        /// Push events to WebSockets that join
        #[arg(long)]
        websocket: bool,
        /// Begin here: latest, earliest, a time or a cursor [default: latest]
        #[arg(long, value_name = "WHERE")]
        from: Option<String>,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Show a destination and how far it has come, as JSON.
    Show {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
    },
    /// Change settings of a destination.
    Set {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Send nothing from now on.
    Pause {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
    },
    /// Go on with the first event that was not delivered.
    Resume {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
    },
    /// Send events again: everything dead, one delivery, or a range.
    Replay {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
        /// One delivery, by its id or offset
        #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to"])]
        delivery: Option<String>,
        /// From this offset or time
        #[arg(long, value_name = "OFFSET|TIME")]
        from: Option<String>,
        /// Up to this offset or time [default: the newest]
        #[arg(long, value_name = "OFFSET|TIME", requires = "from")]
        to: Option<String>,
    },
    /// List deliveries: those waiting and dead, then the newest that went well.
    Deliveries {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
        /// waiting, dead or delivered
        #[arg(long)]
        status: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// One JSON object a line, with every attempt
        #[arg(long)]
        json: bool,
    },
    /// Print what a webhook is signed with, the newest secret first.
    Secret {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
        /// Sign with a new one, and with the newest so far beside it
        #[arg(long)]
        rotate: bool,
    },
    /// Forget a destination with its progress and deliveries.
    Delete {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        destination: String,
    },
}

#[derive(Debug, clap::Args)]
struct SettingArgs {
    /// Only events that match this expression
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<String>,
    /// What waits for what: topic, key or none
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// Any setting, with its value as JSON or as plain text, such as `max_attempts=5`. Repeatable
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    fields: Vec<String>,
}

impl SettingArgs {
    fn fields(self) -> Result<Map<String, Value>> {
        let mut all = Map::new();
        for text in self.fields {
            let Some((field, value)) = text.split_once('=') else {
                bail!(Usage(format!("{text} is not FIELD=VALUE")))
            };
            all.insert(field.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()));
        }
        self.filter.into_iter().for_each(|text| drop(all.insert("filter".into(), text.into())));
        self.order.into_iter().for_each(|text| drop(all.insert("order".into(), text.into())));
        Ok(all)
    }
}

impl Args {
    pub fn place(&self) -> &Place {
        &self.client().place
    }

    fn client(&self) -> &client::Args {
        match &self.what {
            What::List { client, .. }
            | What::Create { client, .. }
            | What::Show { client, .. }
            | What::Set { client, .. }
            | What::Pause { client, .. }
            | What::Resume { client, .. }
            | What::Replay { client, .. }
            | What::Deliveries { client, .. }
            | What::Secret { client, .. }
            | What::Delete { client, .. } => client,
        }
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(args.client(), context)?;
    match args.what {
        What::List { json, .. } => list(&client, json).await,
        What::Create { name, topic, webhook, to, websocket, from, settings, .. } => {
            let mut fields = settings.fields()?;
            let kind = match (&webhook, &to, websocket) {
                (Some(_), ..) => "webhook",
                (_, Some(_), _) => "topic",
                (_, _, true) => "websocket",
                _ => "queue",
            };
            let mut put = |field: &str, value: Option<String>| {
                value.into_iter().for_each(|value| drop(fields.insert(field.into(), value.into())));
            };
            put("name", Some(name));
            put("topic", Some(topic));
            put("kind", Some(kind.into()));
            put("url", webhook);
            put("target", to);
            put("from", from);
            let made = send(&client, Method::POST, "/v1/destinations", Some(&fields.into())).await?;
            say(made["id"].as_str().unwrap_or_default())
        }
        What::Show { destination, .. } => {
            let path = path(&client, &destination).await?;
            say(&format!("{:#}", send(&client, Method::GET, &path, None).await?))
        }
        What::Set { destination, settings, .. } => {
            let path = path(&client, &destination).await?;
            send(&client, Method::PATCH, &path, Some(&settings.fields()?.into())).await.map(drop)
        }
        What::Pause { destination, .. } => {
            let path = path(&client, &destination).await? + "/pause";
            send(&client, Method::POST, &path, None).await.map(drop)
        }
        What::Resume { destination, .. } => {
            let path = path(&client, &destination).await? + "/resume";
            send(&client, Method::POST, &path, None).await.map(drop)
        }
        What::Replay { destination, delivery, from, to, .. } => {
            let id = id(&client, &destination).await?;
            let (path, body) = match (delivery, from) {
                (Some(delivery), _) => {
                    let offset = delivery.rsplit('.').next().unwrap_or_default();
                    (format!("/v1/deliveries/{id}.{}/replay", encode(offset)), json!({}))
                }
                (None, Some(from)) => {
                    let place = |text: String| text.parse::<u64>().map_or_else(|_| json!(text), |n| json!(n));
                    let mut body = json!({ "from": place(from) });
                    to.into_iter().for_each(|to| body["to"] = place(to));
                    (format!("/v1/destinations/{id}/replay"), body)
                }
                (None, None) => (format!("/v1/destinations/{id}/replay"), json!({ "dead": true })),
            };
            send(&client, Method::POST, &path, Some(&body)).await.map(drop)
        }
        What::Deliveries { destination, status, limit, json, .. } => {
            let id = id(&client, &destination).await?;
            deliveries(&client, id, status.as_deref(), limit, json).await
        }
        What::Secret { destination, rotate, .. } => {
            let path = path(&client, &destination).await? + "/secret";
            let method = if rotate { Method::POST } else { Method::GET };
            let found = send(&client, method, &path, None).await?;
            let secrets = found["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str);
            secrets.into_iter().try_for_each(say)
        }
        What::Delete { destination, .. } => {
            let request = client.request(Method::DELETE, &path(&client, &destination).await?)?;
            Ok(client.send(request).await.map(drop)?)
        }
    }
}

fn say(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let request = client.request(method, path)?;
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    Ok(client.json(request).await?)
}

/// The id that a name has, or else the id itself.
async fn id(client: &Client, destination: &str) -> Result<Uuid> {
    let found =
        send(client, Method::GET, &format!("/v1/destinations?name={}", encode(destination)), None).await?;
    let by_name = found["destinations"][0]["id"].as_str().and_then(|id| id.parse().ok());
    by_name
        .or_else(|| destination.parse().ok())
        .ok_or_else(|| anyhow!("there is no destination {destination} ({})", Code::DestinationUnknown))
}

async fn path(client: &Client, destination: &str) -> Result<String> {
    Ok(format!("/v1/destinations/{}", id(client, destination).await?))
}

async fn list(client: &Client, as_json: bool) -> Result<()> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = send(client, Method::GET, &format!("/v1/destinations{after}"), None).await?;
        all.extend(page["destinations"].as_array().into_iter().flatten().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("?after={}", encode(next));
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if as_json {
        for one in &all {
            writeln!(out, "{one}")?;
        }
        return Ok(out.flush()?);
    }
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or("-").to_owned();
    let width = |field: &str, least: usize| {
        all.iter().map(|d| text(d, field).chars().count()).max().unwrap_or(0).max(least)
    };
    let (name, topic) = (width("name", "NAME".len()), width("topic", "TOPIC".len()));
    writeln!(out, "{:name$}  {:36}  {:9}  {:6}  {:topic$}  TO", "NAME", "ID", "KIND", "STATE", "TOPIC")?;
    for one in &all {
        let state = if one["paused"] == true { "paused" } else { "active" };
        let to = one["url"].as_str().or(one["target"].as_str()).unwrap_or("-");
        let (n, i, k, t) = (text(one, "name"), text(one, "id"), text(one, "kind"), text(one, "topic"));
        writeln!(out, "{n:name$}  {i:36}  {k:9}  {state:6}  {t:topic$}  {to}")?;
    }
    Ok(out.flush()?)
}

async fn deliveries(
    client: &Client,
    id: Uuid,
    status: Option<&str>,
    limit: usize,
    as_json: bool,
) -> Result<()> {
    let status = status.map_or_else(String::new, |status| format!("&status={}", encode(status)));
    let (mut left, mut after) = (limit, String::new());
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if !as_json {
        writeln!(out, "{:>10}  {:36}  {:9}  {:>8}  LAST ANSWER", "OFFSET", "EVENT", "STATUS", "ATTEMPTS")?;
    }
    while left > 0 {
        let path = format!("/v1/deliveries?destination={id}{status}{after}&limit={}", left.min(100));
        let page = send(client, Method::GET, &path, None).await?;
        for one in page["deliveries"].as_array().into_iter().flatten().take(left) {
            left -= 1;
            if as_json {
                writeln!(out, "{one}")?;
                continue;
            }
            let attempts = one["attempts"].as_array().map_or(&[][..], Vec::as_slice);
            let last = attempts.last().unwrap_or(&Value::Null);
            let answer = last["status"].as_u64().map(|status| status.to_string());
            let answer = answer.or_else(|| last["error"].as_str().map(str::to_owned)).unwrap_or_default();
            let (event, status) =
                (one["event"].as_str().unwrap_or("-"), one["status"].as_str().unwrap_or("-"));
            let offset = one["offset"].as_u64().unwrap_or_default();
            writeln!(out, "{offset:>10}  {event:36}  {status:9}  {:>8}  {answer}", attempts.len())?;
        }
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", encode(next));
    }
    Ok(out.flush()?)
}
