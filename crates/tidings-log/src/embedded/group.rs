//! The batches that are written with one write and one sync.
//!
//! Owns: their encoded bytes, and what must become visible and be told once they are durable.

use super::catalog::Topic;
use super::entry::{self, Entry};
use super::stage::Undo;
use std::sync::Arc;
use tidings_model::TopicName;

/// A group that is being put together.
pub struct Group {
    pub segment: u32,
    pub salt: u32,
    /// Where its first byte will lie in the segment.
    pub base: u64,
    pub bytes: Vec<u8>,
    /// Position in the segment, and length, of each event.
    pub places: Vec<(u32, u32)>,
    pub notices: Vec<Notice>,
    pub undo: Vec<Undo>,
    /// Whether the side store has something to apply.
    pub for_side: bool,
    /// Whether the index has something to apply.
    pub for_index: bool,
    batch: Savepoint,
}

/// What readers and the observer must learn, in commit order.
pub enum Notice {
    Created(Arc<Topic>),
    /// This life of a topic is over.
    Ended(Arc<Topic>),
    /// A drop was asked for; perhaps there was no such topic.
    Dropped(TopicName),
    Advanced(Run),
    Trimmed {
        topic: Arc<Topic>,
        oldest: u64,
        keep_state: bool,
    },
    DueChanged,
}

/// Events of one topic with consecutive offsets and one time.
pub struct Run {
    pub topic: Arc<Topic>,
    pub first: u64,
    /// Of the first event in `Group::places`.
    pub at: usize,
    pub count: usize,
    pub time: i64,
}

impl Run {
    pub fn last(&self) -> u64 {
        self.first + self.count as u64 - 1
    }
}

/// Where a batch begins, to go back to.
#[derive(Clone, Copy, Default)]
pub struct Savepoint {
    bytes: usize,
    places: usize,
    notices: usize,
    undo: usize,
}

impl Group {
    pub fn new(segment: u32, salt: u32, base: u64, bytes: Vec<u8>) -> Self {
        Self {
            segment,
            salt,
            base,
            bytes,
            places: Vec::new(),
            notices: Vec::new(),
            undo: Vec::new(),
            for_side: false,
            for_index: false,
            batch: Savepoint::default(),
        }
    }

    pub fn begin_batch(&mut self) -> Savepoint {
        let (bytes, places) = (self.bytes.len(), self.places.len());
        self.batch = Savepoint { bytes, places, notices: self.notices.len(), undo: self.undo.len() };
        self.batch
    }

    /// Forgets what came after `savepoint`, and answers how to take it back elsewhere.
    pub fn rewind(&mut self, savepoint: Savepoint) -> Vec<Undo> {
        self.bytes.truncate(savepoint.bytes);
        self.places.truncate(savepoint.places);
        self.notices.truncate(savepoint.notices);
        self.undo.split_off(savepoint.undo)
    }

    /// Appends an entry that the side store must apply.
    pub fn put_side(&mut self, entry: &Entry<'_>) {
        self.for_side = true;
        entry.put(&mut self.bytes);
    }

    /// Whether the batch's last event went to this topic. A run never reaches over two batches, so that a
    /// batch can be taken back alone.
    pub fn continues(&self, topic: u32) -> bool {
        match self.notices[self.batch.notices..].last() {
            Some(Notice::Advanced(run)) => run.topic.id == topic,
            _ => false,
        }
    }

    /// Begins a run of events with one time.
    pub fn begin_run(&mut self, topic: Arc<Topic>, first: u64, time: i64) {
        self.notices.push(Notice::Advanced(Run { topic, first, at: self.places.len(), count: 0, time }));
    }

    /// Appends an event's entry, the next one of the current run.
    pub fn put_event(&mut self, topic: u32, offset: u64, record: &[u8]) {
        let Some(Notice::Advanced(run)) = self.notices.last_mut() else {
            unreachable!("a run was begun before its first event")
        };
        run.count += 1;
        let at = self.base + self.bytes.len() as u64;
        entry::put_event(&mut self.bytes, topic, offset, record);
        self.places.push((at as u32, record.len() as u32));
    }
}
