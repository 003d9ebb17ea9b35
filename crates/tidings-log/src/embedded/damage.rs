//! Says what a damaged stretch of a segment held, as far as what surrounds it tells.

use super::entry::Entry;
use super::scan::SegmentBytes;
use std::collections::{BTreeMap, HashMap};

/// How many topics a message names.
const TOPICS_NAMED: usize = 8;

/// Events that are missing from one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub(super) id: u32,
    pub topic: String,
    pub first: u64,
    pub last: u64,
}

/// The events missing between `at` and `until`: those between a topic's tail before (`tails`: name and tail
/// by id) and its first event after.
pub fn missing(segment: &SegmentBytes, until: usize, tails: &HashMap<u32, (String, u64)>) -> Vec<Missing> {
    let mut names: HashMap<u32, (String, u64)> = tails.clone();
    let mut after: BTreeMap<u32, u64> = BTreeMap::new();
    for frame in segment.records(until) {
        for (_, entry) in segment.entries(&frame).flatten() {
            match entry {
                Entry::Event(event) => drop(after.entry(event.topic).or_insert(event.offset)),
                Entry::Topic { id, name, .. } => drop(names.entry(id).or_insert((name.to_owned(), 0))),
                _ => {}
            }
        }
    }
    let gap = |(id, first): (u32, u64)| {
        let (topic, tail) = names.get(&id)?;
        let hole = tail + 1 < first;
        hole.then(|| Missing { id, topic: topic.clone(), first: tail + 1, last: first - 1 })
    };
    after.into_iter().filter_map(gap).collect()
}

/// One line about a damaged stretch, for an error.
pub fn describe(
    segment: &SegmentBytes,
    at: usize,
    until: usize,
    tails: &HashMap<u32, (String, u64)>,
) -> String {
    let lost = missing(segment, until, tails);
    let mut text = format!("records are damaged up to byte {until}, {} bytes", until - at);
    for one in lost.iter().take(TOPICS_NAMED) {
        text += &format!("; topic {} lost offsets {} to {}", one.topic, one.first, one.last);
    }
    if lost.len() > TOPICS_NAMED {
        text += &format!("; and {} topics more", lost.len() - TOPICS_NAMED);
    }
    text
}
