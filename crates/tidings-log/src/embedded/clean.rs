//! Gives back the space of what is no longer kept.
//!
//! A closed segment goes when nothing in it is kept, and is rewritten, under its own number, when little is.
//! Kept are events from their topic's oldest on; older ones that are the newest of their key, unless the topic
//! was trimmed without State; and deletions, while an older segment may still hold what they delete: else an
//! index that is built again would bring it back. What goes leaves the index, too.
//!
//! Never: touches a segment before what the side store and the index took from it survives a power cut.

use super::catalog::{Catalog, Ends};
use super::entry::{Entry, EventEntry};
use super::frame::{self, Head};
use super::home;
use super::index::Index;
use super::news::{Forgotten, News};
use super::positions::Positions;
use super::scan::{SegmentBytes, Tail, published_ms};
use super::shelf::Shelf;
use super::side::{Side, SpanRow};
use super::sidecar::Sidecar;
use crate::Error;
use std::collections::HashMap;
use std::sync::Arc;
use tidings_model::RecordWriter;

/// A segment is rewritten when less than this part of its bytes is kept.
const KEPT_PERCENT: u64 = 30;
/// A segment that held too much State to be rewritten is looked at again after so many further segments.
const LOOK_AGAIN: u32 = 8;
/// Bytes of events per record of a rewritten segment.
const RECORD_BYTES: usize = 1 << 20;

/// What cleaning works with.
pub struct Cleaner {
    pub catalog: Arc<Catalog>,
    pub shelf: Arc<Shelf>,
    pub side: Arc<Side>,
    pub index: Arc<Index>,
    /// Segments that were looked at in vain: the estimate then, and the newest segment of that time.
    pub looked_at: HashMap<u32, (Estimate, u32)>,
}

/// What a segment may hold, judged by offsets alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    bytes: u64,
    /// Bytes of events that are kept for certain.
    kept: u64,
    /// Bytes of older events, of which some may be kept as State.
    perhaps: u64,
}

impl Estimate {
    fn add(&mut self, span: &SpanRow, ends: Option<Ends>) {
        self.bytes += span.bytes;
        let Some(ends) = ends else { return };
        let all = span.last - span.first + 1;
        let kept = (span.last + 1).saturating_sub(ends.oldest.max(span.first));
        let kept_bytes = (u128::from(span.bytes) * u128::from(kept) / u128::from(all)) as u64;
        self.kept += kept_bytes;
        if span.first < ends.oldest && span.last >= ends.state_floor {
            self.perhaps += span.bytes - kept_bytes;
        }
    }

    fn is_worth_a_look(&self) -> bool {
        self.bytes == 0 || self.kept * 100 < self.bytes * KEPT_PERCENT
    }
}

impl Cleaner {
    /// Looks through all closed segments.
    pub fn clean(&mut self) -> Result<(), Error> {
        let newest = self.shelf.active().number;
        let open = self.shelf.opened();
        let mut candidates = Vec::new();
        for (number, _) in self.side.sealed()? {
            let mut estimate = Estimate::default();
            for span in self.side.spans_in(number)? {
                estimate.add(&span, self.catalog.by_id(span.topic).map(|topic| topic.ends()));
            }
            let in_vain = self.looked_at.get(&number).is_some_and(|(known, at)| {
                *known == estimate && (estimate.perhaps == 0 || newest < at + LOOK_AGAIN)
            });
            if estimate.is_worth_a_look() && !in_vain && open.iter().all(|a| a.number != number) {
                candidates.push((number, estimate));
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        self.index.feed.wait_blocking(1)?;
        let applied = self.side.persist()?.min(self.index.persist()?);
        for (number, estimate) in candidates {
            if number >= applied.segment {
                break;
            }
            match self.segment(number) {
                Ok(true) => drop(self.looked_at.remove(&number)),
                Ok(false) => drop(self.looked_at.insert(number, (estimate, newest))),
                Err(e @ Error::Corrupt { .. }) => {
                    tracing::error!(segment = number, error = %e, "a damaged segment is not cleaned");
                    self.looked_at.insert(number, (estimate, u32::MAX - LOOK_AGAIN));
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Removes or rewrites a segment; `false` if too much of it is kept.
    fn segment(&self, number: u32) -> Result<bool, Error> {
        let path = self.shelf.segments.log(number);
        let segment = SegmentBytes::load(&path)?;
        let mut rewritten = Rewritten::new(number);
        let mut gone = Vec::new();
        let mut end = frame::HEAD;
        for frame in segment.records(frame::HEAD) {
            for (_, entry) in segment.entries(&frame).flatten() {
                match entry {
                    Entry::Topic { id, epoch, name } => rewritten.topic(id, epoch, name),
                    Entry::Event(event) if self.is_kept(number, &event)? => rewritten.event(&event),
                    Entry::Event(event) => gone.extend(Forgotten::of(&event)),
                    _ => {}
                }
            }
            end = frame.body.end;
        }
        if segment.tail(end) != Tail::Clean {
            let what = "an invalid record".to_owned();
            return Err(Error::Corrupt { path, at: end as u64, what });
        }
        if rewritten.events == 0 {
            self.remove(number)?;
        } else if (rewritten.bytes.len() as u64) * 100 < segment.len() * KEPT_PERCENT {
            self.replace(number, rewritten)?;
        } else {
            return Ok(false);
        }
        let weight = gone.iter().map(Forgotten::weight).sum();
        if weight > 0 {
            self.index.feed.push(News::Forgotten(Arc::new(gone)), weight);
        }
        Ok(true)
    }

    fn is_kept(&self, number: u32, event: &EventEntry<'_>) -> Result<bool, Error> {
        let Some(topic) = self.catalog.by_id(event.topic) else { return Ok(false) };
        let ends = topic.ends();
        if event.offset >= ends.oldest {
            return Ok(true);
        }
        let (_, _, key, deletes) = RecordWriter::peek(event.record);
        let truncates = RecordWriter::truncates(event.record);
        if (deletes && event.offset >= ends.state_floor) || truncates {
            // What it took out of State may still lie before it, and an index that is built again reads that.
            return Ok(self.side.spans(topic.id)?.first().is_some_and(|span| span.segment < number));
        }
        let Some(key) = key.filter(|_| event.offset >= ends.state_floor) else { return Ok(false) };
        Ok(self.index.newest(topic.id, key)? == Some(event.offset))
    }

    fn remove(&self, number: u32) -> Result<(), Error> {
        let segments = &self.shelf.segments;
        segments.remove(number).and_then(|()| segments.sync()).map_err(Error::io("removing a segment"))?;
        self.shelf.forget(number);
        self.side.feed.wait_blocking(self.side.feed.push(News::Removed { number }, 64))
    }

    /// After a crash in between, the side store's rows promise more than the segment holds: only events
    /// that nobody may ask for.
    fn replace(&self, number: u32, rewritten: Rewritten) -> Result<(), Error> {
        let segments = &self.shelf.segments;
        let (bytes, sidecar) = rewritten.finish();
        home::replace(&segments.log(number), &bytes)
            .and_then(|()| home::replace(&segments.sidecar(number), &sidecar.encode()))
            .and_then(|()| segments.sync())
            .map_err(Error::io("rewriting a segment"))?;
        self.shelf.forget(number);
        let weight = sidecar.weight();
        let news = News::Rewritten { number, sidecar: Arc::new(sidecar) };
        self.side.feed.wait_blocking(self.side.feed.push(news, weight))
    }
}

/// A segment's new content.
struct Rewritten {
    head: Head,
    bytes: Vec<u8>,
    /// Where the record that is being filled began.
    record: Option<usize>,
    /// Names that stand before a topic's first event; taken out once written.
    names: HashMap<u32, (u32, String)>,
    positions: HashMap<u32, Positions>,
    events: usize,
}

impl Rewritten {
    fn new(number: u32) -> Self {
        let head = Head::new(number, true);
        let bytes = head.encode().to_vec();
        Self { head, bytes, record: None, names: HashMap::new(), positions: HashMap::new(), events: 0 }
    }

    fn topic(&mut self, id: u32, epoch: u32, name: &str) {
        if !self.positions.contains_key(&id) {
            self.names.insert(id, (epoch, name.to_owned()));
        }
    }

    fn event(&mut self, event: &EventEntry<'_>) {
        let start = *self.record.get_or_insert_with(|| frame::begin(&mut self.bytes));
        if let Some((epoch, name)) = self.names.remove(&event.topic) {
            Entry::Topic { id: event.topic, epoch, name: &name }.put(&mut self.bytes);
        }
        let at = self.bytes.len() as u32;
        Entry::Event(event.clone()).put(&mut self.bytes);
        let (len, time) = (event.record.len() as u32, published_ms(event.record));
        self.positions.entry(event.topic).or_default().push(event.offset, at, len, time);
        self.events += 1;
        if self.bytes.len() - start > RECORD_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if let Some(start) = self.record.take() {
            frame::seal(&mut self.bytes, start, start, self.head.salt);
        }
    }

    fn finish(mut self) -> (Vec<u8>, Sidecar) {
        self.seal();
        let topics = self.positions.iter().map(|(id, positions)| (*id, positions));
        let sidecar = Sidecar::new(self.head.salt, self.bytes.len() as u64, topics);
        (self.bytes, sidecar)
    }
}
