//! What every door holds.

use crate::dialect::broker::Board;
use crate::fan::Fan;
use crate::{Config, Meter, Metrics};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use tidings_engine::auth::{Gate, Users};
use tidings_engine::entities::PassThrough;
use tidings_engine::{Services, Tidings};
use tokio::sync::Semaphore;

/// Shared by all connections of one server. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

pub struct Inner {
    pub tidings: Tidings,
    pub gate: Gate,
    pub users: Users,
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
}

impl Door {
    pub fn new(tidings: Tidings, gate: Gate, config: Config, services: Services) -> Self {
        let metrics = Metrics::new(&tidings);
        let rates = Meter::new(&config.rates);
        let fan = Fan::start(&services);
        let board = config.broker.then(|| Board::start(&tidings, &services));
        let users = gate.users().clone();
        let room = tidings.limits().entity_connections.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            tidings,
            gate,
            users,
            config,
            metrics,
            rates,
            services,
            fan,
            board,
            ended: AtomicU64::new(0),
            entity_room: Arc::new(Semaphore::new(room)),
            pass_through: OnceLock::new(),
        }))
    }

    /// Messages that are none of entity-sync's go to `to`.
    pub fn set_pass_through(&self, to: Arc<dyn PassThrough>) {
        let _ = self.0.pass_through.set(to);
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
