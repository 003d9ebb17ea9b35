//! The channels that one client has joined.
//!
//! Owns: which they are, under whose token, and until when. Never: says anything to the client.

use crate::stream;
use std::collections::HashMap;
use std::sync::Arc;
use tidings_model::phoenix::Ref;
use tidings_model::{Lease, Principal, Timestamp, Topic, Watcher};
use tokio::time::Instant;

/// One channel.
pub struct Channel {
    pub name: Arc<str>,
    /// The mark of the join; messages of an earlier join of the same name carry another.
    pub join_ref: Ref,
    pub who: Arc<Principal>,
    /// What is read here.
    pub topic: Topic,
    pub expires: Instant,
}

#[derive(Default)]
pub struct Joined {
    channels: HashMap<Arc<str>, Channel>,
    /// What the callers rest on, each watched once however often a client joins.
    leases: Vec<Arc<Lease>>,
}

impl Joined {
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// The channel that a message with this mark is for; one of an earlier join is for none.
    pub fn get(&self, name: &str, join_ref: &Ref) -> Option<&Channel> {
        self.channels.get(name).filter(|own| join_ref.is_none() || *join_ref == own.join_ref)
    }

    pub fn insert(&mut self, channel: Channel) {
        self.channels.insert(Arc::clone(&channel.name), channel);
    }

    pub fn remove(&mut self, name: &str) -> Option<Channel> {
        self.channels.remove(name)
    }

    /// The next end of a token.
    pub fn expires(&self) -> Option<Instant> {
        self.channels.values().map(|own| own.expires).min()
    }

    /// The channels whose token has ended, by the clock as it stands now; it may have been set since.
    pub fn over(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        self.channels.values_mut().for_each(|own| own.expires = stream::expiry(&own.who, now));
        let instant = Instant::now();
        self.names(|own| own.expires <= instant)
    }

    /// Names of the channels for which `is_so` holds.
    pub fn names(&self, is_so: impl Fn(&Channel) -> bool) -> Vec<Arc<str>> {
        self.channels.values().filter(|own| is_so(own)).map(|own| Arc::clone(&own.name)).collect()
    }

    /// From now on `who` is the caller of that channel.
    pub fn renew(&mut self, name: &str, who: Arc<Principal>, expires: Instant) {
        if let Some(own) = self.channels.get_mut(name) {
            (own.who, own.expires) = (who, expires);
        }
    }

    /// Has `watcher` woken when something about `who` changes.
    pub fn watch(&mut self, who: &Principal, watcher: &Arc<dyn Watcher>) {
        let Some(session) = &who.session else { return };
        self.leases.retain(|own| !own.is_over());
        if !self.leases.iter().any(|own| Arc::ptr_eq(own, &session.lease)) {
            self.leases.push(Arc::clone(&session.lease));
            session.lease.watch(watcher);
        }
    }
}
