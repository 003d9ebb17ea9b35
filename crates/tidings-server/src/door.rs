//! What every door holds.

use crate::dialect::broker::Board;
use crate::fan::Fan;
use crate::socketio::{self, Sessions};
use crate::{Config, Meter, Metrics};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use tidings_engine::auth::{Gate, TokenLookup, Users};
use tidings_engine::entities::PassThrough;
use tidings_engine::inbound::Inbounds;
use tidings_engine::{Services, Tidings};
use tidings_model::TopicName;
use tokio::sync::Semaphore;

/// Shared by all connections of one server. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

pub struct Inner {
    pub tidings: Tidings,
    pub gate: Gate,
    pub users: Users,
    /// Where other people's servers post.
    pub inbounds: Inbounds,
    pub config: Config,
    pub metrics: Metrics,
    pub services: Services,
    /// How often callers may call.
    pub rates: Meter,
    /// Writes live events to the sockets of plain connections.
    pub(crate) fan: Fan,
    /// What Broker's listeners see; `None` where its interface is switched off.
    pub(crate) board: Option<Board>,
    /// Streams ended so far on shutdown: spreads the retries evenly.
    pub(crate) ended: AtomicU64,
    /// Room for clients that speak entity-sync.
    pub(crate) entity_room: Arc<Semaphore>,
    pass_through: OnceLock<Arc<dyn PassThrough>>,
    /// Clients of Socket.IO, and room for them.
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) socketio_room: Arc<Semaphore>,
    /// Topics that Socket.IO clients are sent as changes, beside the captured ones.
    tables: Vec<TopicName>,
    /// Columns that are taken out of what is published as Esink does, by table.
    pub(crate) esink_filters: BTreeMap<String, Vec<String>>,
    token_lookup: OnceLock<Arc<dyn TokenLookup>>,
}

impl Door {
    pub fn new(tidings: Tidings, gate: Gate, config: Config, services: Services) -> Self {
        let metrics = Metrics::new(&tidings);
        let rates = Meter::new(&config.rates);
        let fan = Fan::start(&services);
        let board = config.broker.then(|| Board::start(&tidings, &services));
        let users = gate.users().clone();
        let inbounds = Inbounds::new(tidings.clone(), config.inbound.clone());
        let own = config.esink.enabled.then_some(&config.esink.topic);
        let tables = config.socketio.topics.iter().chain(own);
        // What is no name was refused before.
        let tables = tables.filter_map(|name| TopicName::parse_captured(name).ok()).collect();
        let esink_filters = config.esink.filtered().unwrap_or_default();
        let socketio_room = tidings.limits().connections.min(Semaphore::MAX_PERMITS);
        let room = tidings.limits().entity_connections.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            tidings,
            gate,
            users,
            inbounds,
            config,
            metrics,
            rates,
            services,
            fan,
            board,
            ended: AtomicU64::new(0),
            entity_room: Arc::new(Semaphore::new(room)),
            pass_through: OnceLock::new(),
            sessions: Arc::default(),
            socketio_room: Arc::new(Semaphore::new(socketio_room)),
            tables,
            esink_filters,
            token_lookup: OnceLock::new(),
        }))
    }

    /// Messages that are none of entity-sync's go to `to`.
    pub fn set_pass_through(&self, to: Arc<dyn PassThrough>) {
        let _ = self.0.pass_through.set(to);
    }

    /// Tokens that the application keeps are looked up with `lookup`, at once and again while they are in use.
    pub fn set_token_lookup(&self, lookup: Arc<dyn TokenLookup>) {
        if self.0.token_lookup.set(Arc::clone(&lookup)).is_ok() {
            self.services.spawn("socketio-recheck", socketio::recheck(self.clone(), lookup));
        }
    }

    pub(crate) fn token_lookup(&self) -> Option<&Arc<dyn TokenLookup>> {
        self.0.token_lookup.get()
    }

    /// Topics that Socket.IO clients are sent as changes, as far as they may see them.
    pub(crate) fn tables(&self) -> Vec<TopicName> {
        let mut all = self.tidings.captured_topics();
        all.extend(self.0.tables.iter().filter(|own| self.tidings.captured_by(own).is_none()).cloned());
        all
    }

    /// Whether `name` is one of them.
    pub(crate) fn is_table(&self, name: &TopicName) -> bool {
        self.0.tables.contains(name) || self.tidings.captured_by(name).is_some()
    }

    pub(crate) fn pass_through(&self) -> Option<Arc<dyn PassThrough>> {
        self.0.pass_through.get().cloned()
    }
}

impl std::ops::Deref for Door {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
