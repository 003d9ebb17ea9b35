//! What the dispatcher has to look at: addresses with news, and destinations that changed.
//!
//! Owns: the list of watched addresses. Each thing is noted once, however often it happens; an address that nobody
//! watches costs a look into a map. Never: waits.

use crate::hub::TopicWatcher;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};
use tidings_model::{Key, Topic, TopicName, Uuid};
use tokio::sync::Notify;

#[derive(Default)]
pub struct Notes {
    /// Nobody watches anything, which most servers never change.
    has_watched: AtomicBool,
    watched: RwLock<HashMap<TopicName, Watched>>,
    noted: Mutex<Noted>,
    bell: Notify,
}

/// How often each address of a topic is watched.
#[derive(Default)]
struct Watched {
    whole: usize,
    keys: HashMap<Key, usize>,
}

/// What has been noted since it was taken last.
#[derive(Default)]
pub struct Noted {
    pub news: HashSet<Topic>,
    pub changed: HashSet<Uuid>,
}

impl Notes {
    /// News of this address are noted from now on.
    pub fn watch(&self, topic: &Topic) {
        let mut all = self.watched.write().expect("no panic while holding the lock");
        let watched = all.entry(topic.name.clone()).or_default();
        match &topic.key {
            None => watched.whole += 1,
            Some(key) => *watched.keys.entry(key.clone()).or_default() += 1,
        }
        self.has_watched.store(true, Ordering::Release);
    }

    /// Takes back one [`Notes::watch`].
    pub fn unwatch(&self, topic: &Topic) {
        let mut all = self.watched.write().expect("no panic while holding the lock");
        let Some(watched) = all.get_mut(&topic.name) else { return };
        match &topic.key {
            None => watched.whole = watched.whole.saturating_sub(1),
            Some(key) => {
                if let Some(count) = watched.keys.get_mut(key) {
                    *count -= 1;
                    if *count == 0 {
                        watched.keys.remove(key);
                    }
                }
            }
        }
        if watched.whole == 0 && watched.keys.is_empty() {
            all.remove(&topic.name);
        }
    }

    /// A destination was created, changed or deleted.
    pub fn changed(&self, id: Uuid) {
        self.noted.lock().expect("no panic while holding the lock").changed.insert(id);
        self.bell.notify_one();
    }

    /// An address has news.
    fn news(&self, topic: Topic) {
        if self.noted.lock().expect("no panic while holding the lock").news.insert(topic) {
            self.bell.notify_one();
        }
    }

    pub fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted.lock().expect("no panic while holding the lock"))
    }

    /// Waits until something was noted.
    pub async fn noted(&self) {
        self.bell.notified().await;
    }
}

impl TopicWatcher for Notes {
    fn changed(&self, topic: &TopicName) {
        if !self.has_watched.load(Ordering::Acquire) {
            return;
        }
        let all = self.watched.read().expect("no panic while holding the lock");
        if all.get(topic).is_some_and(|watched| watched.whole > 0) {
            self.news(Topic::whole(topic.clone()));
        }
    }

    fn wants_keys(&self, topic: &TopicName) -> bool {
        self.has_watched.load(Ordering::Acquire)
            && self
                .watched
                .read()
                .expect("no panic while holding the lock")
                .get(topic)
                .is_some_and(|w| !w.keys.is_empty())
    }

    fn key_changed(&self, topic: &TopicName, key: &str) {
        let Ok(key) = Key::parse(key) else { return };
        let all = self.watched.read().expect("no panic while holding the lock");
        if all.get(topic).is_some_and(|watched| watched.keys.contains_key(&key)) {
            self.news(Topic { name: topic.clone(), key: Some(key) });
        }
    }
}
