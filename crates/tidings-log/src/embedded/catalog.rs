//! All topics, in memory: their names, lives, and visible ends.
//!
//! Owns: what `bounds` answers. Never: holds what a crash could take back; only the writer changes it, after
//! the sync.

use crate::Bounds;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use tidings_model::{Epoch, Offset, TopicName};

/// One life of a topic; a topic that was dropped and came back is another one.
#[derive(Debug)]
pub struct Topic {
    /// Never used again.
    pub id: u32,
    pub epoch: Epoch,
    pub name: TopicName,
    tail: AtomicU64,
    oldest: AtomicU64,
    /// Older events are not kept even if they are the newest of their key.
    state_floor: AtomicU64,
}

/// What the log remembers of a topic besides its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub tail: u64,
    pub oldest: u64,
    pub state_floor: u64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { tail: 0, oldest: 1, state_floor: 0 }
    }
}

impl Topic {
    pub fn new(id: u32, epoch: Epoch, name: TopicName, ends: Ends) -> Self {
        let (tail, oldest) = (ends.tail.into(), ends.oldest.into());
        Self { id, epoch, name, tail, oldest, state_floor: ends.state_floor.into() }
    }

    /// Where it begins and ends. Read in this order, `oldest` never exceeds `tail + 1`.
    pub fn ends(&self) -> Ends {
        let state_floor = self.state_floor.load(Ordering::Acquire);
        let oldest = self.oldest.load(Ordering::Acquire);
        Ends { tail: self.tail.load(Ordering::Acquire), oldest, state_floor }
    }

    pub fn bounds(&self) -> Bounds {
        let ends = self.ends();
        Bounds { epoch: self.epoch, oldest: Offset(ends.oldest), tail: Offset(ends.tail) }
    }

    pub fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// Events up to `tail` are durable and can be found.
    pub fn advance(&self, tail: u64) {
        self.tail.fetch_max(tail, Ordering::AcqRel);
    }

    /// Everything before `oldest` is gone, but for State.
    pub fn trim(&self, oldest: u64, keep_state: bool) {
        self.oldest.fetch_max(oldest, Ordering::AcqRel);
        if !keep_state {
            self.state_floor.fetch_max(oldest, Ordering::AcqRel);
        }
    }
}

/// All topics.
#[derive(Debug, Default)]
pub struct Catalog {
    topics: RwLock<Topics>,
    /// Held while a group becomes visible, so that nobody sees half of it.
    moment: RwLock<()>,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: BTreeMap<TopicName, Arc<Topic>>,
    by_id: HashMap<u32, Arc<Topic>>,
}

impl Catalog {
    /// Makes a group visible, and hands it to the followers, in one moment.
    pub fn change(&self) -> RwLockWriteGuard<'_, ()> {
        self.moment.write().expect("no panic while holding the lock")
    }

    /// Looks at several things as of one moment, as at a tail and what the followers have been handed.
    pub fn look<T>(&self, f: impl FnOnce() -> T) -> T {
        let _moment = self.moment.read().expect("no panic while holding the lock");
        f()
    }

    pub fn get(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.read().by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: u32) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.read().by_name.len()
    }

    pub fn page(&self, after: Option<&TopicName>, max: usize) -> Vec<Arc<Topic>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.read();
        topics
            .by_name
            .range::<TopicName, _>((from, Bound::Unbounded))
            .take(max)
            .map(|(_, topic)| topic.clone())
            .collect()
    }

    pub fn insert(&self, topic: Arc<Topic>) {
        let mut topics = self.topics.write().expect("no panic while holding the lock");
        topics.by_id.insert(topic.id, topic.clone());
        topics.by_name.insert(topic.name.clone(), topic);
    }

    /// Forgets this life of the topic; a later life under the same name stays.
    pub fn remove(&self, id: u32) {
        let mut topics = self.topics.write().expect("no panic while holding the lock");
        if let Some(topic) = topics.by_id.remove(&id)
            && topics.by_name.get(&topic.name).is_some_and(|t| t.id == id)
        {
            topics.by_name.remove(&topic.name);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Topics> {
        self.topics.read().expect("no panic while holding the lock")
    }
}
