//! `tidings inbound`: what an admin does with inbound webhooks, through a running server.
//!
//! Owns: the words. Secrets are printed where they are made, once. Never: touches the data directory but for its
//! secret.

use super::client::{self, Client, encode};
use super::{Context, Place};
use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use tidings::{Code, Uuid};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A key and a password (HTTP Basic)
    Webhook,
    /// A signature of Standard Webhooks
    #[value(name = "standard_webhook", alias = "standard-webhook")]
    StandardWebhook,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List inbound webhooks, one JSON object a line.
    List {
        #[command(flatten)]
        client: client::Args,
    },
    /// Add one; its path and its secret are printed, this once.
    Add {
        #[command(flatten)]
        client: client::Args,
        name: String,
        /// Where its events go: `users` or `users:123`
        #[arg(long)]
        topic: String,
        #[arg(long, value_enum, default_value = "webhook")]
        kind: Kind,
        /// The name of its events
        #[arg(long, value_name = "NAME")]
        event_name: Option<String>,
    },
    /// Give one new secrets, printed this once; the old ones count no longer.
    Rotate {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        #[arg(value_name = "NAME")]
        inbound: String,
    },
    /// Take one away.
    Remove {
        #[command(flatten)]
        client: client::Args,
        /// A name or an id
        #[arg(value_name = "NAME")]
        inbound: String,
    },
}

impl Args {
    pub fn place(&self) -> &Place {
        &self.client().place
    }

    fn client(&self) -> &client::Args {
        match &self.what {
            What::List { client }
            | What::Add { client, .. }
            | What::Rotate { client, .. }
            | What::Remove { client, .. } => client,
        }
    }
}

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let client = Client::new(args.client(), context)?;
    match args.what {
        What::List { .. } => all(&client).await?.iter().try_for_each(print),
        What::Add { name, topic, kind, event_name, .. } => {
            let kind = match kind {
                Kind::Webhook => "webhook",
                Kind::StandardWebhook => "standard_webhook",
            };
            let body = json!({
                "name": name, "topic": topic, "kind": kind, "event_name": event_name,
            });
            let request = client.request(Method::POST, "/v1/inbound")?.json(&body);
            print(&client.json(request).await?)
        }
        What::Rotate { inbound, .. } => {
            let id = id(&client, &inbound).await?;
            let request = client.request(Method::POST, &format!("/v1/inbound/{id}/rotate"))?;
            print(&client.json(request).await?)
        }
        What::Remove { inbound, .. } => {
            let id = id(&client, &inbound).await?;
            let request = client.request(Method::DELETE, &format!("/v1/inbound/{id}"))?;
            Ok(client.send(request).await.map(drop)?)
        }
    }
}

async fn all(client: &Client) -> Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let request = client.request(Method::GET, &format!("/v1/inbound{after}"))?;
        let page: Value = client.json(request).await?;
        all.extend(page["inbound"].as_array().into_iter().flatten().cloned());
        let Some(next) = page["next"].as_str() else { return Ok(all) };
        after = format!("?after={}", encode(next));
    }
}

/// The id itself, or the one that has the name alone.
async fn id(client: &Client, inbound: &str) -> Result<Uuid> {
    if let Ok(id) = inbound.parse() {
        return Ok(id);
    }
    let all = all(client).await?;
    let named = all.iter().filter(|one| one["name"] == inbound);
    let ids: Vec<&str> = named.filter_map(|one| one["id"].as_str()).collect();
    match &ids[..] {
        [id] => Ok(id.parse()?),
        [] => bail!("there is no inbound webhook {inbound} ({})", Code::InboundUnknown),
        several => bail!("more than one inbound webhook is called {inbound}: {}", several.join(", ")),
    }
}

fn print(inbound: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{inbound}")?)
}
