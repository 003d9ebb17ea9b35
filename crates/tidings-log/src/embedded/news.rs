//! What the side store and the index hear from the writer and the keeper, in order.

use super::entry::{self, Entry};
use super::frame;
use super::scan::Place;
use super::sidecar::Sidecar;
use bytes::Bytes;
use std::sync::Arc;

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
    Forgotten(Arc<Vec<Keyed>>),
}

/// An event with a key, as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    pub topic: u32,
    pub offset: u64,
    pub key: Box<str>,
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
