//! How far a destination has come, as it is put down durably.
//!
//! Owns: the stored form, and the name under which it lies. One mark a destination.

use super::settled::{Settled, put, take};
use bytes::Bytes;
use std::collections::VecDeque;
use tidings_model::{Epoch, Timestamp, Uuid};

const VERSION: u8 = 1;

/// A destination's progress in one life of its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// [`Epoch::NONE`] while the topic has had no event.
    pub epoch: Epoch,
    pub settled: Settled,
    /// What is to be sent again, in this order.
    pub replays: VecDeque<Replay>,
    /// What a queue has lent, by offset.
    pub lent: Vec<Lent>,
}

/// Offsets to send again, `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    pub first: u64,
    pub last: u64,
    /// Only those that are dead.
    pub only_dead: bool,
}

/// An event that one consumer of a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    pub offset: u64,
    pub id: Uuid,
    pub until: Timestamp,
    /// Whose it is; 0 for nobody in particular.
    pub consumer: u64,
    /// Its consumer has come for more: it counts as done unless it is given back in time.
    pub is_taken: bool,
}

impl Mark {
    /// Before everything of that life.
    pub fn at(epoch: Epoch) -> Self {
        Self { epoch, settled: Settled::default(), replays: VecDeque::new(), lent: Vec::new() }
    }

    pub fn name(id: Uuid) -> String {
        format!("destination/{id}")
    }

    pub fn stored(&self, id: Uuid) -> tidings_log::Mark {
        tidings_log::Mark { name: Self::name(id), value: Some(self.encode()) }
    }

    pub fn removed(id: Uuid) -> tidings_log::Mark {
        tidings_log::Mark { name: Self::name(id), value: None }
    }

    fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        put(&mut out, self.epoch.0.into());
        self.settled.encode(&mut out);
        put(&mut out, self.replays.len() as u64);
        for Replay { first, last, only_dead } in &self.replays {
            put(&mut out, *first);
            put(&mut out, *last);
            out.push(u8::from(*only_dead));
        }
        put(&mut out, self.lent.len() as u64);
        for Lent { offset, id, until, consumer, is_taken } in &self.lent {
            put(&mut out, *offset);
            out.extend_from_slice(id.as_bytes());
            put(&mut out, until.as_millis().max(0) as u64);
            put(&mut out, *consumer);
            out.push(u8::from(*is_taken));
        }
        out.into()
    }

    /// Reads what [`Mark::stored`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (VERSION, mut rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else {
            return None;
        };
        let rest = &mut rest;
        let epoch = Epoch(u32::try_from(take(rest)?).ok()?);
        let mut own = Self { settled: Settled::decode(rest)?, ..Self::at(epoch) };
        for _ in 0..take(rest)? {
            let (first, last) = (take(rest)?, take(rest)?);
            let (&only_dead, after) = rest.split_first()?;
            *rest = after;
            own.replays.push_back(Replay { first, last, only_dead: only_dead == 1 });
        }
        for _ in 0..take(rest)? {
            let offset = take(rest)?;
            let (id, after) = rest.split_at_checked(16)?;
            *rest = after;
            let id = Uuid::from_slice(id).ok()?;
            let until = Timestamp::from_millis(i64::try_from(take(rest)?).ok()?)?;
            let consumer = take(rest)?;
            let (&is_taken, after) = rest.split_first()?;
            *rest = after;
            own.lent.push(Lent { offset, id, until, consumer, is_taken: is_taken == 1 });
        }
        rest.is_empty().then_some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_reads_back(
            epoch: u32,
            done in prop::collection::vec((1u64..1000, 0u64..5), 0..20),
            replays in prop::collection::vec((1u64..50, 50u64..99, any::<bool>()), 0..4),
            lent in prop::collection::vec((1u64..1000, any::<u128>(), 0i64..4_000_000_000_000, any::<(u64, bool)>()), 0..5),
        ) {
            let mut mark = Mark::at(Epoch(epoch));
            done.into_iter().for_each(|(first, length)| mark.settled.add(first, first + length));
            mark.replays = replays.into_iter().map(|(first, last, only_dead)| Replay { first, last, only_dead }).collect();
            mark.lent = lent.into_iter().map(|(offset, id, until, (consumer, is_taken))| Lent {
                offset, id: Uuid::from_u128(id), until: Timestamp::from_millis(until).unwrap(), consumer, is_taken,
            }).collect();
            let bytes = mark.encode();
            prop_assert_eq!(Mark::decode(&bytes), Some(mark));
        }

        #[test]
        fn any_bytes_are_a_mark_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Mark::decode(&bytes);
        }
    }
}
