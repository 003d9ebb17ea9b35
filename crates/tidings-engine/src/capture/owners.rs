//! Which topics hold captured rows, and which source owns each.
//!
//! Owns: the set, as it is stored. Never: stores it itself, or knows whether a source is running.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use tidings_log::RegistryChange;
use tidings_model::TopicName;
use tokio::sync::{Mutex, MutexGuard};

pub(super) const KIND: &str = "captured";

/// The owners of captured topics.
#[derive(Default)]
pub struct Owners {
    topics: RwLock<HashMap<TopicName, Arc<str>>>,
    /// Whether there is any, so that publishing elsewhere costs one look at this.
    is_used: AtomicBool,
    turn: Mutex<()>,
}

impl Owners {
    /// Which source owns the topic.
    pub fn of(&self, name: &TopicName) -> Option<Arc<str>> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.topics.read().expect("no panic while holding the lock").get(name).cloned()
    }

    /// All captured topics.
    pub fn all(&self) -> Vec<TopicName> {
        self.topics.read().expect("no panic while holding the lock").keys().cloned().collect()
    }

    /// Held while ownership changes.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// What `source` has to take, and to leave, to own just `topics`.
    pub(super) fn difference(&self, source: &str, topics: &[TopicName]) -> (Vec<TopicName>, Vec<TopicName>) {
        let all = self.topics.read().expect("no panic while holding the lock");
        let taken = topics.iter().filter(|name| !all.contains_key(*name)).cloned().collect();
        let own = all.iter().filter(|(_, owner)| ***owner == *source).map(|(name, _)| name);
        (taken, own.filter(|name| !topics.contains(name)).cloned().collect())
    }

    pub(super) fn take(&self, source: &str, names: &[TopicName]) {
        let source: Arc<str> = source.into();
        let mut all = self.topics.write().expect("no panic while holding the lock");
        all.extend(names.iter().map(|name| (name.clone(), Arc::clone(&source))));
        self.is_used.store(!all.is_empty(), Ordering::Release);
    }

    pub(super) fn leave(&self, names: &[TopicName]) {
        let mut all = self.topics.write().expect("no panic while holding the lock");
        all.retain(|name, _| !names.contains(name));
        self.is_used.store(!all.is_empty(), Ordering::Release);
    }

    /// Takes note of what was stored; a name that is none is nobody's.
    pub(super) fn load(&self, name: &str, owner: &[u8]) -> Option<TopicName> {
        let name = TopicName::parse_captured(name).ok()?;
        self.take(std::str::from_utf8(owner).ok()?, std::slice::from_ref(&name));
        Some(name)
    }
}

/// What has to be stored for it.
pub(super) fn changes(source: &str, taken: &[TopicName], left: &[TopicName]) -> Vec<RegistryChange> {
    let change = |name: &TopicName, value| RegistryChange { kind: KIND.into(), key: name.to_string(), value };
    let taken = taken.iter().map(|name| change(name, Some(source.to_owned().into())));
    taken.chain(left.iter().map(|name| change(name, None))).collect()
}
