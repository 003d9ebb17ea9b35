//! What can be set, and how file, environment and flags are laid over each other.
//!
//! Owns: names, kinds and bounds of settings. Flags win over the environment, that over the file, that over
//! the defaults. Never: reads the environment itself; it is handed in.

pub mod broker;
mod distance;
mod entities;
pub mod esink;
pub mod eventrelay;
mod layers;
mod sources;
pub(crate) mod topics;

pub use broker::Broker;
pub use entities::{Bus, CONNECTIONS_MAX, Database, Entities, Entity};
pub use eventrelay::EventRelay;
pub use layers::{Layers, Setting};
pub use sources::Source;
pub use topics::Topic;

use crate::secret::CHARS_MIN;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tidings_engine::auth::{KeyError, Keys, Secret, UserSettings};
use tidings_engine::delivery::WebhookSettings;
use tidings_log::embedded::Options;
use tidings_log::memory::IdWindow;
use tidings_model::Limits;

/// Everything that can be set. The same words in `tidings.toml`, as `TIDINGS_SECTION_WORD`, and as flags.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// What the process says about itself: `error`, `warn`, `info`, `debug`, `trace`, or a filter of these.
    pub log_level: String,
    /// Worker threads; 0 takes one for each core.
    pub threads: usize,
    pub http: tidings_server::Config,
    pub grpc: tidings_server::GrpcConfig,
    /// What EventRelay's variables say of its TLS.
    #[serde(skip)]
    pub grpc_pem: eventrelay::Pem,
    pub limits: Limits,
    pub log: Log,
    pub auth: Auth,
    pub retention: Retention,
    pub entities: Entities,
    pub bus: Bus,
    /// Databases that entities ask, by name.
    pub databases: BTreeMap<String, Database>,
    /// Databases whose changes are captured.
    pub sources: Vec<Source>,
    /// Who may see the rows of a topic, by its name.
    pub topics: BTreeMap<String, Topic>,
    pub broker: Broker,
    pub eventrelay: EventRelay,
    /// How often callers may call.
    pub rates: tidings_server::Rates,
    pub phoenix: tidings_server::Phoenix,
    pub inbound: tidings_engine::inbound::InboundSettings,
    pub socketio: tidings_server::SocketIo,
    pub esink: tidings_server::Esink,
    /// Who sees the rows of captured tables, where Esink's environment says so.
    #[serde(skip)]
    pub table_sights: Vec<esink::TableSight>,
    /// Serve TLS with a certificate of our own making where none is set.
    #[serde(skip)]
    pub self_signed: bool,
    pub users: UserSettings,
    pub time: tidings_drivers::time::Config,
    pub webhooks: WebhookSettings,
}

/// Settings under `[auth]`: keys that verify tokens beside the data directory's own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Shared secrets for HS256. The first also signs the tokens of users, so that those who share it verify
    /// them. One that is too short verifies nothing but our own users' tokens.
    pub secrets: Vec<SharedSecret>,
    /// Those that other systems' variables name: they verify, and never sign.
    #[serde(skip)]
    pub others: Vec<SharedSecret>,
    /// Public keys in PEM form: RSA for RS256, P-256 for ES256, Ed25519 for EdDSA.
    pub pem: Vec<PathBuf>,
    /// JWK sets.
    pub jwks: Vec<PathBuf>,
}

/// A configured secret; it is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct SharedSecret(String);

impl SharedSecret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever needs it to sign, verify or connect.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Settings under `[log]`. Sizes are bytes, times milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A segment is closed once it is at least this long; at most 1 GiB.
    pub segment_bytes: u32,
    /// A larger commit is refused.
    pub batch_bytes_max: usize,
    /// Commits written with one sync take about this much together.
    pub group_bytes_max: usize,
    /// Accepted but unwritten commits; further ones wait for room.
    pub queue_bytes_max: usize,
    /// What the index has yet to take in; the writer waits before it passes this.
    pub unapplied_bytes_max: usize,
    /// Blocks of segments that readers share.
    pub block_cache_bytes: usize,
    /// How long client-given ids are remembered for each topic, and how many events may follow.
    pub ids_age_ms: i64,
    pub ids_events: u64,
}

impl Default for Log {
    fn default() -> Self {
        let Options {
            segment_bytes,
            batch_bytes_max,
            group_bytes_max,
            queue_bytes_max,
            unapplied_bytes_max,
            block_cache_bytes,
            ids,
            ..
        } = Options::default();
        Self {
            segment_bytes,
            batch_bytes_max,
            group_bytes_max,
            queue_bytes_max,
            unapplied_bytes_max,
            block_cache_bytes,
            ids_age_ms: ids.age_ms,
            ids_events: ids.events,
        }
    }
}

impl From<Log> for Options {
    fn from(log: Log) -> Self {
        Self {
            segment_bytes: log.segment_bytes,
            batch_bytes_max: log.batch_bytes_max,
            group_bytes_max: log.group_bytes_max,
            queue_bytes_max: log.queue_bytes_max,
            unapplied_bytes_max: log.unapplied_bytes_max,
            block_cache_bytes: log.block_cache_bytes,
            ids: IdWindow { age_ms: log.ids_age_ms, events: log.ids_events },
            ..Self::default()
        }
    }
}

/// Settings under `[retention]`. What is kept is set for each topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How often retention is applied.
    pub every_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { every_ms: 60_000 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./tidings-data".into(),
            log_level: "info".into(),
            threads: 0,
            http: Default::default(),
            grpc: Default::default(),
            grpc_pem: Default::default(),
            limits: Limits::default(),
            log: Log::default(),
            auth: Auth::default(),
            retention: Retention::default(),
            entities: Entities::default(),
            bus: Bus::default(),
            databases: BTreeMap::new(),
            sources: Vec::new(),
            topics: BTreeMap::new(),
            broker: Broker::default(),
            eventrelay: EventRelay::default(),
            rates: Default::default(),
            phoenix: Default::default(),
            inbound: Default::default(),
            socketio: Default::default(),
            esink: Default::default(),
            table_sights: Vec::new(),
            self_signed: false,
            users: UserSettings::default(),
            time: Default::default(),
            webhooks: WebhookSettings::default(),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}, line {line}: {what}")]
    File { path: PathBuf, line: usize, what: String },
    #[error("{said_by}: {what}")]
    Value { said_by: String, what: String },
    #[error("no setting is called {name}; did you mean {nearest}?")]
    VariableUnknown { name: String, nearest: String },
    #[error("no setting is called {name}; what is in [{section}] is set in the file of settings only")]
    VariableOfFile { name: String, section: &'static str },
    #[error(
        "{said_by}: a secret that verifies tokens has at least {CHARS_MIN} characters, this one has {found}; \
         a shorter one can be guessed from a single token"
    )]
    SecretShort { said_by: String, found: usize },
    #[error("{path}: {source}")]
    Key { path: PathBuf, source: KeyError },
}

impl Config {
    /// All keys that may verify a token: `own` signs and is the only one whose `admin` counts.
    pub fn keys(&self, own: &Secret) -> Result<Keys, ConfigError> {
        let mut keys = Keys::default().own(own);
        for shared in self.auth.secrets.iter().chain(&self.auth.others) {
            let secret = shared.secret();
            keys = if shared.is_short() { keys.weak_secret(&secret) } else { keys.secret(&secret) };
        }
        for path in &self.auth.pem {
            keys =
                keys.pem(&read(path)?).map_err(|source| ConfigError::Key { path: path.clone(), source })?;
        }
        for path in &self.auth.jwks {
            keys =
                keys.jwks(&read(path)?).map_err(|source| ConfigError::Key { path: path.clone(), source })?;
        }
        Ok(keys)
    }

    /// What signs the tokens of users: the first configured secret, else `own`.
    pub fn signer(&self, own: &Secret) -> Secret {
        self.auth.secrets.first().map_or_else(|| own.clone(), SharedSecret::secret)
    }
}

impl SharedSecret {
    /// Whether it can be guessed from a single token.
    pub fn is_short(&self) -> bool {
        self.0.chars().count() < CHARS_MIN
    }

    fn secret(&self) -> Secret {
        Secret::new(self.0.as_bytes().to_vec())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Refuses a secret that verifies tokens of every kind and is too short for that.
fn check_secret(said_by: &str, text: &str) -> Result<(), ConfigError> {
    let found = text.chars().count();
    if found >= CHARS_MIN {
        return Ok(());
    }
    Err(ConfigError::SecretShort { said_by: said_by.to_owned(), found })
}
