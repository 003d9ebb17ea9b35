//! One kind of entity: its resolver, its bounds, and the cells that somebody watches.
//!
//! Owns: that there is one cell for each key (and secret, where it matters), however many watch it; time limit,
//! concurrency limit and counting around the resolver. Never: keeps a cell that nobody watches.

use super::cell::{Cell, Why};
use super::shelf::Shelf;
use super::{Error, Resolver, Rows, Secret, Snapshot};
use crate::Services;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use tidings_model::{EntityKey, Key, TopicName};
use tokio::sync::Semaphore;

/// The bounds of one kind of entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A fetch takes no longer.
    pub timeout_ms: u64,
    /// Fetches going on at once; further ones wait.
    pub fetches_at_once: usize,
    /// Rows, and bytes of all rows together, that one fetch may yield.
    pub rows_max: usize,
    pub bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout_ms: 10_000, fetches_at_once: 64, rows_max: 100_000, bytes_max: 16 << 20 }
    }
}

/// What has happened to one kind of entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signals heard.
    pub signals: u64,
    pub fetches: u64,
    /// Fetches that failed, took too long or yielded too much.
    pub failures: u64,
    /// Subscriptions open now.
    pub watchers: u64,
}

#[derive(Default)]
struct Counters {
    signals: AtomicU64,
    fetches: AtomicU64,
    failures: AtomicU64,
    watchers: AtomicU64,
}

/// One kind of entity.
pub struct Kind {
    pub name: TopicName,
    resolver: Arc<dyn Resolver>,
    settings: Settings,
    pub(super) permits: Semaphore,
    cells: Mutex<BTreeMap<(Key, Secret), Arc<Cell>>>,
    counters: Counters,
    warned: Mutex<Option<Instant>>,
    pub(super) shelf: Arc<Shelf>,
    pub(super) services: Services,
}

/// A failing resolver is complained about once in this time.
const WARN_EVERY: Duration = Duration::from_secs(10);

impl Kind {
    pub fn new(
        name: TopicName,
        resolver: Arc<dyn Resolver>,
        settings: Settings,
        shelf: Arc<Shelf>,
        services: Services,
    ) -> Self {
        let permits = Semaphore::new(settings.fetches_at_once.clamp(1, Semaphore::MAX_PERMITS));
        let (cells, counters, warned) = (Mutex::default(), Counters::default(), Mutex::default());
        Self { name, resolver, settings, permits, cells, counters, warned, shelf, services }
    }

    /// The cell of `id` for whoever shows `secret`; one more watches it from now on.
    pub fn join(self: &Arc<Self>, id: &Key, secret: &Secret) -> Arc<Cell> {
        let secret = if self.secret_matters() { secret.clone() } else { Secret::default() };
        let key = EntityKey { entity: self.name.clone(), id: id.clone() };
        let mut cells = self.cells();
        let cell = cells
            .entry((id.clone(), secret.clone()))
            .or_insert_with(|| Arc::new(Cell::new(Arc::clone(self), key, secret)));
        cell.joined();
        self.counters.watchers.fetch_add(1, Ordering::Relaxed);
        Arc::clone(cell)
    }

    /// One fewer watches; with the last one the cell goes, and a fetch that nobody waits for is given up.
    pub fn leave(&self, cell: &Arc<Cell>) {
        let mut cells = self.cells();
        self.counters.watchers.fetch_sub(1, Ordering::Relaxed);
        if cell.left() {
            cells.remove(&(cell.key.id.clone(), cell.secret.clone()));
            drop(cells);
            cell.abandon();
        }
    }

    /// The entity changed: everybody who watches it gets its rows as they are from now on.
    pub fn changed(&self, id: &Key) {
        self.counters.signals.fetch_add(1, Ordering::Relaxed);
        for cell in self.cells_of(id) {
            cell.touch(Why::Change);
        }
    }

    /// Anything may have changed.
    pub fn all_changed(&self) {
        let cells: Vec<_> = self.cells().values().cloned().collect();
        cells.iter().for_each(|cell| cell.touch(Why::Change));
    }

    fn cells_of(&self, id: &Key) -> Vec<Arc<Cell>> {
        let first = (id.clone(), Secret::default());
        let cells = self.cells();
        cells.range(first..).take_while(|((own, _), _)| own == id).map(|(_, c)| Arc::clone(c)).collect()
    }

    fn cells(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Key, Secret), Arc<Cell>>> {
        self.cells.lock().expect("no panic while holding the lock")
    }

    /// Whether subscribers with different secrets have different cells.
    pub fn secret_matters(&self) -> bool {
        self.resolver.secret_matters()
    }

    pub fn counts(&self) -> Counts {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let Counters { signals, fetches, failures, watchers } = &self.counters;
        let [signals, fetches, failures, watchers] = [signals, fetches, failures, watchers].map(read);
        Counts { signals, fetches, failures, watchers }
    }

    /// One call of the resolver. A panic in it is a failure like any other.
    pub async fn fetch(&self, key: &EntityKey, secret: &Secret) -> Result<Arc<Snapshot>, Error> {
        self.counters.fetches.fetch_add(1, Ordering::Relaxed);
        let out = Rows::new(self.settings.rows_max, self.settings.bytes_max);
        let limit = Duration::from_millis(self.settings.timeout_ms);
        let calling = unpanicked(async { self.resolver.fetch(key, secret, out.clone()).await });
        let answer = match tokio::time::timeout(limit, calling).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout(self.settings.timeout_ms)),
        };
        // Closed in any case: nothing that is handed over later counts.
        let rows = out.finish();
        match answer.and(rows) {
            Ok(rows) => Ok(self.shelve(key, rows)),
            Err(error) => {
                self.complain(&error);
                Err(error)
            }
        }
    }

    fn shelve(&self, key: &EntityKey, rows: Vec<Bytes>) -> Arc<Snapshot> {
        let snapshot = Arc::new(Snapshot::new(key.clone(), rows));
        self.shelf.put(&snapshot, Instant::now());
        snapshot
    }

    fn complain(&self, error: &Error) {
        if *error == Error::Refused {
            return;
        }
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let (entity, now) = (&self.name, Instant::now());
        let mut warned = self.warned.lock().expect("no panic while holding the lock");
        if warned.is_none_or(|at| now.duration_since(at) >= WARN_EVERY) {
            *warned = Some(now);
            tracing::warn!(%entity, %error, "fetching an entity fails");
        } else {
            tracing::debug!(%entity, %error, "fetching an entity fails");
        }
    }
}

async fn unpanicked(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(_) => Poll::Ready(Err(Error::Failed("the resolver panicked".into()))),
    })
    .await
}
