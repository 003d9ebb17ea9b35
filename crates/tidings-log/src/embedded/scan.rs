//! Walks through a segment's records, and tells a torn end from damage.
//!
//! Owns: the rule of what may be cut. Writes happen one group after another, each synced before the next
//! begins. So the bytes from an invalid record on may be cut only if no valid record follows whose group
//! began after it; if one does, the invalid record had been synced, and cutting would lose acknowledged events.

use super::entry::{self, Entry};
use super::frame::{self, Frame, HEAD, Head};
use super::home::Segments;
use super::positions::Positions;
use crate::Error;
use std::collections::HashMap;
use std::path::Path;

/// A place in the log: everything before it comes earlier in commit order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub segment: u32,
    pub at: u64,
}

/// A segment file in memory.
pub struct SegmentBytes {
    pub head: Head,
    pub bytes: Vec<u8>,
}

/// What follows the last valid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// Zeros: space that was laid ahead (see `runway`), or a write of which nothing arrived.
    Blank,
    /// The remains of a write that was never synced.
    Torn,
    /// Damage: records that were synced are unreadable up to `until`, where a valid one begins.
    Damaged { until: usize },
}

impl SegmentBytes {
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(Error::io(format!("reading {}", path.display())))?;
        let head = Head::decode(&bytes).ok_or_else(|| Error::Corrupt {
            path: path.to_owned(),
            at: 0,
            what: "no segment head".to_owned(),
        })?;
        Ok(Self { head, bytes })
    }

    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The valid records from `from` on, up to the first invalid one.
    pub fn records(&self, from: usize) -> impl Iterator<Item = Frame> {
        let mut at = from.max(HEAD);
        std::iter::from_fn(move || {
            let frame = frame::read(&self.bytes, at, self.head.salt)?;
            at = frame.body.end;
            Some(frame)
        })
    }

    pub fn entries(&self, frame: &Frame) -> impl Iterator<Item = Result<(usize, Entry<'_>), usize>> {
        entry::entries(&self.bytes, frame.body.clone())
    }

    /// What is found at `at`, where the valid records end.
    pub fn tail(&self, at: usize) -> Tail {
        if at >= self.bytes.len() {
            return Tail::Clean;
        }
        let later = |q: &usize| {
            self.looks_like_record(*q)
                && frame::read(&self.bytes, *q, self.head.salt).is_some_and(|f| f.group > at)
        };
        match (at + 1..self.bytes.len().saturating_sub(frame::FRAME)).find(later) {
            Some(until) => Tail::Damaged { until },
            None if self.bytes[at..].iter().all(|b| *b == 0) => Tail::Blank,
            None => Tail::Torn,
        }
    }

    /// The next valid record after an invalid one at `at`, of whatever group.
    pub fn next_record(&self, at: usize) -> Option<usize> {
        (at + 1..self.bytes.len().saturating_sub(frame::FRAME))
            .find(|q| self.looks_like_record(*q) && frame::read(&self.bytes, *q, self.head.salt).is_some())
    }

    /// A cheap test before the checksum, so that a search through damage stays linear.
    fn looks_like_record(&self, at: usize) -> bool {
        let word =
            |at: usize| u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
        let len = word(at);
        len > 0
            && len <= self.bytes.len() - at - frame::FRAME
            && word(at + 8) <= at - HEAD.min(at)
            && entry::is_tag(self.bytes[at + frame::FRAME])
    }

    /// Positions of all events up to `end`.
    pub fn positions(&self, end: usize) -> HashMap<u32, Positions> {
        let mut topics: HashMap<u32, Positions> = HashMap::new();
        for frame in self.records(HEAD).take_while(|f| f.body.end <= end) {
            for (at, entry) in self.entries(&frame).flatten() {
                if let Entry::Event(event) = entry {
                    let time = published_ms(event.record);
                    let len = event.record.len() as u32;
                    topics.entry(event.topic).or_default().push(event.offset, at as u32, len, time);
                }
            }
        }
        topics
    }
}

/// When an event was published, from its record's fixed head.
pub fn published_ms(record: &[u8]) -> i64 {
    record.get(16..24).map_or(0, |ms| i64::from_le_bytes(ms.try_into().expect("8 bytes")))
}

/// Hands every record from `from` up to `to` to `each`, with the place after it.
pub fn replay(
    segments: &Segments,
    from: Place,
    to: Place,
    mut each: impl FnMut(Place, Record<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for number in segments.list()? {
        if number < from.segment || number > to.segment {
            continue;
        }
        let path = segments.log(number);
        let segment = SegmentBytes::load(&path)?;
        let start = if number == from.segment { from.at as usize } else { HEAD };
        let end = if number == to.segment { to.at } else { segment.len() };
        let mut at = start.max(HEAD) as u64;
        for frame in segment.records(start) {
            if at >= end {
                break;
            }
            at = frame.body.end as u64;
            each(Place { segment: number, at }, Record { segment: &segment, frame })?;
        }
        if at < end {
            return Err(Error::Corrupt { path, at, what: "an invalid record".to_owned() });
        }
    }
    Ok(())
}

/// One record while the log is replayed.
pub struct Record<'a> {
    segment: &'a SegmentBytes,
    frame: Frame,
}

impl<'a> Record<'a> {
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        entry::entries(&self.segment.bytes, self.frame.body.clone()).map_while(Result::ok).map(|(_, e)| e)
    }
}
