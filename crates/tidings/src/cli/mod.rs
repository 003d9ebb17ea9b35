//! The command line: one file a command.
//!
//! Owns: words, flags and what a user reads. Never: reads the environment (it is handed in) or exits.

mod check;
mod client;
mod destinations;
mod export;
mod fields;
mod footprint;
mod grants;
mod import;
mod inbound;
mod keys;
mod lines;
mod publish;
mod retry;
mod sender;
mod serve;
mod sources;
mod sse;
mod tail;
mod token;
mod topics;
mod users;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use tidings::config::{Config, Layers, Setting};

/// A self-hosted real-time event hub: a durable, ordered, live log of events.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Without a command it serves. Settings: flags over TIDINGS_* variables over tidings.toml."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without any command).
    Serve(Box<serve::Args>),
    /// Print a token signed with the data directory's secret.
    Token(token::Args),
    /// Publish the lines of stdin to a topic.
    Publish(publish::Args),
    /// Print a topic's events as they come, resuming after disconnects.
    Tail(tail::Args),
    /// List topics.
    Topics(topics::Args),
    /// List the databases whose changes are captured, and how that goes.
    Sources(sources::Args),
    /// Add, list, change and remove users.
    Users(users::Args),
    /// Add, list and remove inbound webhooks.
    Inbound(inbound::Args),
    /// Add, list, change and revoke API keys.
    Keys(keys::Args),
    /// Manage webhooks, queues and copies, and see what became of deliveries.
    Destinations(destinations::Args),
    /// Verify a data directory that no server uses, and rebuild its index.
    Check(check::Args),
    /// Write topics to stdout as NDJSON.
    Export(export::Args),
    /// Publish events from NDJSON on stdin, as `export` wrote them.
    Import(import::Args),
}

/// Where settings and data lie.
#[derive(Debug, Clone, Default, Args)]
pub struct Place {
    /// The data directory [default: ./tidings-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The settings file [default: ./tidings.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The arguments do not fit together.
#[derive(Debug)]
pub struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Settings and environment, as far as they hold for every command.
pub struct Context {
    layers: Layers,
    environment: BTreeMap<String, String>,
}

impl Context {
    pub fn new(place: &Place, environment: BTreeMap<String, String>) -> Result<Self> {
        let named = place.config.clone().or_else(|| environment.get("TIDINGS_CONFIG").map(PathBuf::from));
        let usual = Path::new("tidings.toml");
        let file = named.or_else(|| usual.exists().then(|| usual.to_owned()));
        let layers = match &file {
            Some(path) => Layers::default().file(path)?,
            None => Layers::default(),
        };
        let layers = layers.environment(environment.iter().map(|(n, v)| (n.as_str(), v.as_str())))?;
        let data = place.data.iter().map(|dir| Setting::flag("--data", "data", [dir.display().to_string()]));
        Ok(Self { layers: layers.settings(data.collect())?, environment })
    }

    pub fn config(&self) -> &Config {
        self.layers.config()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }
}

impl Cli {
    pub fn place(&self) -> &Place {
        match &self.command {
            None => &self.serve.place,
            Some(Command::Serve(args)) => &args.place,
            Some(Command::Token(args)) => &args.place,
            Some(Command::Publish(args)) => &args.client.place,
            Some(Command::Tail(args)) => &args.client.place,
            Some(Command::Topics(args)) => &args.client.place,
            Some(Command::Sources(args)) => &args.client.place,
            Some(Command::Users(args)) => args.place(),
            Some(Command::Inbound(args)) => args.place(),
            Some(Command::Keys(args)) => args.place(),
            Some(Command::Destinations(args)) => args.place(),
            Some(Command::Check(args)) => &args.place,
            Some(Command::Export(args)) => &args.client.place,
            Some(Command::Import(args)) => &args.client.place,
        }
    }

    /// What a serving process shall say about itself.
    pub fn log_level<'a>(&'a self, context: &'a Context) -> &'a str {
        let args = match &self.command {
            Some(Command::Serve(args)) => args,
            _ => &self.serve,
        };
        args.log_level().unwrap_or(&context.config().log_level)
    }

    pub fn is_serve(&self) -> bool {
        matches!(self.command, None | Some(Command::Serve(_)))
    }
}

/// Runs the command that was asked for.
pub fn run(cli: Cli, context: Context) -> Result<()> {
    match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(args) => serve::run(*args, context),
        Command::Token(args) => token::run(args, &context),
        Command::Check(args) => check::run(args, &context),
        Command::Publish(args) => wait(publish::run(args, &context)),
        Command::Tail(args) => wait(tail::run(args, &context)),
        Command::Topics(args) => wait(topics::run(args, &context)),
        Command::Sources(args) => wait(sources::run(args, &context)),
        Command::Users(args) => wait(users::run(args, &context)),
        Command::Inbound(args) => wait(inbound::run(args, &context)),
        Command::Keys(args) => wait(keys::run(args, &context)),
        Command::Destinations(args) => wait(destinations::run(args, &context)),
        Command::Export(args) => wait(export::run(args, &context)),
        Command::Import(args) => wait(import::run(args, &context)),
    }
}

/// A client needs one thread, and another that waits for stdin.
fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // A thread that still waits for a line of stdin must not hold up the end.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default() {
        assert!(Cli::parse_from(["tidings", "--port", "0"]).is_serve());
        assert!(!Cli::parse_from(["tidings", "topics"]).is_serve());
        assert!(Cli::try_parse_from(["tidings", "--port", "0", "topics"]).is_err());
    }
}
