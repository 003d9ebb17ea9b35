//! The whole server inside a program: log, engine, doors.
//!
//! Owns: starting and ending them in the right order. Never: reads the environment or installs anything global.

use crate::Embedded;
use crate::config::{Config, ConfigError, SharedSecret};
use crate::secret::{self, DataSecret, SecretError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidings_drivers::time::NtpClock;
use tidings_engine::Tidings;
use tidings_engine::auth::{Gate, Users};
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
    users: Users,
    secret: DataSecret,
    server: JoinHandle<()>,
    drain: Duration,
    is_tls: bool,
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
        let Self { mut config, clock } = self;
        let broker_topics = config.broker.topics()?;
        config.http.broker = config.broker.enabled;
        let refuse = |source| StartError::Data { dir: config.data.display().to_string(), source };
        secret::make_dir(&config.data).map_err(refuse)?;
        let secret = DataSecret::open(&config.data)?;
        if config.auth.secrets.iter().any(SharedSecret::is_short) {
            tracing::warn!(
                "a secret in auth.secrets has fewer than {} characters and can be guessed from a single token; \
                 it verifies only the tokens of this server's own users",
                secret::CHARS_MIN
            );
        }
        let (keys, signer) = (config.keys(&secret.secret)?, config.signer(&secret.secret));
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
            clock,
            Duration::from_millis(config.retention.every_ms.max(1)),
        )
        .await?;
        embedded.tidings().allow_reach(broker_topics);
        let users = Users::new(embedded.tidings().clone(), config.users, signer);
        let (services, drain) = (embedded.services().clone(), Duration::from_millis(config.http.drain_ms));
        if let Some(ntp) = ntp {
            let (tidings, stop) = (embedded.tidings().clone(), services.stop().clone());
            services.spawn("time", ntp.follow(config.time, stop, move || tidings.clock_changed()));
        }
        let door =
            Door::new(embedded.tidings().clone(), Gate::new(keys, users.clone()), config.http, services);
        let server = match Server::bind(door).await {
            Ok(server) => server,
            Err(error) => {
                embedded.close().await?;
                return Err(error.into());
            }
        };
        let (address, is_tls) = (server.address(), server.is_tls());
        let server = tokio::spawn(server.run());
        Ok(Running { embedded, address, users, secret, server, drain, is_tls })
    }
}

impl Running {
    /// The handle, for a program that publishes and subscribes beside its clients.
    pub fn tidings(&self) -> &Tidings {
        self.embedded.tidings()
    }

    /// The users, for a program that keeps them itself.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
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
