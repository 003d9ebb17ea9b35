//! The whole server inside a program: log, engine, doors.
//!
//! Owns: starting and ending them in the right order. Never: reads the environment or installs anything global.

use crate::Embedded;
use crate::config::{Config, ConfigError};
use crate::secret::{self, DataSecret, SecretError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidings_drivers::time::NtpClock;
use tidings_engine::Tidings;
use tidings_engine::auth::Gate;
use tidings_log::{Clock, SystemClock};
use tidings_server::{BindError, Door, Server};
use tokio::task::JoinHandle;

/// Starts a server from its settings.
pub struct Builder {
    config: Config,
    clock: Option<Arc<dyn Clock>>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("data directory {dir}: {source}")]
    Data { dir: String, source: std::io::Error },
    #[error(transparent)]
    Log(#[from] tidings_log::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A server that is listening.
pub struct Running {
    embedded: Embedded,
    address: SocketAddr,
    secret: DataSecret,
    server: JoinHandle<()>,
    drain: Duration,
}

impl Builder {
    pub fn new(config: Config) -> Self {
        Self { config, clock: None }
    }

    /// Takes the time from `clock`, and asks no time server whatever the settings say.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens the data directory and begins to listen.
    ///
    /// # Errors
    /// When settings, keys or the data directory are refused, or the address is taken; nothing runs then.
    pub async fn start(self) -> Result<Running, StartError> {
        let Self { config, clock } = self;
        let refuse = |source| StartError::Data { dir: config.data.display().to_string(), source };
        secret::make_dir(&config.data).map_err(refuse)?;
        let secret = DataSecret::open(&config.data)?;
        let keys = config.keys(&secret.secret)?;
        let (clock, ntp): (Arc<dyn Clock>, _) = match clock {
            Some(clock) => (clock, None),
            None if config.time.ntp => {
                let ntp = Arc::new(NtpClock::new());
                (Arc::clone(&ntp) as _, Some(ntp))
            }
            None => (Arc::new(SystemClock), None),
        };
        let embedded = Embedded::open_with(
            &config.data,
            config.log.into(),
            config.limits,
            Arc::clone(&clock),
            Duration::from_millis(config.retention.every_ms.max(1)),
        )
        .await?;
        let (services, drain) = (embedded.services().clone(), Duration::from_millis(config.http.drain_ms));
        if let Some(ntp) = ntp {
            let (tidings, stop) = (embedded.tidings().clone(), services.stop().clone());
            services.spawn("time", ntp.follow(config.time, stop, move || tidings.clock_changed()));
        }
        let door = Door::new(embedded.tidings().clone(), Gate::new(keys, clock), config.http, services);
        let server = match Server::bind(door).await {
            Ok(server) => server,
            Err(error) => {
                embedded.close().await?;
                return Err(error.into());
            }
        };
        let address = server.address();
        let server = tokio::spawn(server.run());
        Ok(Running { embedded, address, secret, server, drain })
    }
}

impl Running {
    /// The handle, for a program that publishes and subscribes beside its clients.
    pub fn tidings(&self) -> &Tidings {
        self.embedded.tidings()
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The data directory's secret, which signs this server's tokens.
    pub fn secret(&self) -> &DataSecret {
        &self.secret
    }

    /// Waits until the server has ended by itself, which it does only when something is broken.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "the server broke down");
        }
    }

    /// Takes no new connections, ends streams, finishes requests, lets go of the data directory.
    pub async fn shutdown(mut self) -> Result<(), tidings_log::Error> {
        self.embedded.services().stop().cancel();
        if !self.server.is_finished() {
            self.ended().await;
        }
        self.embedded.close_within(self.drain).await
    }
}
