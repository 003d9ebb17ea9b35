//! The whole server inside a program: log, engine, doors.
//!
//! Owns: starting and ending them in the right order. Never: reads the environment or installs anything global.

use crate::Embedded;
use crate::config::{Config, ConfigError, SharedSecret, topics};
use crate::entities::{self, EntitiesError, Own};
use crate::secret::{self, DataSecret, SecretError};
use crate::sources;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidings_drivers::time::NtpClock;
use tidings_drivers::webhook::Webhooks;
use tidings_engine::Tidings;
use tidings_engine::auth::{ApiKeys, Gate, Users};
use tidings_engine::bus::Bus;
use tidings_engine::entities::{Outcome, PassThrough, Resolver, Rows, Secret, Settings};
use tidings_log::{Clock, SystemClock};
use tidings_model::EntityKey;
use tidings_server::{BindError, Door, Router, Server};
use tokio::task::JoinHandle;

/// Starts a server from its settings.
pub struct Builder {
    config: Config,
    clock: Option<Arc<dyn Clock>>,
    own: Own,
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
    #[error(transparent)]
    Entities(#[from] EntitiesError),
}

/// A server that is listening.
pub struct Running {
    nested: Nested,
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    server: JoinHandle<()>,
    is_tls: bool,
}

/// A server without a listener of its own: a program nests its router.
pub struct Nested {
    embedded: Embedded,
    users: Users,
    secret: DataSecret,
    door: Door,
    drain: Duration,
}

impl Builder {
    pub fn new(config: Config) -> Self {
        Self { config, clock: None, own: Own::default() }
    }

    /// Takes the time from `clock`, and asks no time server whatever the settings say.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Fetches the rows of every `entity` with `fetch`, which gets the key, the client's secret, and what takes the
    /// rows. It answers with nothing, or with why it failed.
    pub fn fetch<F, Done>(mut self, entity: &str, fetch: F) -> Self
    where
        F: Fn(EntityKey, Secret, Rows) -> Done + Send + Sync + 'static,
        Done: Future<Output: Outcome> + Send + 'static,
    {
        self.own.fetch(entity, fetch);
        self
    }

    /// As [`Builder::fetch`], with any resolver and its bounds.
    pub fn resolver(mut self, entity: &str, resolver: Arc<dyn Resolver>, settings: Settings) -> Self {
        self.own.resolvers.push((entity.to_owned(), resolver, settings));
        self
    }

    /// Takes messages of entity-sync's clients that have no action, with the client's secret.
    pub fn pass_through(mut self, to: impl PassThrough) -> Self {
        self.own.pass_through = Some(Arc::new(to));
        self
    }

    /// Tells other servers of changes through `bus`, instead of the one that is set.
    pub fn bus(mut self, bus: impl Bus) -> Self {
        self.own.bus = Some(Arc::new(bus));
        self
    }

    /// Opens the data directory and begins to listen.
    ///
    /// # Errors
    /// When settings, keys or the data directory are refused, or the address is taken; nothing runs then.
    pub async fn start(self) -> Result<Running, StartError> {
        let nested = self.nested().await?;
        let server = match Server::bind(nested.door.clone()).await {
            Ok(server) => server,
            Err(error) => {
                nested.embedded.close().await?;
                return Err(error.into());
            }
        };
        let (address, grpc_address, is_tls) = (server.address(), server.grpc_address(), server.is_tls());
        let server = tokio::spawn(server.run());
        Ok(Running { nested, address, grpc_address, server, is_tls })
    }

    /// Opens the data directory without listening: the program serves [`Nested::router`] itself.
    ///
    /// # Errors
    /// When settings, keys or the data directory are refused; nothing runs then.
    pub async fn nested(self) -> Result<Nested, StartError> {
        let Self { mut config, clock, own } = self;
        let broker_topics = config.broker.topics()?;
        config.http.broker = config.broker.enabled;
        crate::esink::check(&config)?;
        config.http.grpc = std::mem::take(&mut config.grpc);
        (config.http.eventrelay, config.http.rates) = (config.eventrelay.enabled, config.rates);
        config.http.phoenix = config.phoenix.clone();
        config.http.inbound = config.inbound.clone();
        config.http.socketio = config.socketio.clone();
        config.http.esink = config.esink.clone();
        let refuse = |source| StartError::Data { dir: config.data.display().to_string(), source };
        secret::make_dir(&config.data).map_err(refuse)?;
        config.grpc_pem.put(&config.data, &mut config.http.grpc).map_err(refuse)?;
        let secret = DataSecret::open(&config.data)?;
        if config.self_signed && config.http.tls.is_none() {
            config.http.tls = Some(crate::esink::self_signed(&config.data).map_err(refuse)?);
        }
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
            config.log.clone().into(),
            config.limits.clone(),
            Arc::clone(&clock),
            Duration::from_millis(config.retention.every_ms.max(1)),
        )
        .await?;
        embedded.tidings().allow_reach(broker_topics);
        embedded.tidings().set_webhooks(config.webhooks.clone());
        let started = async {
            // Before anything is captured or published.
            topics::apply(&config.topics, embedded.tidings())?;
            let to = entities::start(&config, own, &embedded).await?;
            crate::esink::set_sights(&config, embedded.tidings()).await?;
            sources::start(&config, &embedded).await.map(|()| to)
        };
        let pass_through = match started.await {
            Ok(to) => to,
            Err(error) => {
                embedded.close().await?;
                return Err(error.into());
            }
        };
        let token_lookup = match crate::esink::token_lookup(&config) {
            Ok(lookup) => lookup,
            Err(error) => {
                embedded.close().await?;
                return Err(error.into());
            }
        };
        let (services, drain) = (embedded.services().clone(), Duration::from_millis(config.http.drain_ms));
        if let Some(ntp) = ntp {
            let (tidings, stop) = (embedded.tidings().clone(), services.stop().clone());
            services.spawn("time", ntp.follow(config.time, stop, move || tidings.clock_changed()));
        }
        embedded.tidings().deliver(&services, Arc::new(Webhooks::new()));
        let users = Users::new(embedded.tidings().clone(), config.users, signer);
        let http = tidings_server::Config { entity_sync: config.entities.door, ..config.http };
        let door = Door::new(embedded.tidings().clone(), Gate::new(keys, users.clone()), http, services);
        pass_through.into_iter().for_each(|to| door.set_pass_through(to));
        token_lookup.into_iter().for_each(|lookup| door.set_token_lookup(lookup));
        Ok(Nested { embedded, users, secret, door, drain })
    }
}

impl Nested {
    /// All doors, to be served by the program's own listener. Bounds on connections and TLS are that one's, and
    /// since it alone knows where requests come from, all attempts to log in count as one address's.
    pub fn router(&self) -> Router {
        tidings_server::router(self.door.clone())
    }

    /// The handle, for a program that publishes and subscribes beside its clients.
    pub fn tidings(&self) -> &Tidings {
        self.embedded.tidings()
    }

    /// The users, for a program that keeps them itself.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The API keys, for a program that hands them out itself.
    pub fn api_keys(&self) -> &ApiKeys {
        self.door.gate.api_keys()
    }

    /// The data directory's secret, which signs this server's tokens.
    pub fn secret(&self) -> &DataSecret {
        &self.secret
    }

    /// Ends streams and lets go of the data directory. The program's listener ends first.
    pub async fn shutdown(self) -> Result<(), tidings_log::Error> {
        self.embedded.services().stop().cancel();
        self.embedded.close_within(self.drain).await
    }
}

impl Running {
    /// The handle, for a program that publishes and subscribes beside its clients.
    pub fn tidings(&self) -> &Tidings {
        self.nested.tidings()
    }

    /// All doors, for a program that serves them at a place of its own too.
    pub fn router(&self) -> Router {
        self.nested.router()
    }

    /// The users, for a program that keeps them itself.
    pub fn users(&self) -> &Users {
        self.nested.users()
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where the port for gRPC alone is, if there is one.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The data directory's secret, which signs this server's tokens.
    pub fn secret(&self) -> &DataSecret {
        self.nested.secret()
    }

    /// Waits until the server has ended by itself, which it does only when something is broken.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "the server broke down");
        }
    }

    /// Takes no new connections, ends streams, finishes requests, lets go of the data directory.
    pub async fn shutdown(mut self) -> Result<(), tidings_log::Error> {
        self.nested.embedded.services().stop().cancel();
        if !self.server.is_finished() {
            self.ended().await;
        }
        self.nested.shutdown().await
    }
}
