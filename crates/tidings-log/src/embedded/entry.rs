//! What a record's body says: one entry per change, in the order in which they apply.
//!
//! An entry is a tag byte and its fields; integers are little endian, texts and bytes have their length (4)
//! before them. An event's entry begins with 21 fixed bytes, so that a reader who knows its position can check
//! it alone: tag, topic id (4), offset (8), length (4), CRC-32C of the event's bytes (4).

use bytes::Bytes;
use std::ops::Range;
use tidings_model::Uuid;

/// Bytes of an event's entry before the event.
pub const EVENT_HEAD: usize = 21;

const EVENT: u8 = 1;
const TOPIC: u8 = 2;
const TOPIC_DROPPED: u8 = 3;
const DUE_PUT: u8 = 4;
const DUE_TAKEN: u8 = 5;
const MARK: u8 = 6;
const REGISTRY: u8 = 7;
const TRIM: u8 = 8;
const BEGIN: u8 = 9;
const LOST: u8 = 10;
/// The length that stands for "no value".
const NONE: u32 = u32::MAX;

/// One change, borrowed from the bytes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    Event(EventEntry<'a>),
    /// Names a topic; stands before its first event in each segment, so that segments explain themselves.
    Topic {
        id: u32,
        epoch: u32,
        name: &'a str,
    },
    TopicDropped {
        id: u32,
    },
    DuePut {
        id: Uuid,
        at: i64,
        topic: &'a str,
        owner: Option<&'a str>,
        record: &'a [u8],
    },
    DueTaken {
        id: Uuid,
    },
    Mark {
        name: &'a str,
        value: Option<&'a [u8]>,
    },
    Registry {
        kind: &'a str,
        key: &'a str,
        value: Option<&'a [u8]>,
    },
    Trim {
        topic: u32,
        oldest: u64,
        keep_state: bool,
    },
    /// The first record of a segment: where the one before ended.
    Begin {
        previous: u32,
        end: u64,
    },
    /// Fills the place of records that were damaged and set aside.
    Lost,
}

/// An event as it lies in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEntry<'a> {
    pub topic: u32,
    pub offset: u64,
    pub crc: u32,
    pub record: &'a [u8],
}

/// The fixed head of an event's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHead {
    pub topic: u32,
    pub offset: u64,
    pub len: u32,
    pub crc: u32,
}

impl EventHead {
    /// `None` where the bytes are not an event's entry.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        (take.byte()? == EVENT).then_some(())?;
        Some(Self { topic: take.u32()?, offset: take.u64()?, len: take.u32()?, crc: take.u32()? })
    }
}

/// Appends an event's entry.
pub fn put_event(out: &mut Vec<u8>, topic: u32, offset: u64, record: &[u8]) {
    let mut head = [0; EVENT_HEAD];
    head[0] = EVENT;
    head[1..5].copy_from_slice(&topic.to_le_bytes());
    head[5..13].copy_from_slice(&offset.to_le_bytes());
    head[13..17].copy_from_slice(&(record.len() as u32).to_le_bytes());
    head[17..].copy_from_slice(&crc32c::crc32c(record).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(record);
}

impl<'a> Entry<'a> {
    /// Appends this entry.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Event(event) => put_event(out, event.topic, event.offset, event.record),
            Entry::Topic { id, epoch, name } => {
                out.push(TOPIC);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&epoch.to_le_bytes());
                put_bytes(out, Some(name.as_bytes()));
            }
            Entry::TopicDropped { id } => {
                out.push(TOPIC_DROPPED);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Entry::DuePut { id, at, topic, owner, record } => {
                out.push(DUE_PUT);
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(&at.to_le_bytes());
                put_bytes(out, Some(topic.as_bytes()));
                put_bytes(out, owner.map(str::as_bytes));
                put_bytes(out, Some(record));
            }
            Entry::DueTaken { id } => {
                out.push(DUE_TAKEN);
                out.extend_from_slice(id.as_bytes());
            }
            Entry::Mark { name, value } => {
                out.push(MARK);
                put_bytes(out, Some(name.as_bytes()));
                put_bytes(out, *value);
            }
            Entry::Registry { kind, key, value } => {
                out.push(REGISTRY);
                put_bytes(out, Some(kind.as_bytes()));
                put_bytes(out, Some(key.as_bytes()));
                put_bytes(out, *value);
            }
            Entry::Trim { topic, oldest, keep_state } => {
                out.push(TRIM);
                out.extend_from_slice(&topic.to_le_bytes());
                out.extend_from_slice(&oldest.to_le_bytes());
                out.push(u8::from(*keep_state));
            }
            Entry::Begin { previous, end } => {
                out.push(BEGIN);
                out.extend_from_slice(&previous.to_le_bytes());
                out.extend_from_slice(&end.to_le_bytes());
            }
            Entry::Lost => out.push(LOST),
        }
    }

    /// Takes the entry at the front of `rest`; `None` where there is no valid one.
    fn take(rest: &mut Take<'a>) -> Option<Self> {
        Some(match rest.byte()? {
            EVENT => {
                let (topic, offset, len, crc) = (rest.u32()?, rest.u64()?, rest.u32()?, rest.u32()?);
                Entry::Event(EventEntry { topic, offset, crc, record: rest.bytes(len as usize)? })
            }
            TOPIC => Entry::Topic { id: rest.u32()?, epoch: rest.u32()?, name: rest.text()? },
            TOPIC_DROPPED => Entry::TopicDropped { id: rest.u32()? },
            DUE_PUT => Entry::DuePut {
                id: rest.uuid()?,
                at: rest.u64()? as i64,
                topic: rest.text()?,
                owner: match rest.value()? {
                    None => None,
                    Some(owner) => Some(std::str::from_utf8(owner).ok()?),
                },
                record: rest.value()??,
            },
            DUE_TAKEN => Entry::DueTaken { id: rest.uuid()? },
            MARK => Entry::Mark { name: rest.text()?, value: rest.value()? },
            REGISTRY => Entry::Registry { kind: rest.text()?, key: rest.text()?, value: rest.value()? },
            TRIM => Entry::Trim { topic: rest.u32()?, oldest: rest.u64()?, keep_state: rest.byte()? != 0 },
            BEGIN => Entry::Begin { previous: rest.u32()?, end: rest.u64()? },
            LOST => {
                rest.0 = &[];
                Entry::Lost
            }
            _ => return None,
        })
    }
}

/// The entries of a record's body, each with its place in `bytes`; `Err` holds where they stop making sense.
pub fn entries(bytes: &[u8], body: Range<usize>) -> impl Iterator<Item = Result<(usize, Entry<'_>), usize>> {
    let mut rest = Take(&bytes[body.clone()]);
    let mut failed = false;
    std::iter::from_fn(move || {
        if rest.0.is_empty() || failed {
            return None;
        }
        let at = body.end - rest.0.len();
        let entry = Entry::take(&mut rest);
        failed = entry.is_none();
        Some(entry.map(|e| (at, e)).ok_or(at))
    })
}

/// Appends a body of `len` bytes (at least 1) that says that what was here is lost.
pub fn filler(out: &mut Vec<u8>, len: usize) {
    Entry::Lost.put(out);
    out.resize(out.len() + len - 1, 0);
}

/// Whether an entry can begin with this byte.
pub fn is_tag(byte: u8) -> bool {
    (EVENT..=LOST).contains(&byte)
}

/// The event whose entry begins at `at` of `bytes`, without copying.
pub fn event_bytes(bytes: &Bytes, at: usize, len: usize) -> Bytes {
    bytes.slice(at + EVENT_HEAD..at + EVENT_HEAD + len)
}

fn put_bytes(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.extend_from_slice(&value.map_or(NONE, |v| v.len() as u32).to_le_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// Takes fields off the front.
struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn uuid(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.bytes(16)?).ok()
    }

    /// A field that may be absent.
    fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.u32()? {
            NONE => Some(None),
            len => Some(Some(self.bytes(len as usize)?)),
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.value()??).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_comes_back_and_a_cut_one_does_not() {
        let id = Uuid::from_u128(9);
        let all = [
            Entry::Event(EventEntry { topic: 1, offset: 2, crc: crc32c::crc32c(b"abc"), record: b"abc" }),
            Entry::Topic { id: 1, epoch: 7, name: "users" },
            Entry::TopicDropped { id: 3 },
            Entry::DuePut { id, at: -5, topic: "t", owner: None, record: b"r" },
            Entry::DuePut { id, at: 5, topic: "t", owner: Some("ann"), record: b"" },
            Entry::DueTaken { id },
            Entry::Mark { name: "m", value: Some(b"") },
            Entry::Mark { name: "m", value: None },
            Entry::Registry { kind: "k", key: "", value: Some(b"v") },
            Entry::Trim { topic: 1, oldest: 8, keep_state: true },
            Entry::Begin { previous: 4, end: 99 },
        ];
        let mut out = vec![0; 3];
        all.iter().for_each(|e| e.put(&mut out));
        let back: Vec<_> = entries(&out, 3..out.len()).map(|e| e.unwrap().1).collect();
        assert_eq!(back, all);
        assert_eq!(EventHead::decode(&out[3..]).unwrap().len, 3);
        assert!(entries(&out, 3..out.len() - 1).last().unwrap().is_err());
    }
}
