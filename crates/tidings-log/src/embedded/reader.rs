//! Reads events: from a topic and an offset to the bytes, checked one by one.
//!
//! Owns: what a reader gets to see. Never: returns an event that a crash could take back, or one whose bytes
//! do not match their checksum. Blocks on I/O: callers are on a thread that may.

use super::blocks::{Blocks, Window};
use super::catalog::{Catalog, Topic};
use super::entry::{EVENT_HEAD, EventHead};
use super::index::Index;
use super::segment::Holder;
use super::shelf::Shelf;
use super::side::Side;
use crate::{Error, Found, ReadMax, State};
use std::sync::Arc;
use tidings_model::{Event, Key, Offset, Timestamp};

/// Positions that are looked up at once.
const POSITIONS: usize = 1024;

/// Reads.
pub struct Reader {
    pub catalog: Arc<Catalog>,
    pub shelf: Arc<Shelf>,
    pub side: Arc<Side>,
    pub index: Arc<Index>,
    pub blocks: Blocks,
}

/// Events under a bound; the first always fits.
struct Page {
    events: Vec<Event>,
    bytes: usize,
    max: ReadMax,
}

impl Page {
    fn new(max: ReadMax) -> Self {
        Self { events: Vec::new(), bytes: 0, max }
    }

    /// `false` if the event does not fit: the page is full.
    fn push(&mut self, event: Event) -> bool {
        self.bytes += event.record().as_bytes().len();
        let fits = self.events.is_empty() || self.bytes <= self.max.bytes;
        if fits {
            self.events.push(event);
        }
        fits && !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.max.events.max(1) || self.bytes > self.max.bytes
    }
}

impl Reader {
    /// Consecutive events after `after`.
    ///
    /// Where a repair has left a hole, events up to it are returned, then `Trimmed` with the first offset
    /// behind it.
    pub fn read(&self, topic: &Topic, after: u64, max: ReadMax) -> Result<Vec<Event>, Error> {
        let tail = topic.tail();
        let mut page = Page::new(max);
        let mut next = after.saturating_add(1);
        while next <= tail && !page.is_full() {
            let oldest = topic.ends().oldest;
            let found = if next < oldest { None } else { self.shelf.find(topic.id, next)? };
            match found {
                Some((holder, offset)) if offset == next => {
                    self.run(topic, &holder, &mut next, tail, &mut page)?
                }
                _ if !page.events.is_empty() => break,
                found => {
                    // Whoever trimmed did so before cleaning, so the bounds tell why it is gone.
                    let oldest = topic.ends().oldest;
                    if self.catalog.by_id(topic.id).is_none() {
                        break;
                    }
                    let behind = found.map_or(tail + 1, |(_, offset)| offset);
                    let oldest = if next < oldest { oldest } else { behind };
                    return Err(trimmed(topic, next, oldest));
                }
            }
        }
        if next < topic.ends().oldest && page.events.is_empty() && self.catalog.by_id(topic.id).is_some() {
            return Err(trimmed(topic, next, topic.ends().oldest));
        }
        Ok(page.events)
    }

    /// Reads from one segment until it, the page or the run of offsets ends.
    fn run(
        &self,
        topic: &Topic,
        holder: &Holder,
        next: &mut u64,
        tail: u64,
        page: &mut Page,
    ) -> Result<(), Error> {
        let wanted = page.max.events.saturating_sub(page.events.len()).clamp(1, POSITIONS);
        let mut window = self.blocks.window(holder.source(), holder.end());
        for (offset, at) in holder.from(topic.id, *next, wanted) {
            if offset != *next
                || offset > tail
                || !page.push(self.event(topic, holder, &mut window, offset, at)?)
            {
                break;
            }
            *next += 1;
        }
        // The event that filled the page was not counted.
        *next = page.events.last().map_or(*next, |e| e.offset().0 + 1);
        Ok(())
    }

    fn event(
        &self,
        topic: &Topic,
        holder: &Holder,
        window: &mut Window<'_>,
        offset: u64,
        at: u32,
    ) -> Result<Event, Error> {
        let at = u64::from(at);
        let head = self.head(topic, holder, window, offset, at)?;
        let bytes = window.read(at + EVENT_HEAD as u64, head.len as usize).map_err(self.io(holder))?;
        if crc32c::crc32c(&bytes) != head.crc {
            return Err(self.damaged(topic, holder, offset, at));
        }
        Event::new(topic.name.clone(), topic.epoch, Offset(offset), bytes)
            .map_err(|_| self.damaged(topic, holder, offset, at))
    }

    fn head(
        &self,
        topic: &Topic,
        holder: &Holder,
        window: &mut Window<'_>,
        offset: u64,
        at: u64,
    ) -> Result<EventHead, Error> {
        let bytes = window.read(at, EVENT_HEAD).map_err(self.io(holder))?;
        EventHead::decode(&bytes)
            .filter(|head| {
                let end = at + (EVENT_HEAD as u64) + u64::from(head.len);
                head.topic == topic.id && head.offset == offset && end <= holder.end()
            })
            .ok_or_else(|| self.damaged(topic, holder, offset, at))
    }

    /// The text is made when there is an error: this stands before every event that is read.
    fn io(&self, holder: &Holder) -> impl FnOnce(std::io::Error) -> Error {
        |error| Error::io(format!("reading {}", self.shelf.segments.log(holder.number()).display()))(error)
    }

    fn damaged(&self, topic: &Topic, holder: &Holder, offset: u64, at: u64) -> Error {
        let path = self.shelf.segments.log(holder.number());
        Error::Corrupt { path, at, what: format!("offset {offset} of topic {} is damaged", topic.name) }
    }

    /// The events at `offsets` (ascending) that are kept, as `keep` decides about those before `oldest`.
    fn pick(
        &self,
        topic: &Topic,
        offsets: impl Iterator<Item = Result<u64, Error>>,
        max: ReadMax,
        keep: impl Fn(&Event) -> Result<bool, Error>,
    ) -> Result<Vec<Event>, Error> {
        Ok(self.pick_page(topic, offsets, max, keep)?.0)
    }

    /// As [`Reader::pick`], and whether all offsets were looked at.
    fn pick_page(
        &self,
        topic: &Topic,
        offsets: impl Iterator<Item = Result<u64, Error>>,
        max: ReadMax,
        keep: impl Fn(&Event) -> Result<bool, Error>,
    ) -> Result<(Vec<Event>, bool), Error> {
        let tail = topic.tail();
        let mut page = Page::new(max);
        let mut held: Option<Holder> = None;
        for offset in offsets {
            let offset = offset?;
            if offset == 0 || offset > tail {
                continue;
            }
            let is_here = |h: &Holder| h.view(topic.id, |view| view.get(offset));
            if held.as_ref().and_then(is_here).is_none() {
                held = self.shelf.find(topic.id, offset)?.map(|(holder, _)| holder);
            }
            let Some(holder) = &held else { continue };
            let Some(at) = is_here(holder) else { continue };
            let mut window = self.blocks.window(holder.source(), holder.end());
            let event = self.event(topic, holder, &mut window, offset, at)?;
            if (offset >= topic.ends().oldest || keep(&event)?) && !page.push(event) {
                return Ok((page.events, false));
            }
        }
        Ok((page.events, true))
    }

    /// The index must have applied what was committed when the caller asked.
    pub fn read_at(&self, topic: &Topic, offsets: &[Offset], max: ReadMax) -> Result<Vec<Event>, Error> {
        self.pick(topic, offsets.iter().map(|o| Ok(o.0)), max, |event| {
            let Some(key) = event.key() else { return Ok(false) };
            let newest = self.index.newest(topic.id, key)?;
            Ok(newest == Some(event.offset().0) && event.offset().0 >= topic.ends().state_floor)
        })
    }

    /// The index must have applied what was committed when the caller asked.
    pub fn read_key(&self, topic: &Topic, key: &Key, after: u64, max: ReadMax) -> Result<Vec<Event>, Error> {
        let from = after.saturating_add(1).max(topic.ends().oldest);
        let offsets = self.index.offsets(topic.id, key.as_str(), from)?;
        self.pick(topic, offsets, max, |_| Ok(false))
    }

    /// Up to `tail` the index must have applied everything.
    pub fn read_audience(
        &self,
        topic: &Topic,
        user: Option<&str>,
        after: u64,
        tail: u64,
        max: ReadMax,
    ) -> Result<Found, Error> {
        let next = after.saturating_add(1);
        let run = self.index.run(topic.id)?.filter(|run| next <= run.last.min(tail));
        let (mut events, is_through, last) = match run {
            Some(run) if next >= run.since => {
                let (oldest, last) = (topic.ends().oldest, run.last.min(tail));
                if next < oldest {
                    return Err(trimmed(topic, next, oldest));
                }
                let offsets = self.index.audience(topic.id, user, next)?;
                let offsets = offsets.take_while(|o| !matches!(o, Ok(offset) if *offset > last));
                let (events, is_through) = self.pick_page(topic, offsets, max, |_| Ok(false))?;
                (events, is_through, last)
            }
            // Not found by user: everything is, up to where the run begins.
            run => {
                let events = self.read(topic, after, max)?;
                let last = run.map_or(tail, |run| run.since - 1);
                (events, false, last)
            }
        };
        events.retain(|e| e.offset().0 <= last);
        let up_to = if is_through { last } else { events.last().map_or(last, |e| e.offset().0) };
        Ok(Found { events, up_to: Offset(up_to.max(after)) })
    }

    /// As [`Reader::state`] of a whole topic, as far as it concerns `user`.
    pub fn state_audience(&self, topic: &Topic, user: Option<&str>, tail: u64) -> Result<State, Error> {
        let found = self.index.state_of(topic.id, user, tail)?;
        let floor = topic.ends().state_floor;
        let offsets = found.offsets.into_iter().filter(|offset| *offset >= floor).map(Offset).collect();
        Ok(State { offsets, tail: Offset(tail.max(found.newest)) })
    }

    /// `tail` was the topic's before the index had applied everything up to it.
    pub fn state(&self, topic: &Topic, key: Option<&Key>, tail: u64) -> Result<State, Error> {
        let (mut offsets, newest) = match key {
            Some(key) => {
                let found = self.index.newest(topic.id, key.as_str())?;
                (Vec::from_iter(found), found.unwrap_or(0))
            }
            None => {
                let state = self.index.state(topic.id)?;
                (state.offsets, state.newest)
            }
        };
        let floor = topic.ends().state_floor;
        offsets.retain(|offset| *offset >= floor);
        Ok(State { offsets: offsets.into_iter().map(Offset).collect(), tail: Offset(tail.max(newest)) })
    }

    pub fn at_time(&self, topic: &Topic, at: Timestamp) -> Result<Offset, Error> {
        let oldest = topic.ends().oldest;
        let tail = topic.tail();
        for part in self.parts(topic)? {
            if part.last < oldest || part.last_time < at.as_millis() {
                continue;
            }
            let Some(holder) = self.holder(part.segment)? else { continue };
            let places = holder.from(topic.id, oldest, usize::MAX);
            let mut window = self.blocks.window(holder.source(), holder.end());
            let (mut low, mut high) = (0, places.len());
            while low < high {
                let middle = low + (high - low) / 2;
                let (offset, place) = places[middle];
                let event = self.event(topic, &holder, &mut window, offset, place)?;
                if event.published_at() < at { low = middle + 1 } else { high = middle }
            }
            if let Some((offset, _)) = places.get(low) {
                return Ok(Offset((offset - 1).min(tail).max(oldest - 1)));
            }
        }
        Ok(Offset(tail.max(oldest - 1)))
    }

    pub fn at_size(&self, topic: &Topic, bytes: u64) -> Result<Offset, Error> {
        let oldest = topic.ends().oldest;
        let mut left = bytes;
        let mut floor = topic.tail().max(oldest - 1);
        for part in self.parts(topic)?.into_iter().rev() {
            if part.last < oldest {
                break;
            }
            if part.first >= oldest && part.bytes <= left {
                left -= part.bytes;
                floor = part.first - 1;
                continue;
            }
            let Some(holder) = self.holder(part.segment)? else { break };
            let mut window = self.blocks.window(holder.source(), holder.end());
            for (offset, at) in holder.from(topic.id, oldest, usize::MAX).into_iter().rev() {
                let len = u64::from(self.head(topic, &holder, &mut window, offset, at.into())?.len);
                if len > left {
                    return Ok(Offset(floor));
                }
                left -= len;
                floor = offset - 1;
            }
        }
        Ok(Offset(floor))
    }

    fn holder(&self, segment: u32) -> Result<Option<Holder>, Error> {
        let open = self.shelf.opened().into_iter().find(|a| a.number == segment);
        match open {
            Some(active) => Ok(Some(Holder::Open(active))),
            None => Ok(self.shelf.load(segment)?.map(Holder::Sealed)),
        }
    }

    /// What each segment holds of the topic, in order.
    fn parts(&self, topic: &Topic) -> Result<Vec<super::side::SpanRow>, Error> {
        let open = self.shelf.opened();
        let mut parts = self.side.spans(topic.id)?;
        parts.retain(|part| open.iter().all(|a| a.number != part.segment));
        for active in open {
            let segment = active.number;
            let holder = Holder::Open(active);
            let ends = holder.view(topic.id, |view| view.first().zip(view.last()));
            let span = holder.span(topic.id);
            parts.extend(ends.map(|(first, last)| super::side::SpanRow {
                topic: topic.id,
                first,
                last,
                segment,
                first_time: span.first_time,
                last_time: span.last_time,
                bytes: span.bytes,
            }));
        }
        Ok(parts)
    }
}

fn trimmed(topic: &Topic, asked: u64, oldest: u64) -> Error {
    Error::Trimmed { topic: topic.name.clone(), asked: Offset(asked), oldest: Offset(oldest) }
}
