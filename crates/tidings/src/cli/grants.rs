//! The flags that say what somebody may do: for a token and for a user alike.

use anyhow::Result;
use tidings::Grant;

#[derive(Debug, clap::Args)]
pub struct GrantArgs {
    /// A topic that may be published to: `orders`, `orders:17` or `*`. Repeatable
    #[arg(long, value_name = "TOPIC", value_parser = grant)]
    pub publish: Vec<String>,
    /// A topic that may be subscribed to. Repeatable
    #[arg(long, value_name = "TOPIC", value_parser = grant)]
    pub subscribe: Vec<String>,
    /// Topics for both directions, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = grant)]
    pub topics: Vec<String>,
}

impl GrantArgs {
    pub fn is_empty(&self) -> bool {
        self.publish.is_empty() && self.subscribe.is_empty() && self.topics.is_empty()
    }

    /// What may be published to, both kinds of flags together.
    pub fn publish(&self) -> Vec<&String> {
        self.publish.iter().chain(&self.topics).collect()
    }

    /// What may be subscribed to, both kinds of flags together.
    pub fn subscribe(&self) -> Vec<&String> {
        self.subscribe.iter().chain(&self.topics).collect()
    }
}

fn grant(text: &str) -> Result<String> {
    Grant::parse(text.trim())?;
    Ok(text.trim().to_owned())
}
