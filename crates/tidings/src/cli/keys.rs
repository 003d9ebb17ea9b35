//! `tidings keys`: what an admin does with API keys, through a running server.
//!
//! Owns: the words. Never: touches the data directory but for its secret.

use super::client::{self, Client, encode};
use super::grants::GrantArgs;
use super::{Context, Place};
use anyhow::{Result, anyhow};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Write as _;
use tidings::{Code, KeyKind, Uuid};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List API keys in name order.
    List {
        #[command(flatten)]
        client: client::Args,
        /// One JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Create a key and print its token (`Authorization: Bearer TOKEN`), which cannot be shown again.
    Add {
        #[command(flatten)]
        client: client::Args,
        name: String,
        /// producer, consumer, producer_consumer or admin
        #[arg(long, value_parser = kind)]
        kind: KeyKind,
        #[command(flatten)]
        grants: GrantArgs,
        /// The id of a destination whose events it may take. Repeatable
        #[arg(long, value_name = "ID")]
        destination: Vec<Uuid>,
        /// A word of your own; it grants nothing
        #[arg(long, value_name = "TEXT")]
        group_key: Option<String>,
        /// Print the whole key as JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace all topics and destinations of a key.
    Grant {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        key: String,
        #[command(flatten)]
        grants: GrantArgs,
        /// The id of a destination whose events it may take. Repeatable
        #[arg(long, value_name = "ID")]
        destination: Vec<Uuid>,
    },
    /// End a key for good, with its tokens and connections.
    Revoke {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        key: String,
    },
    /// Forget a key; its name is free then.
    Remove {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        key: String,
    },
}

/// A key as the server shows it.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    id: Uuid,
    key: String,
    name: String,
    kind: KeyKind,
    status: String,
    group_key: Option<String>,
    publish: Vec<String>,
    subscribe: Vec<String>,
    destinations: Vec<Uuid>,
    created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    keys: Vec<Shown>,
}

impl Args {
    pub fn place(&self) -> &Place {
        &self.client().place
    }

    fn client(&self) -> &client::Args {
        match &self.what {
            What::List { client, .. }
            | What::Add { client, .. }
            | What::Grant { client, .. }
            | What::Revoke { client, .. }
            | What::Remove { client, .. } => client,
        }
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(args.client(), context)?;
    match args.what {
        What::List { json, .. } => list(&client, json).await,
        What::Add { name, kind, grants, destination, group_key, json, .. } => {
            let mut body = lists(&grants, &destination);
            (body["name"], body["kind"], body["group_key"]) = (name.into(), json!(kind), json!(group_key));
            let added = send(&client, Method::POST, "/v1/keys", Some(&body)).await?;
            let text = if json { serde_json::to_string(&added)? } else { added.token.unwrap_or_default() };
            Ok(writeln!(std::io::stdout(), "{text}")?)
        }
        What::Grant { key, grants, destination, .. } => {
            let path = path(&client, &key).await?;
            send(&client, Method::PATCH, &path, Some(&lists(&grants, &destination))).await.map(drop)
        }
        What::Revoke { key, .. } => {
            let path = path(&client, &key).await? + "/revoke";
            send(&client, Method::POST, &path, None).await.map(drop)
        }
        What::Remove { key, .. } => {
            let request = client.request(Method::DELETE, &path(&client, &key).await?)?;
            Ok(client.send(request).await.map(drop)?)
        }
    }
}

fn lists(grants: &GrantArgs, destinations: &[Uuid]) -> Value {
    json!({ "publish": grants.publish(), "subscribe": grants.subscribe(), "destinations": destinations })
}

async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Shown> {
    let request = client.request(method, path)?;
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    Ok(client.json(request).await?)
}

/// `/v1/keys/ID` of a name, or else of an id.
async fn path(client: &Client, key: &str) -> Result<String> {
    let by_name = client.request(Method::GET, &format!("/v1/keys?name={}", encode(key)))?;
    let found: Page = client.json(by_name).await?;
    let id = found.keys.first().map(|key| key.id).or_else(|| key.parse().ok());
    id.map(|id| format!("/v1/keys/{id}"))
        .ok_or_else(|| anyhow!("there is no API key {key} ({})", Code::KeyUnknown))
}

async fn list(client: &Client, as_json: bool) -> Result<()> {
    let mut all: Vec<Shown> = Vec::new();
    loop {
        let after = all.last().map_or_else(String::new, |last| format!("?after={}", encode(&last.name)));
        let request = client.request(Method::GET, &format!("/v1/keys{after}"))?;
        let page: Page = client.json(request).await?;
        if page.keys.is_empty() {
            break;
        }
        all.extend(page.keys);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if as_json {
        for key in &all {
            writeln!(out, "{}", serde_json::to_string(key)?)?;
        }
        return Ok(out.flush()?);
    }
    let width = all.iter().map(|k| k.name.chars().count()).max().unwrap_or(0).max("NAME".len());
    writeln!(out, "{:width$}  {:36}  {:17}  {:7}  PUBLISH / SUBSCRIBE", "NAME", "ID", "KIND", "STATE")?;
    for Shown { id, name, kind, status, publish, subscribe, .. } in &all {
        let topics = |grants: &[String]| if grants.is_empty() { "-".into() } else { grants.join(",") };
        let (publish, subscribe, kind) = (topics(publish), topics(subscribe), kind.as_str());
        writeln!(out, "{name:width$}  {id:36}  {kind:17}  {status:7}  {publish} / {subscribe}")?;
    }
    Ok(out.flush()?)
}

fn kind(text: &str) -> Result<KeyKind> {
    let all = [KeyKind::Producer, KeyKind::Consumer, KeyKind::ProducerConsumer, KeyKind::Admin];
    all.into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| anyhow!("one of producer, consumer, producer_consumer, admin"))
}
