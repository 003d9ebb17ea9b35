//! The channels that one client has joined.
//!
//! Owns: which they are, under whose token, and until when. Never: says anything to the client.

use crate::stream;
use std::collections::HashMap;
use std::sync::Arc;
use tidings_model::phoenix::Ref;
use tidings_model::{Lease, Principal, Timestamp, Topic, Uuid, Watcher};
use tokio::time::Instant;

/// One channel.
pub struct Channel {
    pub name: Arc<str>,
    /// The mark of the join; messages of an earlier join of the same name carry another.
    pub join_ref: Ref,
    pub who: Arc<Principal>,
    pub reads: Reads,
    pub expires: Instant,
}

/// What is read in a channel.
#[derive(Clone)]
pub enum Reads {
    Topic(Topic),
    /// What a destination lets through, as it stood when the lease was made; nothing while it is paused.
    Destination {
        id: Uuid,
        lease: Arc<Lease>,
        topic: Option<Topic>,
    },
}

impl Channel {
    /// Whether something about its caller or its destination has changed.
    pub fn is_stale(&self) -> bool {
        let is_over = match &self.reads {
            Reads::Topic(_) => false,
            Reads::Destination { lease, .. } => lease.is_over(),
        };
        is_over || !self.who.is_current()
    }
}

#[derive(Default)]
pub struct Joined {
    channels: HashMap<Arc<str>, Channel>,
    /// What the channels rest on, each watched once however often a client joins.
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

    /// The channels for which something has changed.
    pub fn stale(&self) -> Vec<Arc<str>> {
        self.names(Channel::is_stale)
    }

    fn names(&self, is_so: impl Fn(&Channel) -> bool) -> Vec<Arc<str>> {
        self.channels.values().filter(|own| is_so(own)).map(|own| Arc::clone(&own.name)).collect()
    }

    /// Has `watcher` woken when something changes that the channel rests on.
    pub fn watch(&mut self, channel: &Channel, watcher: &Arc<dyn Watcher>) {
        self.leases.retain(|own| !own.is_over());
        let of_destination = match &channel.reads {
            Reads::Topic(_) => None,
            Reads::Destination { lease, .. } => Some(lease),
        };
        for lease in channel.who.lease().into_iter().chain(of_destination) {
            if !self.leases.iter().any(|own| Arc::ptr_eq(own, lease)) {
                self.leases.push(Arc::clone(lease));
                lease.watch(watcher);
            }
        }
    }
}
