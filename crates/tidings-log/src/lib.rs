//! The durable ordered log under everything: one writing verb, a few reads.
//!
//! Owns: the contract ([`Log`]), the embedded implementation, and the in-memory model that tests and the
//! simulator compare with. Never: knows a principal, a transport, or what an event means.

mod batch;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod due;
pub mod embedded;
mod error;
pub mod memory;

pub use batch::{Append, Appended, Batch, Mark, Receipt, RegistryChange, Trim};
pub use clock::{Clock, ClockState, ClockStatus, SystemClock};
pub use due::{Due, DuePage, DuePlace, DuePut, DueQuery};
pub use embedded::EmbeddedLog;
pub use error::Error;

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use tidings_model::{Epoch, Event, Key, Offset, Timestamp, TopicName, Uuid};

/// What a log's methods return: a boxed future, so that the engine holds any log behind one pointer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The durable ordered log.
///
/// Offsets of a topic are 1, 2, 3 ... without gaps (I2). Reads see everything that was acknowledged before
/// they were called, and nothing that a crash could take back (I1).
pub trait Log: Send + Sync + 'static {
    /// Applies `batch` whole or not at all. The only way to change anything.
    ///
    /// After `Ok`: everything in the batch is on stable storage and visible to reads; offsets of one topic
    /// are consecutive in the batch's order; the observer has been told. An append whose client-given id is
    /// remembered for its topic (also from earlier in the same batch) changes nothing and answers with the
    /// first receipt; the rest of the batch is applied.
    /// After `Err`: nothing was applied, unless the error is [`Error::Unknown`]: then the outcome shows in
    /// `bounds` after a restart. After a failed sync every further commit answers [`Error::ReadOnly`] (I9).
    /// Commits are applied in the order in which their futures are first polled, as long as the queue has room.
    /// Cancel safe: dropping the future may still apply the batch; it never applies half of it.
    fn commit(&self, batch: Batch) -> Answer<'_, Receipt>;

    /// Wakes who follows the log, where a batch has left that to whoever committed it. What waits for followers wakes
    /// them by itself.
    fn follow(&self) {}

    /// Where the topic begins and ends now; `None` if nothing was ever appended. Never blocks on I/O.
    fn bounds(&self, topic: &TopicName) -> Option<Bounds>;

    /// How many topics there are. Never blocks on I/O.
    fn topic_count(&self) -> usize;

    /// Up to `max` topics in name order, after `after`.
    fn topics(&self, after: Option<&TopicName>, max: usize) -> Answer<'_, Vec<(TopicName, Bounds)>>;

    /// Events with consecutive offsets from `after + 1`, at least one if there is one, at most `max`.
    ///
    /// `Err(Trimmed)` if `after + 1` is older than the oldest kept event, or was lost to damage that a repair
    /// has set aside: its `oldest` is where to go on. Unknown topic: empty.
    fn read(&self, topic: &TopicName, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>>;

    /// Events of one key after `after`, ascending, from the oldest kept on; at least one if there is one.
    fn read_key(&self, topic: &TopicName, key: &Key, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>>;

    /// Events after `after` that may concern the reader with the id `user` (`None`: one without), ascending, at
    /// least one if there is one, at most `max`; and how far the topic was searched for them.
    ///
    /// An event is left out only if it is neither for everyone nor, now or before, for that user. How it is found
    /// costs what that user's events cost, where all events of the topic say whom they concern.
    /// `Err(Trimmed)` as [`Log::read`]. Unknown topic: nothing.
    fn read_audience(
        &self,
        topic: &TopicName,
        user: Option<&str>,
        after: Offset,
        max: ReadMax,
    ) -> Answer<'_, Found>;

    /// As [`Log::state`] of a whole topic, leaving out rows that the reader with the id `user` cannot see.
    fn state_audience(&self, topic: &TopicName, user: Option<&str>) -> Answer<'_, State>;

    /// The offsets of State (newest event of each key, deleted keys left out, also those before the newest event
    /// that empties the topic), ascending, as of `tail`.
    ///
    /// With `key` only that key's. May name offsets below the oldest kept event: State outlives retention.
    fn state(&self, topic: &TopicName, key: Option<&Key>) -> Answer<'_, State>;

    /// The events at `offsets` (ascending), leaving out what is no longer kept; stops after `max`,
    /// but returns at least one if one is kept. For the offsets that [`Log::state`] named.
    fn read_at(&self, topic: &TopicName, offsets: &[Offset], max: ReadMax) -> Answer<'_, Vec<Event>>;

    /// The offset after which everything published at or after `at` lies; the tail if nothing does.
    fn at_time(&self, topic: &TopicName, at: Timestamp) -> Answer<'_, Offset>;

    /// The smallest offset such that the records after it take at most `bytes` (a whole-block estimate
    /// that never exceeds the true answer by more than one segment). For retention by size.
    fn at_size(&self, topic: &TopicName, bytes: u64) -> Answer<'_, Offset>;

    /// Scheduled events that `query` wants, in the order in which they are due, within `max`.
    ///
    /// One call looks at a bounded number of events: a page may be short, or empty, and still not be the last;
    /// it is the last when it says no `next`. One event is answered however large it is.
    fn due(&self, query: DueQuery, max: ReadMax) -> Answer<'_, DuePage>;

    /// One scheduled event.
    fn due_by_id(&self, id: Uuid) -> Answer<'_, Option<Due>>;

    /// When the next scheduled event is due.
    fn due_next(&self) -> Answer<'_, Option<Timestamp>>;

    /// A durable mark, such as a webhook's progress or a capture's position.
    fn mark(&self, name: &str) -> Answer<'_, Option<Bytes>>;

    /// All records of a kind (`topic`, `user`, `destination` ...) in key order.
    fn registry(&self, kind: &str) -> Answer<'_, Vec<(String, Bytes)>>;

    /// Up to `max` records of a kind in key order (by bytes), after `after`.
    fn registry_page(&self, kind: &str, after: Option<&str>, max: usize) -> Answer<'_, Vec<(String, Bytes)>>;

    /// One record.
    fn registered(&self, kind: &str, key: &str) -> Answer<'_, Option<Bytes>>;

    /// Whether commits are accepted; `Some` says why not.
    fn read_only(&self) -> Option<String>;

    /// Lets go of everything after finishing what was accepted. Later commits answer [`Error::Closed`].
    fn close(&self) -> Answer<'_, ()>;
}

/// Told of every commit, in commit order, after it is durable and readable and before it is acknowledged.
///
/// Runs on the writer's path: it must be quick and must not call the log's async methods.
pub trait Observer: Send + Sync + 'static {
    /// `topic` is now at `tail`. `events` yields the new events in order, made only as they are taken.
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>);

    /// Everything before `oldest` is gone.
    fn trimmed(&self, topic: &TopicName, oldest: Offset) {
        let _ = (topic, oldest);
    }

    /// The topic was dropped; if it comes back, it has another epoch.
    fn dropped(&self, topic: &TopicName) {
        let _ = topic;
    }

    /// Scheduled events changed; the next is perhaps due sooner.
    fn due_changed(&self) {}
}

/// Nobody listens.
impl Observer for () {
    fn advanced(&self, _: &TopicName, _: Offset, _: &mut dyn Iterator<Item = Event>) {}
}

/// Where a topic begins and ends. An empty topic has `oldest == tail + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub epoch: Epoch,
    /// The oldest event that is kept.
    pub oldest: Offset,
    /// The newest event; 0 if there was none yet.
    pub tail: Offset,
}

/// How much one read may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMax {
    pub events: usize,
    pub bytes: usize,
}

/// Events that were searched for.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub events: Vec<Event>,
    /// Up to here there are no others.
    pub up_to: Offset,
}

/// The newest event of each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub offsets: Vec<Offset>,
    /// Everything up to here is taken into account.
    pub tail: Offset,
}
