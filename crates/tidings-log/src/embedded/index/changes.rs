//! What one batch changes in the index, and how its keys are written.

use super::super::entry::Entry;
use super::super::scan::{self, Place};
use super::Remembered;
use super::audience::{self, Run};
use std::collections::HashMap;
use tidings_model::{RecordWriter, Uuid};

pub(super) const DAY_MS: i64 = 86_400_000;

/// The newest change of a key wins: a batch must not hold a key twice.
#[derive(Default)]
pub(super) struct Changes {
    pub keys: Vec<Vec<u8>>,
    pub gone: Vec<Vec<u8>>,
    /// `None` takes the key out of State.
    pub state: HashMap<Vec<u8>, Option<InState>>,
    pub marks: HashMap<u32, Marks>,
    pub audience: Vec<(Vec<u8>, Vec<u8>)>,
    pub audience_gone: Vec<Vec<u8>>,
    pub runs: HashMap<u32, Run>,
    pub ids: HashMap<(i64, [u8; 20]), Remembered>,
    pub applied: Option<Place>,
}

/// The newest event of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InState {
    pub offset: u64,
    /// Readers find it by user.
    pub is_routed: bool,
}

/// What holds for State of a topic as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The newest event that State takes into account.
    pub newest: u64,
    /// What is older was emptied.
    pub floor: u64,
}

impl Marks {
    pub fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.newest.to_be_bytes());
        out[8..].copy_from_slice(&self.floor.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (newest, floor) = bytes.split_at_checked(8)?;
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        Some(Self { newest: number(newest)?, floor: number(floor)? })
    }

    pub fn max(self, other: Self) -> Self {
        Self { newest: self.newest.max(other.newest), floor: self.floor.max(other.floor) }
    }
}

impl Changes {
    pub fn entry(&mut self, entry: &Entry<'_>) {
        let Entry::Event(event) = entry else { return };
        let (id, id_given, key, deletes) = RecordWriter::peek(event.record);
        let routing = RecordWriter::routing(event.record);
        let truncates = RecordWriter::truncates(event.record);
        if let Some(key) = key {
            self.keys.push(keys_key(event.topic, key, event.offset));
            let newest = InState { offset: event.offset, is_routed: routing.is_some() };
            self.state.insert(state_key(event.topic, key), (!deletes).then_some(newest));
        }
        if key.is_some() || truncates {
            let marks = self.marks.entry(event.topic).or_default();
            marks.newest = event.offset;
            marks.floor = if truncates { event.offset } else { marks.floor };
        }
        if let Some(routing) = routing {
            self.audience.extend(audience::entries(event.topic, event.offset, routing, key));
            let run = self.runs.entry(event.topic).or_insert(Run::of(event.offset));
            *run = run.then(Run::of(event.offset));
        }
        if id_given {
            let time = scan::published_ms(event.record);
            let at = Remembered { offset: event.offset, time };
            self.ids.insert((time.div_euclid(DAY_MS), id_key(event.topic, id)), at);
        }
    }
}

pub(super) fn state_key(topic: u32, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len());
    out.extend_from_slice(&topic.to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out
}

/// Keys hold no control characters, so the zero byte ends them and no key is another's prefix.
pub(super) fn keys_key(topic: u32, key: &str, offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + key.len());
    out.extend_from_slice(&topic.to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.push(0);
    out.extend_from_slice(&offset.to_be_bytes());
    out
}

pub(super) fn id_key(topic: u32, id: Uuid) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&topic.to_be_bytes());
    out[4..].copy_from_slice(id.as_bytes());
    out
}

pub(super) fn last_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().expect("8 bytes"))
}
