//! `tidings inbound`: what an admin does with inbound webhooks, through a running server.
//!
//! Owns: the words. Secrets are printed where they are made, once. Never: touches the data directory but for its
//! secret.

use super::client::{self, Client, encode};
use super::{Context, Place};
use anyhow::Result;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use tidings::Uuid;

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
        id: Uuid,
    },
    /// Take one away.
    Remove {
        #[command(flatten)]
        client: client::Args,
        id: Uuid,
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
        What::List { .. } => list(&client).await,
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
        What::Rotate { id, .. } => {
            let request = client.request(Method::POST, &format!("/v1/inbound/{id}/rotate"))?;
            print(&client.json(request).await?)
        }
        What::Remove { id, .. } => {
            let request = client.request(Method::DELETE, &format!("/v1/inbound/{id}"))?;
            Ok(client.send(request).await.map(drop)?)
        }
    }
}

async fn list(client: &Client) -> Result<()> {
    let mut after = String::new();
    loop {
        let request = client.request(Method::GET, &format!("/v1/inbound{after}"))?;
        let page: Value = client.json(request).await?;
        for inbound in page["inbound"].as_array().into_iter().flatten() {
            print(inbound)?;
        }
        let Some(next) = page["next"].as_str() else { return Ok(()) };
        after = format!("?after={}", encode(next));
    }
}

fn print(inbound: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{inbound}")?)
}
