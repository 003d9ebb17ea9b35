//! What every [`Log`] must do, as one suite that each implementation runs in its tests.
//!
//! Owns: the promises of the contract that can be seen from outside. Never: looks into an implementation.

use crate::memory::IdWindow;
use crate::{
    Append, Batch, Bounds, Clock, Due, DueQuery, Error, Log, Mark, Observer, ReadMax, Receipt,
    RegistryChange, Trim,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tidings_model::{Event, Key, NewEvent, Offset, RecordWriter, Sight, Timestamp, Topic, TopicName, Uuid};

mod audience;
mod cases;
mod dues;

pub use cases::suite;

/// Makes the logs under test.
pub trait Maker {
    /// From now on [`Maker::open`] opens another, empty log.
    fn fresh(&mut self);

    /// Opens the log; what was committed before is there if it is durable.
    fn open(&mut self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>, window: IdWindow) -> Arc<dyn Log>;

    /// Whether the log survives being closed and opened again.
    fn is_durable(&self) -> bool;
}

/// A clock that stands still until it is told.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst)).expect("in range")
    }
}

/// Writes down what it is told, one line each.
#[derive(Debug, Clone, Default)]
pub struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    /// What was heard since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while holding the lock"))
    }

    fn note(&self, line: String) {
        self.0.lock().expect("no panic while holding the lock").push(line);
    }
}

impl Observer for Listener {
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) {
        let data: Vec<String> =
            events.map(|e| format!("{}={}", e.offset(), e.data().unwrap_or_default())).collect();
        self.note(format!("{topic} at {tail}: {}", data.join(" ")));
    }

    fn trimmed(&self, topic: &TopicName, oldest: Offset) {
        self.note(format!("{topic} from {oldest}"));
    }

    fn dropped(&self, topic: &TopicName) {
        self.note(format!("{topic} dropped"));
    }

    fn due_changed(&self) {
        self.note("due".to_owned());
    }
}

/// A topic's name.
pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name).expect("a valid name")
}

/// An event to append: to `topic` or `topic:key`, with a client-given id if there is one.
pub fn append(address: &str, id: Option<u128>, data: &str) -> Append {
    let topic = Topic::parse(address).expect("a valid address");
    let mut event = NewEvent::new(topic, data.to_owned());
    event.id = id.map(Uuid::from_u128);
    encode(event)
}

/// The deletion of a key.
pub fn delete(address: &str) -> Append {
    let mut event = NewEvent::new(Topic::parse(address).expect("a valid address"), "0");
    event.deleted = true;
    encode(event)
}

/// An event to append that not everybody may see, or that empties its topic.
pub fn append_for(address: &str, data: &str, sight: &Sight) -> Append {
    let event = NewEvent::new(Topic::parse(address).expect("a valid address"), data.to_owned());
    let record = RecordWriter::encode_for(&event, Uuid::from_u128(77), sight);
    Append { topic: event.topic.name, record }
}

fn encode(event: NewEvent) -> Append {
    let record = RecordWriter::encode(&event, event.id.unwrap_or(Uuid::from_u128(77)));
    Append { topic: event.topic.name, record }
}

/// An event for later.
pub fn due(id: u128, at_ms: i64, name: &str) -> Due {
    let at = Timestamp::from_millis(at_ms).expect("in range");
    let Append { topic, record } = append(name, Some(id), "\"later\"");
    Due { id: Uuid::from_u128(id), at, topic, owner: Some("ann".to_owned()), record }
}

/// No bound.
pub const ALL: ReadMax = ReadMax { events: usize::MAX, bytes: usize::MAX };

struct Case<'a> {
    maker: &'a mut dyn Maker,
    clock: ManualClock,
    heard: Listener,
    window: IdWindow,
    log: Arc<dyn Log>,
}

impl<'a> Case<'a> {
    fn new(maker: &'a mut dyn Maker, window: IdWindow) -> Self {
        maker.fresh();
        let (clock, heard) = (ManualClock::at(1_000_000), Listener::default());
        let log = maker.open(Arc::new(clock.clone()), Arc::new(heard.clone()), window);
        Self { maker, clock, heard, window, log }
    }

    async fn reopen(&mut self) {
        if self.maker.is_durable() {
            self.log.close().await.expect("closes");
            self.log =
                self.maker.open(Arc::new(self.clock.clone()), Arc::new(self.heard.clone()), self.window);
        }
    }

    async fn commit(&self, batch: Batch) -> Receipt {
        self.log.commit(batch).await.expect("commits")
    }

    async fn append(&self, address: &str, data: &str) -> u64 {
        let appends = vec![append(address, None, data)];
        self.commit(Batch { appends, ..Batch::default() }).await.appended[0].offset.0
    }

    async fn read(&self, name: &str, after: u64) -> Vec<String> {
        data(&self.log.read(&topic(name), Offset(after), ALL).await.expect("reads"))
    }

    async fn state(&self, name: &str) -> Vec<String> {
        let state = self.log.state(&topic(name), None).await.expect("reads State");
        data(&self.log.read_at(&topic(name), &state.offsets, ALL).await.expect("reads State's events"))
    }

    fn bounds(&self, name: &str) -> Option<(u64, u64)> {
        self.log.bounds(&topic(name)).map(|Bounds { oldest, tail, .. }| (oldest.0, tail.0))
    }
}

fn data(events: &[Event]) -> Vec<String> {
    events.iter().map(|e| format!("{}:{}", e.offset(), e.data().unwrap_or_default())).collect()
}

fn trim(name: &str, oldest: u64, keep_state: bool) -> Batch {
    let trims = vec![Trim { topic: topic(name), oldest: Offset(oldest), keep_state }];
    Batch { trims, ..Batch::default() }
}
