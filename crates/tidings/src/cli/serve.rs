//! `tidings serve`: the server.

use super::{Context, Place, Usage, footprint};
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use tidings::config::broker::Flags;
use tidings::config::{Config, Setting};
use tidings::{BindError, Builder, Code, LogError, Running, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Every setting has a variable, TIDINGS_SECTION_NAME. Esink's variables (TABLE_NAMES, SECURITY_TOKEN, \
    TABLE_AUTH_COLUMN_ROUTING ...) start Tidings as Esink is."
)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    /// The port to listen on; 0 takes a free one [default: 8080]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// The address to listen on, with or without a port [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Write the port to this file once it is listening
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// An origin whose browser pages may call; `*` allows all. Repeatable
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
    /// Serve TLS with this certificate chain (PEM); read anew when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
    /// An address and port for gRPC alone, such as 127.0.0.1:50051, beside the port shared with HTTP
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc_listen: Option<String>,
    /// How long a user's token is good for, in seconds (Broker's flag) [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<String>,
    /// `https` serves TLS with --cert-path and --key-path (Broker's flag) [default: http]
    #[arg(long, value_name = "http|https")]
    connection: Option<String>,
    /// The private key of `--connection https` (Broker's flag) [default: ./broker.rsa]
    #[arg(long, value_name = "FILE")]
    key_path: Option<String>,
    /// The certificate of `--connection https` (Broker's flag) [default: ./broker.pem]
    #[arg(long, value_name = "FILE")]
    cert_path: Option<String>,
    /// A JWK set whose keys verify tokens. Repeatable
    #[arg(long, value_name = "FILE")]
    jwks: Vec<String>,
    /// A public key (PEM) that verifies tokens. Repeatable
    #[arg(long, value_name = "FILE")]
    pem: Vec<String>,
    /// A shared secret that verifies tokens (HS256); the first signs users' tokens. Better set TIDINGS_SECRET. Repeatable
    #[arg(long, value_name = "TEXT")]
    secret: Vec<String>,
    /// The queue that all servers share: nats://, nsq:// or redis://, host and port
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// A time server (NTP) to follow instead of the usual ones. Repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    ntp_server: Vec<String>,
    /// Take the time from this machine alone, ask no time server
    #[arg(long, conflicts_with = "ntp_server")]
    no_ntp: bool,
    /// How much to log: error, warn, info, debug, trace, or a filter of these [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Args {
    fn settings(&self) -> Vec<Setting> {
        let one = |flag, place, value: Option<String>| value.map(|v| Setting::flag(flag, place, [v]));
        let many = |flag, place, values: &Vec<String>| {
            (!values.is_empty()).then(|| Setting::flag(flag, place, values.iter()))
        };
        let settings = [
            one("--port", "port", self.port.map(|p| p.to_string())),
            one("--listen", "http.listen", self.listen.clone()),
            many("--origin", "http.origins", &self.origin),
            one("--tls-cert", "http.tls.cert", self.tls_cert.clone()),
            one("--tls-key", "http.tls.key", self.tls_key.clone()),
            one("--grpc-listen", "grpc.listen", self.grpc_listen.clone()),
            many("--jwks", "auth.jwks", &self.jwks),
            many("--pem", "auth.pem", &self.pem),
            many("--secret", "auth.secrets", &self.secret),
            one("--bus", "bus.url", self.bus.clone()),
            many("--ntp-server", "time.servers", &self.ntp_server),
            // Naming a server means following it, whatever the file says.
            one("--ntp-server", "time.ntp", (!self.ntp_server.is_empty()).then(|| "true".to_owned())),
            one("--no-ntp", "time.ntp", self.no_ntp.then(|| "false".to_owned())),
            one("--log-level", "log_level", self.log_level.clone()),
            one("--threads", "threads", self.threads.map(|n| n.to_string())),
        ];
        settings.into_iter().flatten().collect()
    }

    fn broker(&self) -> Flags {
        let Self { expiry, connection, key_path, cert_path, .. } = self.clone();
        Flags { expiry, connection, key_path, cert_path }
    }

    /// What the flag says, for the time before all layers are laid.
    pub fn log_level(&self) -> Option<&str> {
        self.log_level.as_deref()
    }
}

pub fn run(args: Args, context: Context) -> Result<()> {
    let broker = args.broker();
    let settings = [args.settings(), broker.settings()?].concat();
    let layers = if broker.is_used() { context.layers.started_as_broker() } else { context.layers };
    let config = layers.settings(settings)?.finish();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads > 0 {
        runtime.worker_threads(config.threads);
    }
    runtime.enable_all().build()?.block_on(serve(config, args.port_file))
}

async fn serve(config: Config, port_file: Option<PathBuf>) -> Result<()> {
    // Asked for first: a signal during the start is not lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // By default this signal kills. Certificates are read anew whenever their files change, asked or not.
    let _hangup = signal(SignalKind::hangup())?;
    let dir = config.data.display().to_string();
    let mut running = Builder::new(config).start().await.map_err(explain)?;
    greet(&running, &dir);
    let (address, scheme) = (running.addr(), if running.is_tls() { "https" } else { "http" });
    if let Some(path) = port_file {
        std::fs::write(&path, format!("{}\n", address.port())).with_context(|| path.display().to_string())?;
    }
    eprintln!("listening on {scheme}://{}", reachable(address));
    if let Some(address) = running.grpc_addr() {
        eprintln!("listening for gRPC on {}", reachable(address));
    }
    let settling = tokio::spawn(footprint::settle());
    tokio::select! {
        () = either(&mut interrupt, &mut terminate) => {}
        () = running.ended() => anyhow::bail!("the server ended unexpectedly (internal)"),
    }
    settling.abort();
    tracing::info!("shutting down");
    tokio::select! {
        done = running.shutdown() => done.map_err(explain)?,
        () = either(&mut interrupt, &mut terminate) => tracing::warn!("not waiting for the rest"),
    }
    Ok(())
}

/// Says how to get a token where nobody can have one yet.
fn greet(running: &Running, dir: &str) {
    let secret = running.secret();
    if secret.is_new {
        eprintln!(
            "made a new secret in {dir}/secret; for a token run: tidings token --data {dir} --topics '*'"
        );
    }
    if secret.is_exposed {
        tracing::warn!("{dir}/secret can be read by other users of this machine: chmod 600 it");
    }
}

/// A wildcard address is no place a client can go to.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Adds the stable code where the log has one to give, and what to do where something can be done.
fn explain(error: impl Into<StartError>) -> anyhow::Error {
    match error.into() {
        StartError::Config(error) => error.into(),
        StartError::Entities(error) => Usage(error.to_string()).into(),
        StartError::Bind(error @ (BindError::Tls(_) | BindError::Grpc(_))) => Usage(error.to_string()).into(),
        StartError::Log(error @ LogError::Corrupt { .. }) => {
            let code = error.code();
            anyhow::anyhow!("{error}; `tidings check DIR --repair` sets aside what is damaged ({code})")
        }
        StartError::Log(error) if error.code() != Code::Internal => {
            anyhow::anyhow!("{error} ({})", error.code())
        }
        error => error.into(),
    }
}
