//! A whole server in one call, as Broker's users write it.
//!
//! Owns: reading Broker's flags and variable from the process, and waiting for its end. This is a program's
//! whole `main`, so it alone in this library reads the environment, says things on stderr, and exits.

use crate::config::broker::parse;
use crate::config::{ConfigError, Layers};
use crate::{Builder, StartError};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a server until the process is asked to end (SIGINT, SIGTERM). Settings come from Broker's flags
/// (`--port --origin --expiry --secret --connection --key-path --cert-path`), from `SAVE_PATH`, and from
/// `TIDINGS_*` variables. What cannot be understood or started ends the process with a message.
///
/// ```no_run
/// use tidings::broker;
///
/// #[tokio::main]
/// pub async fn main() {
///     broker().await
/// }
/// ```
pub async fn broker() {
    if let Err(error) = run().await {
        eprintln!("broker: {error}");
        let is_usage = matches!(error, StartError::Config(_));
        std::process::exit(if is_usage { 2 } else { 1 });
    }
}

async fn run() -> Result<(), StartError> {
    // Whoever embeds this may have installed their own before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let layers = layers(std::env::args().skip(1), std::env::vars_os().filter_map(text))?;
    let mut running = Builder::new(layers.finish()).start().await?;
    let scheme = if running.is_tls() { "https" } else { "http" };
    eprintln!("listening on {scheme}://{}", running.addr());
    let listens = |source| StartError::Data { dir: "the process's signals".into(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(listens)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = running.ended() => {}
    }
    Ok(running.shutdown().await?)
}

fn layers(
    words: impl Iterator<Item = String>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Layers, ConfigError> {
    let variables: Vec<_> = variables.collect();
    let layers = Layers::default().environment(variables.iter().map(|(n, v)| (n.as_str(), v.as_str())))?;
    let (mut settings, flags) = parse(words)?;
    settings.extend(flags.settings()?);
    layers.started_as_broker().settings(settings)
}

/// A variable that is not UTF-8 cannot be one of ours.
fn text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
