//! What every door holds.

use crate::dialect::broker::Board;
use crate::fan::Fan;
use crate::{Config, Metrics};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tidings_engine::auth::{Gate, Users};
use tidings_engine::{Services, Tidings};

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
    /// Writes live events to the sockets of plain connections.
    pub(crate) fan: Fan,
    /// What Broker's listeners see; `None` where its interface is switched off.
    pub(crate) board: Option<Board>,
    /// Streams ended so far on shutdown: spreads the retries evenly.
    pub(crate) ended: AtomicU64,
}

impl Door {
    pub fn new(tidings: Tidings, gate: Gate, config: Config, services: Services) -> Self {
        let metrics = Metrics::new(&tidings);
        let fan = Fan::start(&services);
        let board = config.broker.then(|| Board::start(&tidings, &services));
        let (users, ended) = (gate.users().clone(), AtomicU64::new(0));
        Self(Arc::new(Inner { tidings, gate, users, config, metrics, services, fan, board, ended }))
    }
}

impl std::ops::Deref for Door {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
