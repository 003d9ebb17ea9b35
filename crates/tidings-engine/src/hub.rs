//! The hub: after a commit it says "topic T is now at N", and keeps the newest events of addresses that
//! somebody reads live.
//!
//! Owns: which addresses are being read. A lost call costs time, never an event: subscriptions are cursors.
//! Never: sends anything to a subscriber itself. Concurrency: called by the log's writer in commit order,
//! and by readers that join and leave.

use crate::feed::{Entry, Feed, Shared, Viewer};
use crate::hold::Held;
use crate::passing;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};
use tidings_log::Observer;
use tidings_model::{Event, Key, Limits, Offset, Principal, RecordWriter, Topic, TopicName, UserId};
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
    watchers: RwLock<Vec<Arc<dyn TopicWatcher>>>,
    /// Topics whose events are found by user.
    routed: RwLock<HashSet<TopicName>>,
    pub(crate) held: Held,
}

/// Of a viewer's ring, however many viewers there are: a burst of its own events.
const VIEWER_EVENTS_MIN: usize = 16;
const VIEWER_BYTES_MIN: usize = 16 << 10;

/// Wants to know that any topic has changed. Called on the log's writer path: it only leaves a note.
pub trait TopicWatcher: Send + Sync {
    fn changed(&self, topic: &TopicName);

    /// Whether it also wants to know which keys of this topic have changed.
    fn wants_keys(&self, topic: &TopicName) -> bool {
        let _ = topic;
        false
    }

    fn key_changed(&self, topic: &TopicName, key: &str) {
        let _ = (topic, key);
    }
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
    /// Of the whole topic too, each with what concerns that viewer only.
    viewers: HashMap<UserId, Arc<Feed>>,
    without_id: Option<Arc<Feed>>,
    /// The last offset told; a jump means that a call was lost.
    last: Option<Offset>,
}

impl Feeds {
    fn all(&self) -> impl Iterator<Item = &Arc<Feed>> {
        let viewers = self.viewers.values().chain(&self.without_id);
        self.whole.iter().chain(self.keys.values()).chain(viewers)
    }

    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.keys.is_empty() && self.viewers.is_empty() && self.without_id.is_none()
    }

    /// Calls `push` once for each feed that the event belongs to; the cost is that of these feeds.
    fn each(&self, event: &Event, mut push: impl FnMut(&Arc<Feed>)) {
        let keyed = event.key().and_then(|k| Key::parse(k).ok()).and_then(|k| self.keys.get(&k));
        self.whole.iter().chain(keyed).for_each(&mut push);
        if self.viewers.is_empty() && self.without_id.is_none() {
            return;
        }
        match RecordWriter::routing(event.record().as_bytes()) {
            Some(routing) if !routing.is_everyones() => {
                let ids = routing.users().filter_map(|(id, _)| std::str::from_utf8(id).ok());
                ids.filter_map(|id| self.viewers.get(id)).for_each(push);
            }
            _ => self.viewers.values().chain(&self.without_id).for_each(push),
        }
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
            watchers: RwLock::default(),
            routed: RwLock::new(HashSet::from([TopicName::schedule()])),
            held: Held::default(),
        }
    }

    /// Takes note of whether events of `topic` are found by user.
    pub(crate) fn set_routed(&self, topic: &TopicName, is_routed: bool) {
        let mut routed = self.routed.write().expect("no panic while holding the lock");
        if is_routed || topic.is_schedule() {
            routed.insert(topic.clone())
        } else {
            routed.remove(topic)
        };
    }

    /// As whom `who` reads the whole of `topic`; `None` where it reads all of it, or one key. Either way it is given
    /// only what it may see: this decides what it costs.
    pub(crate) fn viewer(&self, who: &Principal, topic: &Topic) -> Option<Viewer> {
        if who.is_admin || topic.key.is_some() {
            return None;
        }
        let routed = self.routed.read().expect("no panic while holding the lock");
        routed.contains(&topic.name).then(|| Viewer(who.id.clone()))
    }

    /// Tells `watcher` of every topic that changes from now on.
    pub fn watch(&self, watcher: Arc<dyn TopicWatcher>) {
        self.watchers.write().expect("no panic while holding the lock").push(watcher);
    }

    pub(crate) fn tell(&self, topic: &TopicName) {
        self.watchers.read().expect("no panic while holding the lock").iter().for_each(|w| w.changed(topic));
    }

    fn watchers_of_keys(&self, topic: &TopicName) -> Vec<Arc<dyn TopicWatcher>> {
        let watchers = self.watchers.read().expect("no panic while holding the lock");
        watchers.iter().filter(|w| w.wants_keys(topic)).cloned().collect()
    }

    /// The feed of `topic`, which from now on takes in every new event of that address, or those of it that
    /// concern `viewer`.
    pub(crate) fn join(&self, topic: &Topic, viewer: Option<Viewer>) -> Arc<Feed> {
        let mut channels = self.channels.write().expect("no panic while holding the lock");
        let channel = channels
            .entry(topic.name.clone())
            .or_insert_with(|| Arc::new(Channel { shared: Arc::default(), feeds: Mutex::default() }));
        let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
        let last = feeds.last;
        let make = || {
            let shared = Arc::clone(&channel.shared);
            let passing = match &viewer {
                None => passing::Ring::new(self.passing_events, self.passing_bytes),
                Some(_) => passing::Ring::new(VIEWER_EVENTS_MIN, VIEWER_BYTES_MIN),
            };
            let (events, bytes) = (self.ring_events, self.ring_bytes);
            let feed = Feed::new(topic.clone(), shared, events, bytes, passing, viewer.clone());
            last.into_iter().for_each(|floor| feed.start(floor));
            Arc::new(feed)
        };
        let feed = match (&topic.key, &viewer) {
            (Some(key), _) => Arc::clone(feeds.keys.entry(key.clone()).or_insert_with(make)),
            (None, None) => Arc::clone(feeds.whole.get_or_insert_with(make)),
            (None, Some(Viewer(None))) => Arc::clone(feeds.without_id.get_or_insert_with(make)),
            (None, Some(Viewer(Some(id)))) => {
                Arc::clone(feeds.viewers.entry(Arc::clone(id)).or_insert_with(make))
            }
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
        match (&topic.key, &feed.viewer) {
            (Some(key), _) => drop(feeds.keys.remove(key)),
            (None, None) => feeds.whole = None,
            (None, Some(Viewer(None))) => feeds.without_id = None,
            (None, Some(Viewer(Some(id)))) => drop(feeds.viewers.remove(id)),
        }
        if feeds.is_empty() {
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
                let entry = Arc::new(Entry::new(event));
                feeds.each(&entry.event, |feed| {
                    feed.passing.push(number, Arc::clone(&entry));
                    if feed.touch() {
                        touched.push(Arc::clone(feed));
                    }
                });
            }
            channel.shared.set_passed(number);
        }
        touched.iter().for_each(Feed::wake);
    }

    fn channel(&self, topic: &TopicName) -> Option<Arc<Channel>> {
        self.channels.read().expect("no panic while holding the lock").get(topic).cloned()
    }
}

impl Hub {
    /// Takes note that `topic` is now at `tail`. What it answers has to be woken.
    #[must_use]
    pub(crate) fn advance(
        &self,
        topic: &TopicName,
        tail: Offset,
        events: &mut dyn Iterator<Item = Event>,
    ) -> Vec<Arc<Feed>> {
        self.tell(topic);
        let watchers = self.watchers_of_keys(topic);
        let told = |event: &Event| {
            let key = event.key();
            key.into_iter().for_each(|key| watchers.iter().for_each(|w| w.key_changed(topic, key)));
        };
        let Some(channel) = self.channel(topic) else {
            if !watchers.is_empty() {
                events.for_each(|event| told(&event));
            }
            return Vec::new();
        };
        let events = events.inspect(told);
        let mut touched: Vec<Arc<Feed>> = Vec::new();
        {
            let mut feeds = channel.feeds.lock().expect("no panic while holding the lock");
            // All viewers together keep about as much as a few addresses do.
            let share = |all: usize, least: usize| {
                (all * 16 / feeds.viewers.len().max(1)).clamp(least, all.max(least))
            };
            let viewer_events = share(self.ring_events, VIEWER_EVENTS_MIN).min(self.ring_events);
            let viewer_bytes = share(self.ring_bytes, VIEWER_BYTES_MIN).min(self.ring_bytes);
            for event in events {
                let offset = event.offset();
                let before = Offset(offset.0 - 1);
                if feeds.last != Some(before) {
                    feeds.all().for_each(|feed| feed.restart(before));
                }
                feeds.last = Some(offset);
                channel.shared.set_epoch(event.epoch());
                let entry = Arc::new(Entry::new(event));
                feeds.each(&entry.event, |feed| {
                    if feed.viewer.is_some() {
                        feed.narrow(viewer_events, viewer_bytes);
                    }
                    feed.push(Arc::clone(&entry));
                    if feed.touch() {
                        touched.push(Arc::clone(feed));
                    }
                });
            }
            feeds.last = Some(tail);
            channel.shared.raise(tail);
        }
        touched
    }
}

impl Observer for Hub {
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) {
        if !self.held.keep(topic, tail, events) {
            self.advance(topic, tail, events).iter().for_each(Feed::wake);
        }
    }

    fn dropped(&self, topic: &TopicName) {
        self.held.forget(topic);
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
