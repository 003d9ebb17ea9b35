//! The way through one topic that tells which collections have another latest event.
//!
//! Owns: a cursor over the log, and the latest of each collection up to there. What it knows is put down as a
//! durable mark now and then, so that the next one begins there and not at the topic's first event.

use super::latest::{Latest, Place};
use crate::{Error, Tidings};
use tidings_log::{Batch, Error as LogError, Mark, ReadMax};
use tidings_model::{Audience, Epoch, Event, Offset, TopicName};

/// What has become different.
pub enum Change {
    /// The topic has another life; nothing of before holds.
    Reset,
    /// The latest of its collection, and where the one before stood. A deletion leaves the collection empty.
    Latest { event: Event, place: Place, before: Option<Place> },
}

/// A cursor over one topic.
pub struct Follower {
    tidings: Tidings,
    name: TopicName,
    latest: Latest,
    epoch: Option<Epoch>,
    cursor: Offset,
    /// Read from the mark, not yet handed out: ascending.
    marked: Vec<Offset>,
    marked_at: usize,
    /// Events read since the mark.
    unmarked: usize,
}

/// Events read beyond those in the mark before another is worth its bytes.
const MARK_AFTER: usize = 2_000;
/// Events of one step: what they take as changes is given and taken back without asking the system.
const PAGE_EVENTS: usize = 256;

impl Follower {
    /// Stands where the topic's mark says, or at its beginning.
    pub(super) async fn open(tidings: Tidings, name: TopicName) -> Result<Self, Error> {
        let mut own = Self::empty(tidings, name);
        let Some(bounds) = own.tidings.log().bounds(&own.name) else { return Ok(own) };
        let mark = own.tidings.log().mark(&own.mark_name()).await?;
        if let Some((epoch, tail, offsets)) = mark.as_deref().and_then(decode)
            && epoch == bounds.epoch
            && tail <= bounds.tail
        {
            (own.epoch, own.cursor, own.marked) = (Some(epoch), tail, offsets);
        }
        Ok(own)
    }

    /// The next changes; none when it is level with the log.
    pub async fn next(&mut self) -> Result<Vec<Change>, Error> {
        let events = self.tidings.limits().read_batch_events.min(PAGE_EVENTS);
        let max = ReadMax { events, bytes: 1 << 20 };
        let mut changes = Vec::new();
        while changes.is_empty() {
            let bounds = self.tidings.log().bounds(&self.name);
            if bounds.map(|b| b.epoch) != self.epoch {
                let had_some = self.epoch.is_some();
                *self = Self {
                    epoch: bounds.map(|b| b.epoch),
                    ..Self::empty(self.tidings.clone(), self.name.clone())
                };
                if had_some {
                    return Ok(vec![Change::Reset]);
                }
            }
            let Some(bounds) = bounds else { break };
            let events = if self.marked_at < self.marked.len() {
                let rest = &self.marked[self.marked_at..];
                let rest = &rest[..rest.len().min(max.events)];
                let events = self.tidings.log().read_at(&self.name, rest, max).await?;
                let last = events.last().map_or(Offset(u64::MAX), Event::offset);
                self.marked_at += rest.partition_point(|offset| *offset <= last);
                events
            } else {
                let after = self.cursor.max(Offset(bounds.oldest.0 - 1));
                let events = match self.tidings.log().read(&self.name, after, max).await {
                    // Trimmed in the meantime, or a hole that a repair has left.
                    Err(LogError::Trimmed { oldest, .. }) => {
                        self.cursor = Offset(oldest.0 - 1);
                        continue;
                    }
                    answer => answer?,
                };
                let Some(last) = events.last() else { break };
                self.cursor = last.offset();
                self.unmarked += events.len();
                events
            };
            changes.reserve(events.len());
            // Of another life: the next turn finds out.
            let own = events.into_iter().filter(|e| Some(e.epoch()) == self.epoch);
            // I6: what not everyone with the grant may see is not state of a name.
            for event in own.filter(|e| e.audience() == Audience::Everyone) {
                if let Some((place, before)) = self.latest.add(&event) {
                    changes.push(Change::Latest { event, place, before });
                }
            }
        }
        Ok(changes)
    }

    /// Whether the topic has had an event.
    pub fn has_begun(&self) -> bool {
        self.epoch.is_some()
    }

    /// Puts down what it knows, if reading that again would cost more.
    pub async fn mark(&mut self) -> Result<(), Error> {
        let (Some(epoch), true) = (self.epoch, self.unmarked > MARK_AFTER.max(2 * self.latest.len())) else {
            return Ok(());
        };
        let value = encode(epoch, self.cursor, &self.latest.offsets());
        let mark = Mark { name: self.mark_name(), value: Some(value.into()) };
        self.tidings.log().commit(Batch { marks: vec![mark], ..Batch::default() }).await?;
        self.unmarked = 0;
        Ok(())
    }

    fn mark_name(&self) -> String {
        format!("broker/latest/{}", self.name)
    }

    /// Before the topic's first event.
    fn empty(tidings: Tidings, name: TopicName) -> Self {
        Self {
            tidings,
            name,
            latest: Latest::default(),
            epoch: None,
            cursor: Offset::ZERO,
            marked: Vec::new(),
            marked_at: 0,
            unmarked: 0,
        }
    }
}

const VERSION: u8 = 1;

/// Version, epoch, the offset up to which it holds, then the distances between the offsets (LEB128).
fn encode(epoch: Epoch, tail: Offset, offsets: &[Offset]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&epoch.0.to_le_bytes());
    out.extend_from_slice(&tail.0.to_le_bytes());
    let mut last = 0;
    for offset in offsets {
        let mut left = offset.0 - last;
        last = offset.0;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }
    out
}

fn decode(bytes: &[u8]) -> Option<(Epoch, Offset, Vec<Offset>)> {
    let (head, mut rest) = bytes.split_at_checked(13)?;
    if head[0] != VERSION {
        return None;
    }
    let epoch = Epoch(u32::from_le_bytes(head[1..5].try_into().ok()?));
    let tail = Offset(u64::from_le_bytes(head[5..13].try_into().ok()?));
    let (mut offsets, mut last) = (Vec::new(), 0u64);
    while !rest.is_empty() {
        let len = rest.iter().position(|b| *b < 0x80).filter(|i| *i < 9)? + 1;
        let (number, after) = rest.split_at(len);
        let distance = number.iter().rev().fold(0u64, |sum, b| sum << 7 | u64::from(b & 0x7f));
        last = last.checked_add(distance)?;
        offsets.push(Offset(last));
        rest = after;
    }
    Some((epoch, tail, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_reads_back(mut offsets in prop::collection::vec(1..u64::MAX / 4, 0..50), epoch: u32) {
            offsets.sort_unstable();
            offsets.dedup();
            let offsets: Vec<Offset> = offsets.into_iter().map(Offset).collect();
            let found = decode(&encode(Epoch(epoch), Offset(7), &offsets));
            prop_assert_eq!(found, Some((Epoch(epoch), Offset(7), offsets)));
        }

        #[test]
        fn any_bytes_are_a_mark_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
