//! The newest events of one address, kept in memory for live delivery.
//!
//! Owns: the ring of an address (a whole topic, or one key of it) and who wants to be woken. A ring holds
//! every event of its address after `floor`; a reader whose cursor lies before that reads the log.
//! Never: decides who may see an event, or waits.

use crate::listeners::{Listener, Listeners, Place};
use crate::passing;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tidings_model::{Epoch, Event, Offset, Topic, UserId, View};

/// A wire format's place among the encodings an entry remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format(pub usize);

impl Format {
    /// How many formats an entry can remember.
    pub const COUNT: usize = 6;
}

/// An event with its encodings, each made once and shared by every subscriber who may see the same of it.
pub struct Entry {
    pub event: Event,
    encoded: [OnceLock<Bytes>; Format::COUNT],
    named: OnceLock<Box<Mutex<Named>>>,
    /// The event for those who may see only some of it.
    partial: OnceLock<Box<[OnceLock<Arc<Entry>>; View::PARTIAL]>>,
}

/// Encodings under names that readers choose.
type Named = Vec<(Format, Arc<str>, Bytes)>;

/// So many of them are remembered.
const NAMED_MAX: usize = 16;

impl Entry {
    pub fn new(event: Event) -> Self {
        Self { event, encoded: Default::default(), named: OnceLock::new(), partial: OnceLock::new() }
    }

    /// The entry of the event as `view` shows it.
    pub(crate) fn shown(self: &Arc<Self>, view: View) -> Arc<Self> {
        let Some(place) = view.place() else { return Arc::clone(self) };
        let partial = &self.partial.get_or_init(Box::default)[place];
        Arc::clone(partial.get_or_init(|| Arc::new(Self::new(self.event.shown(view)))))
    }

    /// The bytes in `format`, made by `encode` the first time.
    pub fn encoded(&self, format: Format, encode: impl FnOnce(&Event) -> Bytes) -> &Bytes {
        self.encoded[format.0].get_or_init(|| encode(&self.event))
    }

    /// The bytes in `format` under `name`, for encodings that hold a name which many readers share. The first
    /// few names are made once; `format` is none of those above.
    pub fn named(&self, format: Format, name: &Arc<str>, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let named = self.named.get_or_init(Box::default);
        let known = || named.lock().expect("no panic while holding the lock");
        let is_it = |(of, own, _): &&(Format, Arc<str>, Bytes)| *of == format && own == name;
        if let Some((_, _, bytes)) = known().iter().find(is_it) {
            return bytes.clone();
        }
        let bytes = encode(&self.event);
        let mut known = known();
        if known.len() < NAMED_MAX {
            known.push((format, Arc::clone(name), bytes.clone()));
        }
        bytes
    }
}

/// What all addresses of one topic share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Every event up to here has been pushed to its feeds.
    tail: AtomicU64,
    /// The epoch that tail belongs to, plus one; 0 while nothing was told.
    epoch: AtomicU64,
    /// Counts how often the topic was dropped.
    generation: AtomicU64,
    /// The number of the newest event that passed without being stored; every one up to here is in its rings.
    passed: AtomicU64,
}

impl Shared {
    pub(crate) fn tail(&self) -> Offset {
        Offset(self.tail.load(Ordering::Acquire))
    }

    /// Takes note of a tail; it only grows.
    pub(crate) fn raise(&self, tail: Offset) {
        self.tail.fetch_max(tail.0, Ordering::AcqRel);
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    pub(crate) fn set_passed(&self, number: u64) {
        self.passed.store(number, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.epoch.load(Ordering::Acquire).checked_sub(1).map(|epoch| Epoch(epoch as u32))
    }

    pub(crate) fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(u64::from(epoch.0) + 1, Ordering::Release);
    }

    pub(crate) fn restart(&self) {
        self.epoch.store(0, Ordering::Release);
        self.tail.store(0, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// A reader of a topic where events are found by user: one with an id, or without.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Viewer(pub Option<UserId>);

impl Viewer {
    pub fn id(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// The live side of one address, or of what concerns one viewer there.
pub struct Feed {
    topic: Topic,
    pub(crate) viewer: Option<Viewer>,
    pub(crate) shared: Arc<Shared>,
    ring: Mutex<Ring>,
    pub(crate) passing: passing::Ring,
    /// Counted by the hub.
    pub(crate) readers: AtomicUsize,
    /// Has news that nobody was woken for yet.
    is_touched: AtomicBool,
    listeners: Listeners,
}

struct Ring {
    /// All events of the address after this offset are in `entries`; nothing is held before the first push.
    floor: Option<Offset>,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

/// What a feed has for a cursor.
pub(crate) enum Fetched {
    /// The events after the cursor, and the offset up to which there are no others.
    Entries(Vec<Arc<Entry>>, Offset),
    /// Nothing new.
    Nothing,
    /// The cursor lies before what the ring holds.
    Behind,
}

impl Feed {
    pub(crate) fn new(
        topic: Topic,
        shared: Arc<Shared>,
        events_max: usize,
        bytes_max: usize,
        passing: passing::Ring,
        viewer: Option<Viewer>,
    ) -> Self {
        let ring = Ring { floor: None, entries: VecDeque::new(), bytes: 0, events_max, bytes_max };
        Self {
            topic,
            viewer,
            shared,
            is_touched: AtomicBool::new(false),
            ring: Mutex::new(ring),
            passing,
            readers: AtomicUsize::new(0),
            listeners: Listeners::default(),
        }
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The newest offset of the whole topic that live readers know of.
    pub fn tail(&self) -> Offset {
        self.shared.tail()
    }

    /// Up to `max` events after `cursor`.
    pub(crate) fn after(&self, cursor: Offset, max: usize) -> Fetched {
        // Read first: every event up to this tail is in the ring by now, so what the ring
        // does not hold up to here does not exist at this address.
        let tail = self.shared.tail();
        if tail <= cursor {
            return Fetched::Nothing;
        }
        let ring = self.ring.lock().expect("no panic while holding the lock");
        if ring.floor.is_none_or(|floor| cursor < floor) {
            return Fetched::Behind;
        }
        let start = ring.entries.partition_point(|e| e.event.offset() <= cursor);
        let entries: Vec<_> = ring.entries.range(start..).take(max).cloned().collect();
        let is_all = start + entries.len() == ring.entries.len();
        let last = entries.last().map_or(cursor, |e| e.event.offset());
        Fetched::Entries(entries, if is_all { last.max(tail) } else { last })
    }

    /// Every event of this address after `floor` will be pushed from now on.
    pub(crate) fn start(&self, floor: Offset) {
        let mut ring = self.ring.lock().expect("no panic while holding the lock");
        ring.floor.get_or_insert(floor);
    }

    pub(crate) fn push(&self, entry: Arc<Entry>) {
        let mut ring = self.ring.lock().expect("no panic while holding the lock");
        ring.bytes += entry.event.weight();
        ring.entries.push_back(entry);
        while ring.entries.len() > ring.events_max || (ring.bytes > ring.bytes_max && ring.entries.len() > 1)
        {
            let gone = ring.entries.pop_front().expect("not empty");
            ring.bytes -= gone.event.weight();
            ring.floor = Some(gone.event.offset());
        }
    }

    /// Forgets what it holds (something was missed, or the topic was dropped) and starts anew after `floor`.
    pub(crate) fn restart(&self, floor: Offset) {
        let mut ring = self.ring.lock().expect("no panic while holding the lock");
        ring.floor = Some(floor);
        ring.entries.clear();
        ring.bytes = 0;
    }

    /// Narrows the ring, since there are many of its kind.
    pub(crate) fn narrow(&self, events_max: usize, bytes_max: usize) {
        let mut ring = self.ring.lock().expect("no panic while holding the lock");
        (ring.events_max, ring.bytes_max) = (events_max, bytes_max);
    }

    /// Notes that there are news; `false` if that was noted before.
    pub(crate) fn touch(&self) -> bool {
        !self.is_touched.swap(true, Ordering::AcqRel)
    }

    /// Where listeners are told of this feed.
    pub(crate) fn place(self: &Arc<Self>) -> Place {
        Place::of(self)
    }

    pub(crate) fn wake(self: &Arc<Self>) {
        self.is_touched.store(false, Ordering::Release);
        self.listeners.wake(self.place());
    }

    /// As [`Listener::wake_here`].
    pub(crate) fn wake_here(self: &Arc<Self>) {
        self.is_touched.store(false, Ordering::Release);
        self.listeners.wake_here(self.place());
    }

    /// Wakes `listener` on news from now on, until [`Feed::unlisten`] was called as often as this.
    pub(crate) fn listen(&self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    pub(crate) fn unlisten(&self, listener: &Arc<dyn Listener>) {
        self.listeners.remove(listener);
    }
}
