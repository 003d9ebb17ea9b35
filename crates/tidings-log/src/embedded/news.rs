//! What the side store and the index hear from the writer and the keeper, in order.

use super::entry::{self, Entry, EventEntry};
use super::frame;
use super::scan::Place;
use super::sidecar::Sidecar;
use bytes::Bytes;
use std::sync::Arc;
use tidings_model::RecordWriter;

/// One piece of news.
#[derive(Clone)]
pub enum News {
    /// The log was opened: read again what lies between the place applied last and here.
    Opened(Place),
    /// A group of records became durable.
    Written(Arc<Written>),
    /// Nothing follows until the next start.
    Closed(Place),
    /// A segment was closed and has its sidecar.
    Sealed { number: u32, sidecar: Arc<Sidecar> },
    /// Cleaning left this of a closed segment.
    Rewritten { number: u32, sidecar: Arc<Sidecar> },
    /// Cleaning removed a segment.
    Removed { number: u32 },
    /// These events are gone from the segments.
    Forgotten(Arc<Vec<Forgotten>>),
}

/// An event that is gone, as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    pub topic: u32,
    pub offset: u64,
    pub key: Option<Box<str>>,
    pub told: Told,
}

/// Whom an event was found by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    pub is_everyone: bool,
    pub users: Vec<Box<[u8]>>,
}

impl Forgotten {
    /// `None` where the index knows nothing of the event.
    pub fn of(event: &EventEntry<'_>) -> Option<Self> {
        let key = RecordWriter::peek(event.record).2.map(Into::into);
        let told = RecordWriter::routing(event.record).map(|routing| Told {
            is_everyone: routing.is_everyones(),
            users: routing.users().map(|(id, _)| id.into()).collect(),
        });
        let is_known = key.is_some() || told.is_some();
        let told = told.unwrap_or_default();
        is_known.then_some(Self { topic: event.topic, offset: event.offset, key, told })
    }

    /// Bytes it holds in memory, about.
    pub fn weight(&self) -> usize {
        let users: usize = self.told.users.iter().map(|id| id.len() + 16).sum();
        self.key.as_ref().map_or(0, |key| key.len()) + users + 64
    }
}

/// Records that were written with one sync.
pub struct Written {
    pub segment: u32,
    /// Where they begin.
    pub at: u64,
    pub bytes: Bytes,
}

impl Written {
    /// The place after the last record.
    pub fn end(&self) -> Place {
        Place { segment: self.segment, at: self.at + self.bytes.len() as u64 }
    }

    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut at = 0;
        let frames = std::iter::from_fn(move || {
            let body = frame::body(&self.bytes, at)?;
            at = body.end;
            Some(body)
        });
        frames
            .flat_map(|body| entry::entries(&self.bytes, body))
            .map(|e| e.expect("the writer encodes valid entries").1)
    }
}
