//! Destinations: stored ways out of a topic.
//!
//! `settings` what an admin says, `destination` checked, `destinations` what is done with them, `shelf` all of them
//! in memory; `settled` and `mark` how far each has come; `queue` lends events to consumers.
//! Webhooks: `runner` with `line` decides (I7), `backoff` when again, `dispatch` has it done by `errand`s, with `out`,
//! `notes` and `ledger`; `message` and `secret` what is sent, `courier` by whom; `attempt`, `deliveries`, `notice` what
//! is known of it afterwards. `forward` copies to other topics. Never: opens a socket.

mod address;
mod attempt;
mod backoff;
mod courier;
mod deliveries;
mod destination;
mod destinations;
mod dispatch;
mod errand;
mod forward;
mod ledger;
mod line;
mod mark;
mod message;
mod notes;
mod notice;
mod out;
mod queue;
mod refusal;
mod runner;
mod secret;
mod settings;
mod settled;
mod shelf;

pub use address::is_private;
pub use attempt::{Attempt, Delivery, DeliveryId, Status};
pub use courier::{Answer, Courier, Request, Sending};
pub use deliveries::{Again, Counts, DeliveryPage, DeliveryQuery};
pub use destination::{Destination, Policy};
pub use destinations::{Destinations, Progress};
pub use refusal::DestinationError;
pub use secret::SigningSecret;
pub use settings::{DestinationSettings, Format, Kind, OnDead, Order, WebhookSettings};

use crate::{Services, Tidings};
use errand::Message;
use notes::Notes;
use queue::Queues;
use shelf::Shelf;
use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard};
use tidings_model::{TopicName, Uuid};
use tokio::sync::mpsc;

/// What all clones of one Tidings know of destinations.
#[derive(Default)]
pub(crate) struct State {
    shelf: RwLock<Shelf>,
    /// Held while a change is checked and committed.
    changes: tokio::sync::Mutex<()>,
    rules: OnceLock<WebhookSettings>,
    queues: Queues,
    notes: Arc<Notes>,
    counts: Arc<Counts>,
    /// Where the dispatcher is asked; none while it does not run.
    inbox: OnceLock<mpsc::Sender<Message>>,
}

impl State {
    fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().expect("no panic while holding the lock")
    }

    /// What holds where a destination says nothing else.
    fn rules(&self) -> &WebhookSettings {
        self.rules.get_or_init(WebhookSettings::default)
    }

    /// Takes in a new or changed destination; whoever relied on what it was is told.
    fn put(&self, made: Destination) -> Arc<Destination> {
        let made = Arc::new(made);
        let before = self.shelf.write().expect("no panic while holding the lock").put(Arc::clone(&made));
        before.into_iter().for_each(|lease| lease.end());
        self.notes.changed(made.id);
        made
    }

    fn remove(&self, id: Uuid) {
        let before = self.shelf.write().expect("no panic while holding the lock").remove(id);
        before.into_iter().for_each(|lease| lease.end());
        self.queues.forget(id);
        self.notes.changed(id);
    }
}

impl Tidings {
    /// What holds for destinations that say nothing else. Counts if said before the first is used.
    pub fn set_webhooks(&self, settings: WebhookSettings) {
        let _ = self.delivery().rules.set(settings);
    }

    /// Starts delivering: webhooks by `courier`, and copies to other topics. To be called once.
    pub fn deliver(&self, services: &Services, courier: Arc<dyn Courier>) {
        self.delivery().inbox.get_or_init(|| dispatch::start(self, services, courier));
    }
}

/// The topic that tells of destinations' trouble, and the one that keeps what was delivered.
pub(crate) fn topics() -> [TopicName; 2] {
    [notice::troubles(), notice::deliveries()]
}
