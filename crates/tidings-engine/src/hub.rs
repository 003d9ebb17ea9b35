//! The hub: after a commit it says "topic T is now at N", and keeps the newest events of addresses that
//! somebody reads live.
//!
//! Owns: which addresses are being read. A lost call costs time, never an event: subscriptions are cursors.
//! Never: sends anything to a subscriber itself. Concurrency: called by the log's writer in commit order,
//! and by readers that join and leave.

use crate::feed::{Entry, Feed, Shared};
use crate::passing;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use tidings_log::Observer;
use tidings_model::{Event, Key, Limits, Offset, Topic, TopicName};
use tokio::sync::Notify;

/// Who reads what live.
pub struct Hub {
    channels: RwLock<HashMap<TopicName, Arc<Channel>>>,
    ring_events: usize,
    ring_bytes: usize,
    passing_events: usize,
    passing_bytes: usize,
    /// Rung when the schedule changed.
    pub(crate) due: Notify,
    watcher: OnceLock<Arc<dyn TopicWatcher>>,
}

/// Wants to know that any topic has changed. Called on the log's writer path: it only leaves a note.
pub trait TopicWatcher: Send + Sync {
    fn changed(&self, topic: &TopicName);
}

/// The live side of one topic.
struct Channel {
    shared: Arc<Shared>,
    feeds: Mutex<Feeds>,
}

#[derive(Default)]
struct Feeds {
    whole: Option<Arc<Feed>>,
    keys: HashMap<Key, Arc<Feed>>,
    /// The last offset told; a jump means that a call was lost.
    last: Option<Offset>,
}

impl Feeds {
    fn all(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.whole.iter().chain(self.keys.values())
    }
}

impl Hub {
    pub fn new(limits: &Limits) -> Self {
        Self {
            channels: RwLock::default(),
            ring_events: limits.ring_events,
            ring_bytes: limits.ring_bytes,
            passing_events: limits.passing_events,
            passing_bytes: limits.passing_bytes,
            due: Notify::new(),
            watcher: OnceLock::new(),
        }
    }

    /// Tells `watcher` of every topic that changes from now on; there is one at most.
    pub fn watch(&self, watcher: Arc<dyn TopicWatcher>) {
        let _ = self.watcher.set(watcher);
    }

    pub(crate) fn tell(&self, topic: &TopicName) {
        if let Some(watcher) = self.watcher.get() {
            watcher.changed(topic);
        }
    }

    /// The feed of `topic`, which from now on takes in every new event of that address.
    pub(crate) fn join(&self, topic: &Topic) -> Arc<Feed> {
        let mut channels = self.channels.write().expect("no panic while holding the lock");
        let channel = channels
            .entry(topic.name.clone())
            .or_insert_with(|| Arc::new(Channel { shared: Arc::default(), feeds: Mutex::default() }));
        let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
        let last = feeds.last;
        let make = || {
            let shared = Arc::clone(&channel.shared);
            let passing = passing::Ring::new(self.passing_events, self.passing_bytes);
            let feed = Feed::new(topic.clone(), shared, self.ring_events, self.ring_bytes, passing);
            last.into_iter().for_each(|floor| feed.start(floor));
            Arc::new(feed)
        };
        let feed = match &topic.key {
            None => Arc::clone(feeds.whole.get_or_insert_with(make)),
            Some(key) => Arc::clone(feeds.keys.entry(key.clone()).or_insert_with(make)),
        };
        feed.readers.fetch_add(1, Ordering::Relaxed);
        feed
    }

    /// Gives a feed back; when its last reader leaves, its memory goes.
    pub(crate) fn leave(&self, feed: &Feed) {
        let topic = feed.topic();
        let mut channels = self.channels.write().expect("no panic while holding the lock");
        // Readers come and go only under the lock above.
        if feed.readers.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let Some(channel) = channels.get(&topic.name) else { return };
        let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
        match &topic.key {
            None => feeds.whole = None,
            Some(key) => drop(feeds.keys.remove(key)),
        }
        if feeds.whole.is_none() && feeds.keys.is_empty() {
            drop(feeds);
            channels.remove(&topic.name);
        }
    }

    /// Topics that somebody reads live.
    pub fn topics_read(&self) -> usize {
        self.channels.read().expect("no panic while holding the lock").len()
    }

    /// Hands events that only pass to whoever reads `topic` at this moment.
    pub(crate) fn pass(&self, topic: &TopicName, events: Vec<Event>) {
        let Some(channel) = self.channel(topic) else { return };
        let mut touched: Vec<Arc<Feed>> = Vec::new();
        {
            // Under the lock: numbers reach every feed in order.
            let feeds = channel.feeds.lock().expect("no panic while holding the lock");
            let mut number = channel.shared.passed();
            for event in events {
                number += 1;
                let keyed = event.key().and_then(|k| Key::parse(k).ok()).and_then(|k| feeds.keys.get(&k));
                let entry = Arc::new(Entry::new(event));
                for feed in feeds.whole.iter().chain(keyed) {
                    feed.passing.push(number, Arc::clone(&entry));
                    if !touched.iter().any(|t| Arc::ptr_eq(t, feed)) {
                        touched.push(Arc::clone(feed));
                    }
                }
            }
            channel.shared.set_passed(number);
        }
        touched.iter().for_each(Feed::wake);
    }

    fn channel(&self, topic: &TopicName) -> Option<Arc<Channel>> {
        self.channels.read().expect("no panic while holding the lock").get(topic).cloned()
    }
}

impl Observer for Hub {
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) {
        self.tell(topic);
        let Some(channel) = self.channel(topic) else { return };
        let mut touched: Vec<Arc<Feed>> = Vec::new();
        {
            let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
            for event in events {
                let offset = event.offset();
                let before = Offset(offset.0 - 1);
                if feeds.last != Some(before) {
                    feeds.all().for_each(|feed| feed.restart(before));
                }
                feeds.last = Some(offset);
                channel.shared.set_epoch(event.epoch());
                let keyed = event.key().and_then(|k| Key::parse(k).ok()).and_then(|k| feeds.keys.get(&k));
                if feeds.whole.is_none() && keyed.is_none() {
                    continue;
                }
                let entry = Arc::new(Entry::new(event));
                for feed in feeds.whole.iter().chain(keyed) {
                    feed.push(Arc::clone(&entry));
                    if !touched.iter().any(|t| Arc::ptr_eq(t, feed)) {
                        touched.push(Arc::clone(feed));
                    }
                }
            }
            feeds.last = Some(tail);
            channel.shared.raise(tail);
        }
        touched.iter().for_each(Feed::wake);
    }

    fn dropped(&self, topic: &TopicName) {
        self.tell(topic);
        let Some(channel) = self.channel(topic) else { return };
        let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
        feeds.last = Some(Offset::ZERO);
        let all: Vec<_> = feeds.all().cloned().collect();
        all.iter().for_each(|feed| feed.restart(Offset::ZERO));
        channel.shared.restart();
        drop(feeds);
        all.iter().for_each(Feed::wake);
    }

    fn due_changed(&self) {
        self.due.notify_one();
    }
}
