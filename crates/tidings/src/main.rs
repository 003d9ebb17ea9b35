//! The `tidings` program. The only place that reads the environment, installs a subscriber for logs, or exits.

mod cli;

use clap::Parser as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tidings::config::ConfigError;
use tidings::config::broker::with_two_dashes;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().expect("nothing else installed one before");
    // Broker's flags may stand after one dash; a word that is not UTF-8 is none of them.
    let words =
        std::env::args_os().map(|word| word.into_string().map_or_else(|w| w, |w| with_two_dashes(w).into()));
    let arguments = cli::Cli::parse_from(words);
    // A variable that is not UTF-8 cannot be one of ours.
    let environment =
        std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    let done = cli::Context::new(arguments.place(), environment.collect()).and_then(|context| {
        watch(arguments.log_level(&context), arguments.is_serve())?;
        cli::run(arguments, context)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings: {}", tidings::told(error.as_ref()));
            let is_usage = error.is::<ConfigError>() || error.is::<cli::Usage>();
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

/// Sends what the process says about itself to stderr. A client says only what goes wrong.
fn watch(level: &str, is_server: bool) -> anyhow::Result<()> {
    let level = if is_server { level } else { "warn" };
    // A filter takes any single word for a part of the program, and then logs nothing.
    let is_level = level.contains(['=', ',']) || level.parse::<tracing::level_filters::LevelFilter>().is_ok();
    if !is_level {
        let what = format!("{level:?} is not error, warn, info, debug, trace or off, nor a filter of these");
        return Err(ConfigError::Value { said_by: "log_level".into(), what }.into());
    }
    let filter = EnvFilter::try_new(level)
        .map_err(|e| ConfigError::Value { said_by: "log_level".into(), what: e.to_string() })?;
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .init();
    Ok(())
}

/// `tidings tail | head` ends when `head` has seen enough; that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
