//! All kinds of entities of a node, and the bus that says that one of them changed.
//!
//! Owns: which entities there are, and their place on the bus. Never: fetches by itself; cells do.

use super::kind::{Counts, Kind, Settings};
use super::shelf::Shelf;
use super::{Access, Resolver, Secret, Snapshot, Watches, Wish};
use crate::bus::{Bus, LocalBus, News, Signal, Status};
use crate::listeners::{Listener, Place};
use crate::{Error, Item, Services};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};
use tidings_model::{EntityKey, Limits, TopicName};
use tokio::sync::Notify;

/// How often the shelf is looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The entities of one node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Entities(Arc<Inner>);

struct Inner {
    kinds: RwLock<HashMap<TopicName, Arc<Kind>>>,
    bus: OnceLock<Arc<dyn Bus>>,
    services: OnceLock<Services>,
    shelf: Arc<Shelf>,
    keys_max: usize,
}

impl Entities {
    pub fn new(limits: &Limits) -> Self {
        Self(Arc::new(Inner {
            kinds: RwLock::default(),
            bus: OnceLock::new(),
            services: OnceLock::new(),
            shelf: Arc::new(Shelf::new(limits.entity_rows_bytes)),
            keys_max: limits.entity_keys,
        }))
    }

    /// Fetches run as tasks of `services` from now on.
    pub fn start(&self, services: &Services) {
        let _ = self.0.services.set(services.clone());
        let (shelf, stop) = (Arc::downgrade(&self.0.shelf), services.stop().clone());
        services.spawn("shelf", async move {
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
                let Some(shelf) = shelf.upgrade() else { return };
                shelf.sweep(Instant::now());
            }
        });
    }

    /// Takes signals from `bus`, and gives its own to it. To be called before anything else; without it a node
    /// is alone.
    pub fn join(&self, bus: Arc<dyn Bus>) {
        let _ = self.0.bus.set(bus);
    }

    fn bus(&self) -> &Arc<dyn Bus> {
        self.0.bus.get_or_init(|| Arc::new(LocalBus::new()))
    }

    /// Whether the bus is within reach.
    pub fn bus_status(&self) -> Status {
        *self.bus().status().borrow()
    }

    /// From now on there are entities called `name`, whose rows `resolver` fetches.
    ///
    /// A bus that is out of reach does not hinder this: subscribers are served, and hear of other nodes' changes
    /// once it is back.
    ///
    /// # Errors
    /// When there are entities of that name already, or the bus can't carry the name.
    pub async fn configure(
        &self,
        name: TopicName,
        resolver: Arc<dyn Resolver>,
        settings: Settings,
    ) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Settings { field: "entities", why });
        if name.is_system() {
            return refuse(format!("{name}: a name that begins with $ belongs to the system"));
        }
        let services = self.0.services.get_or_init(Services::new).clone();
        let kind = Kind::new(name.clone(), resolver, settings, Arc::clone(&self.0.shelf), services);
        let kind = Arc::new(kind);
        {
            let mut kinds = self.0.kinds.write().expect("no panic while holding the lock");
            if kinds.contains_key(&name) {
                return refuse(format!("{name} is configured twice"));
            }
            kinds.insert(name.clone(), Arc::clone(&kind));
        }
        let hear = move |news: News| match news {
            News::Signal(Signal(key)) => kind.changed(&key.id),
            News::Missed(_) => kind.all_changed(),
        };
        match self.bus().subscribe(&name, Arc::new(hear)).await {
            Ok(()) => Ok(()),
            Err(error) if error.retryable() => {
                tracing::warn!(entity = %name, %error, "changes on other servers are not heard yet");
                Ok(())
            }
            Err(error) => {
                self.0.kinds.write().expect("no panic while holding the lock").remove(&name);
                Err(error.into())
            }
        }
    }

    /// Tells every node, this one included, that an entity has changed. Everybody who watches it gets its rows.
    ///
    /// # Errors
    /// When there is no such entity; or when the bus did not take the signal, and then the readers of this
    /// node were told all the same.
    pub async fn notify_changed(&self, key: EntityKey) -> Result<(), Error> {
        let kind = self.kind(&key.entity).ok_or_else(|| Error::EntityUnknown(key.entity.clone()))?;
        let told = self.bus().publish(Signal(key.clone())).await;
        if told.is_err() {
            kind.changed(&key.id);
        }
        Ok(told?)
    }

    /// The rows of `key` as they are now, for whoever shows `secret`.
    ///
    /// # Errors
    /// When there is no such entity, or its rows can't be had.
    pub async fn rows(&self, key: &EntityKey, secret: Secret) -> Result<Arc<Snapshot>, Error> {
        let mut watches = Watches::new(self.clone(), Access::Open);
        watches.set_secret(secret);
        watches.watch(key, Wish { state: true, trouble: true })?;
        let bell = Arc::new(Bell(Notify::new()));
        let mut waiting = Waiting { watches, listener: Arc::clone(&bell) as Arc<dyn Listener> };
        waiting.watches.listen(&waiting.listener);
        loop {
            waiting.watches.look_everywhere();
            match waiting.watches.step() {
                Some(Item::Rows(rows)) => return Ok(rows),
                Some(Item::Trouble(trouble)) => return Err(trouble.error.into()),
                _ => bell.0.notified().await,
            }
        }
    }

    pub(super) fn kind(&self, name: &TopicName) -> Option<Arc<Kind>> {
        self.0.kinds.read().expect("no panic while holding the lock").get(name).cloned()
    }

    /// Whether there are entities of this name.
    pub fn has(&self, name: &TopicName) -> bool {
        self.kind(name).is_some()
    }

    pub(super) fn keys_max(&self) -> usize {
        self.0.keys_max
    }

    /// What has happened to each kind of entity.
    pub fn counts(&self) -> Vec<(TopicName, Counts)> {
        let kinds = self.0.kinds.read().expect("no panic while holding the lock");
        let mut counts: Vec<_> = kinds.iter().map(|(name, kind)| (name.clone(), kind.counts())).collect();
        counts.sort_by(|(a, _), (b, _)| a.cmp(b));
        counts
    }

    pub(super) fn changed_here(&self, key: &EntityKey) {
        if let Some(kind) = self.kind(&key.entity) {
            kind.changed(&key.id);
        }
    }

    pub(super) fn all_changed(&self, name: &TopicName) {
        if let Some(kind) = self.kind(name) {
            kind.all_changed();
        }
    }
}

/// One call of [`Entities::rows`]; dropping it leaves nothing behind.
struct Waiting {
    watches: Watches,
    listener: Arc<dyn Listener>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.watches.unlisten(&self.listener);
    }
}

/// Wakes the task that waits in [`Entities::rows`].
struct Bell(Notify);

impl Listener for Bell {
    fn wake(&self, _: Place) {
        self.0.notify_one();
    }
}
