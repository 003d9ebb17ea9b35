//! A body cut into lines, and lines gathered for a commit.
//!
//! Owns: the bound on a line, the count of lines, and what a line without an end means. Never: waits, or
//! knows where the parts come from.

use crate::refusal::Refusal;
use bytes::Bytes;
use tidings_model::{Code, NewEvent, Topic};

/// A commit is made no larger than this.
const BATCH_EVENTS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// What a line may have beside data and context.
const LINE_REST_BYTES: usize = 16 << 10;

/// Events for one commit.
pub struct Batch {
    events: Vec<NewEvent>,
    bytes: usize,
    events_max: usize,
}

impl Batch {
    /// For at most `events_max` events, and no more than make a good commit.
    pub fn new(events_max: usize) -> Self {
        Self { events: Vec::new(), bytes: 0, events_max: events_max.clamp(1, BATCH_EVENTS) }
    }

    pub fn is_full(&self) -> bool {
        self.events.len() >= self.events_max || self.bytes >= BATCH_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What was gathered; empty afterwards.
    pub fn take(&mut self) -> Vec<NewEvent> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}

/// The body cut into lines. A line within one part is a slice of it; only one that spans parts is copied.
pub struct Lines {
    part: Bytes,
    /// The beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    /// Lines read so far, blank ones too.
    number: u64,
    max: usize,
    is_ended: bool,
    last_topic: Option<Topic>,
}

impl Lines {
    /// Lines that hold an event of `event_bytes`.
    pub fn new(event_bytes: usize) -> Self {
        let max = event_bytes.saturating_add(LINE_REST_BYTES);
        Self { part: Bytes::new(), begun: Vec::new(), number: 0, max, is_ended: false, last_topic: None }
    }

    /// The next part of the body; the one before must have been used up.
    pub fn put(&mut self, part: Bytes) {
        self.part = part;
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// Whether [`Lines::end`] was called.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Parses lines into `batch` until it is full or there is no whole line left.
    pub fn fill(
        &mut self,
        batch: &mut Batch,
        mut parse: impl FnMut(&[u8], Option<&Topic>) -> Result<NewEvent, Refusal>,
    ) -> Result<(), Refusal> {
        while !batch.is_full() {
            let is_cut = self.is_ended && !self.begun.is_empty();
            let Some(line) = self.next()? else { return Ok(()) };
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let event = parse(text, self.last_topic.as_ref()).map_err(|mut refusal| {
                // The last line has no end: if it is no JSON either, the rest of it is missing.
                if is_cut && matches!(refusal.code, Code::JsonInvalid | Code::Utf8Invalid) {
                    refusal.code = Code::BodyIncomplete;
                }
                refusal.extra.retain(|(name, _)| *name != "index");
                refusal.with("line", self.number)
            })?;
            if self.last_topic.as_ref() != Some(&event.topic) {
                self.last_topic = Some(event.topic.clone());
            }
            batch.bytes += text.len();
            batch.events.push(event);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let end = memchr::memchr(b'\n', &self.part);
        let len = self.begun.len() + end.unwrap_or(self.part.len());
        if len > self.max {
            let detail = format!("a line has more than {} bytes", self.max);
            return Err(Refusal::new(Code::EventTooLarge, detail).with("line", self.number + 1));
        }
        let line = match end {
            Some(end) => {
                let line = self.part.split_to(end);
                let _ = self.part.split_to(1);
                line
            }
            None if self.is_ended && !self.begun.is_empty() => Bytes::new(),
            None => {
                let rest = std::mem::take(&mut self.part);
                self.begun.extend_from_slice(&rest);
                return Ok(None);
            }
        };
        self.number += 1;
        if self.begun.is_empty() {
            return Ok(Some(line));
        }
        self.begun.extend_from_slice(&line);
        Ok(Some(std::mem::take(&mut self.begun).into()))
    }
}
