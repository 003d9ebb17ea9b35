//! What one commit changes, and what it answers.

use crate::DuePut;
use bytes::Bytes;
use tidings_model::{Epoch, Offset, Timestamp, TopicName, Uuid};

/// Everything one commit changes, atomically. Applied in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Scheduled events that leave (fired or cancelled). One that is not there refuses the whole batch with
    /// [`crate::Error::DueUnknown`]: so an event fires once and never after its cancel (I4).
    pub due_take: Vec<Uuid>,
    /// Topics that end: their events, State and remembered ids go; a later append starts a new epoch.
    pub drops: Vec<TopicName>,
    pub appends: Vec<Append>,
    /// Events kept for later. One that is also in `due_take` is moved: what it was is gone, and its id counts as
    /// unknown.
    pub due_put: Vec<DuePut>,
    pub marks: Vec<Mark>,
    pub registry: Vec<RegistryChange>,
    pub trims: Vec<Trim>,
    /// Whoever commits has something more urgent to do than waking who follows the log, and does that afterwards with
    /// [`crate::Log::follow`].
    pub is_followed_later: bool,
}

/// One event to append. The topic is created if it does not exist.
#[derive(Debug, Clone)]
pub struct Append {
    pub topic: TopicName,
    /// From `RecordWriter::encode`; the log stamps the time of publishing, which never runs backwards.
    pub record: Vec<u8>,
}

/// A named position that must not be lost.
#[derive(Debug, Clone)]
pub struct Mark {
    pub name: String,
    /// `None` removes it.
    pub value: Option<Bytes>,
}

/// A small precious record: a topic's settings, a user, a destination.
#[derive(Debug, Clone)]
pub struct RegistryChange {
    pub kind: String,
    pub key: String,
    /// `None` removes it.
    pub value: Option<Bytes>,
}

/// Lets go of a topic's oldest events.
#[derive(Debug, Clone)]
pub struct Trim {
    pub topic: TopicName,
    /// The first offset to keep; values beyond the tail keep nothing but the tail's place.
    pub oldest: Offset,
    /// Whether the newest event of each key stays readable through State.
    pub keep_state: bool,
}

/// What a commit did, in the order of the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    pub appended: Vec<Appended>,
    /// For each `due_put`: whether its id was already scheduled or published, so that nothing changed.
    pub due_duplicate: Vec<bool>,
}

/// Where one event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub epoch: Epoch,
    pub offset: Offset,
    pub published_at: Timestamp,
    /// The id was remembered: this is the first receipt, nothing was appended.
    pub duplicate: bool,
}

impl Batch {
    /// Bytes this batch takes in memory, about; what the writer's queue is bounded by.
    pub fn weight(&self) -> usize {
        let append = |a: &Append| a.record.len() + 64;
        let appends: usize = self.appends.iter().map(append).sum();
        let put = |d: &DuePut| d.due.record.len() + 128 + d.notice.as_ref().map_or(0, append);
        let dues: usize = self.due_put.iter().map(put).sum();
        let marks: usize = self.marks.iter().map(|m| m.value.as_ref().map_or(0, Bytes::len) + 64).sum();
        let registry: usize = self.registry.iter().map(|r| r.value.as_ref().map_or(0, Bytes::len) + 64).sum();
        appends + dues + marks + registry + 16 * self.due_take.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.due_take.is_empty()
            && self.drops.is_empty()
            && self.appends.is_empty()
            && self.due_put.is_empty()
            && self.marks.is_empty()
            && self.registry.is_empty()
            && self.trims.is_empty()
    }
}
