//! `N.idx`: where each topic's events lie in the closed segment `N.log`.
//!
//! Head (40 bytes): magic (8), the segment's salt (4), topics (4), runs (4), positions (4), end of the segment
//! (8), CRC-32C of everything else (4), zero (4). Then per topic, by id: id (4), first run (4), first position
//! (4), zero (4), bytes (8), first and last time (8, 8). Then runs: first offset (8), index (4), zero (4). Then
//! positions (4 each). A missing or foreign sidecar is no loss: it is made again from the segment.

use super::positions::{Positions, Run, Span, View};
use std::collections::BTreeMap;

const MAGIC: [u8; 8] = *b"TIDIDX\x00\x01";
const HEAD: usize = 40;
const CRC_AT: usize = 32;
const TOPIC: usize = 40;
const RUN: usize = 16;

/// A closed segment's positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Of the segment this belongs to.
    pub salt: u32,
    /// Where that segment ends.
    pub end: u64,
    /// By id.
    topics: Vec<TopicRow>,
    runs: Vec<Run>,
    at: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct TopicRow {
    id: u32,
    run: u32,
    at: u32,
    span: Span,
}

impl Sidecar {
    pub fn new<'a>(salt: u32, end: u64, topics: impl IntoIterator<Item = (u32, &'a Positions)>) -> Self {
        let sorted: BTreeMap<u32, &Positions> = topics.into_iter().collect();
        let mut out = Self { salt, end, topics: Vec::new(), runs: Vec::new(), at: Vec::new() };
        for (id, positions) in sorted {
            let view = positions.view();
            let row =
                TopicRow { id, run: out.runs.len() as u32, at: out.at.len() as u32, span: positions.span };
            out.topics.push(row);
            out.runs.extend_from_slice(view.runs);
            out.at.extend_from_slice(view.at);
        }
        out
    }

    /// The topic's events; empty where it has none here.
    pub fn view(&self, topic: u32) -> View<'_> {
        match self.topics.binary_search_by_key(&topic, |row| row.id) {
            Ok(i) => self.view_of(i),
            Err(_) => View { runs: &[], at: &[] },
        }
    }

    pub fn span(&self, topic: u32) -> Span {
        self.topics
            .binary_search_by_key(&topic, |row| row.id)
            .map_or(Span::default(), |i| self.topics[i].span)
    }

    /// Every topic, by id.
    pub fn topics(&self) -> impl Iterator<Item = (u32, Span, View<'_>)> {
        self.topics.iter().enumerate().map(|(i, row)| (row.id, row.span, self.view_of(i)))
    }

    fn view_of(&self, i: usize) -> View<'_> {
        let row = &self.topics[i];
        let next = self.topics.get(i + 1);
        let run_end = next.map_or(self.runs.len(), |n| n.run as usize);
        let at_end = next.map_or(self.at.len(), |n| n.at as usize);
        View { runs: &self.runs[row.run as usize..run_end], at: &self.at[row.at as usize..at_end] }
    }

    /// Bytes this takes in memory, about.
    pub fn weight(&self) -> usize {
        self.topics.len() * TOPIC + self.runs.len() * RUN + self.at.len() * 4 + 256
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.weight());
        out.extend_from_slice(&MAGIC);
        for n in [self.salt, self.topics.len() as u32, self.runs.len() as u32, self.at.len() as u32] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        for row in &self.topics {
            for n in [row.id, row.run, row.at, 0] {
                out.extend_from_slice(&n.to_le_bytes());
            }
            out.extend_from_slice(&row.span.bytes.to_le_bytes());
            out.extend_from_slice(&row.span.first_time.to_le_bytes());
            out.extend_from_slice(&row.span.last_time.to_le_bytes());
        }
        for run in &self.runs {
            out.extend_from_slice(&run.first.to_le_bytes());
            out.extend_from_slice(&run.index.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        self.at.iter().for_each(|at| out.extend_from_slice(&at.to_le_bytes()));
        let crc = checksum(&out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` where the bytes are not a whole, undamaged sidecar.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEAD || bytes[..8] != MAGIC || checksum(bytes) != u32_at(bytes, CRC_AT) {
            return None;
        }
        let count = |at| u32_at(bytes, at) as usize;
        let (topics, runs, at) = (count(12), count(16), count(20));
        let (topics, rest) = bytes[HEAD..].split_at_checked(topics.checked_mul(TOPIC)?)?;
        let (runs, at_bytes) = rest.split_at_checked(runs.checked_mul(RUN)?)?;
        (at_bytes.len() == at.checked_mul(4)?).then_some(())?;
        let topic = |row: &[u8]| TopicRow {
            id: u32_at(row, 0),
            run: u32_at(row, 4),
            at: u32_at(row, 8),
            span: Span {
                bytes: u64_at(row, 16),
                first_time: u64_at(row, 24) as i64,
                last_time: u64_at(row, 32) as i64,
            },
        };
        Some(Self {
            salt: u32_at(bytes, 8),
            end: u64_at(bytes, 24),
            topics: topics.chunks_exact(TOPIC).map(topic).collect(),
            runs: runs
                .chunks_exact(RUN)
                .map(|run| Run { first: u64_at(run, 0), index: u32_at(run, 8) })
                .collect(),
            at: at_bytes.chunks_exact(4).map(|at| u32_at(at, 0)).collect(),
        })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &bytes[CRC_AT + 4..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_comes_back_and_a_damaged_one_does_not() {
        let mut topics = BTreeMap::<u32, Positions>::new();
        for (topic, offset) in [(7, 1), (2, 5), (7, 2), (7, 9), (2, 6)] {
            topics.entry(topic).or_default().push(offset, offset as u32 * 10 + topic, 3, 1);
        }
        let sidecar = Sidecar::new(5, 1000, topics.iter().map(|(id, p)| (*id, p)));
        let bytes = sidecar.encode();
        assert_eq!(Sidecar::decode(&bytes).as_ref(), Some(&sidecar));
        assert_eq!(sidecar.view(7).get(9), Some(97));
        assert_eq!(sidecar.view(2).get(6), Some(62));
        assert_eq!(sidecar.view(2).last(), Some(6));
        assert_eq!(sidecar.view(3).first(), None);
        assert_eq!(sidecar.span(7).bytes, 9);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Sidecar::decode(&damaged), None, "byte {at}");
        }
    }
}
