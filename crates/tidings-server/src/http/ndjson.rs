//! A stream of events, one JSON object on each line, of any length.
//!
//! Owns: cutting the body into lines, and handing them over in commits while the next lines are read. Order:
//! that of the lines. At most [`FLIGHT_MAX`] batches and one line are in memory; when the log is slower than
//! the client, the body is not read any further. Never: holds the whole body.

use super::body::Parts;
use super::reply;
use crate::Door;
use crate::refusal::Refusal;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use http::StatusCode;
use serde_json::json;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use tidings_engine::{Error, Fate, Receipt};
use tidings_model::{Code, Cursor, NewEvent, Offset, Position, Principal, Topic};

/// Commits going on at the same time.
const FLIGHT_MAX: usize = 4;
/// A commit is made no larger than this.
const BATCH_EVENTS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// What a line may have beside data and context.
const LINE_REST_BYTES: usize = 16 << 10;

/// Publishes all lines to `topic`.
///
/// After a refusal, everything before the line at fault is stored, and `accepted` says how much that is.
pub async fn publish(
    door: &Door,
    who: Arc<Principal>,
    topic: Topic,
    body: &mut Parts,
) -> Result<Response, Refusal> {
    let limits = door.tidings.limits();
    let mut lines = Lines::new(limits.event_bytes.saturating_add(LINE_REST_BYTES));
    let mut batch = Batch::new(limits.batch_events.min(BATCH_EVENTS));
    let mut tally = Tally::default();
    let mut flight = FuturesOrdered::new();
    let mut events = 0;
    // Reads until the end, or the first thing that cannot be taken.
    let fault = loop {
        let taken = lines.fill(&mut batch, |line, previous| {
            let event = NewEvent::parse(line, &topic)?;
            door.tidings.check(&who, &event, events, previous)?;
            events += 1;
            Ok(event)
        });
        if let Err(fault) = taken {
            break Some(fault);
        }
        if batch.is_full() {
            if flight.len() == FLIGHT_MAX {
                tally.settle(flight.next().await)?;
            }
            flight.push_back(hand_over(door, &who, batch.take()));
            start(&mut flight, &mut tally).await?;
            continue;
        }
        if lines.is_ended {
            break None;
        }
        // What has arrived is taken; what is at hand goes before we wait for more.
        let part = {
            let mut next = std::pin::pin!(body.next());
            let ready = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
            if ready.is_pending() && !batch.is_empty() && flight.len() < FLIGHT_MAX {
                flight.push_back(hand_over(door, &who, batch.take()));
            }
            match ready {
                Poll::Ready(part) => part,
                Poll::Pending => loop {
                    tokio::select! {
                        biased;
                        Some(done) = flight.next(), if !flight.is_empty() => {
                            tally.settle(Some(done))?;
                            if !batch.is_empty() {
                                flight.push_back(hand_over(door, &who, batch.take()));
                            }
                        }
                        part = &mut next => break part,
                    }
                },
            }
        };
        match part {
            Ok(Some(part)) => lines.put(part),
            Ok(None) => lines.end(),
            Err(cut) => break Some(cut),
        }
    };
    if !batch.is_empty() {
        flight.push_back(hand_over(door, &who, batch.take()));
    }
    while let Some(done) = flight.next().await {
        tally.settle(Some(done))?;
    }
    match fault {
        None => Ok(reply::json(StatusCode::CREATED, tally.json())),
        Some(fault) => Err(fault.with("accepted", tally.accepted)),
    }
}

fn hand_over(
    door: &Door,
    who: &Arc<Principal>,
    events: Vec<NewEvent>,
) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
    let (tidings, who) = (door.tidings.clone(), Arc::clone(who));
    async move { tidings.publish(&who, events).await }
}

/// Lets the commits just pushed begin, in order, and others have their turn.
async fn start<F>(flight: &mut FuturesOrdered<F>, tally: &mut Tally) -> Result<(), Refusal>
where
    F: Future<Output = Result<Receipt, Error>>,
{
    if let Poll::Ready(done @ Some(_)) = poll_fn(|cx| Poll::Ready(flight.poll_next_unpin(cx))).await {
        tally.settle(done)?;
    }
    tokio::task::yield_now().await;
    Ok(())
}

/// Events for one commit.
struct Batch {
    events: Vec<NewEvent>,
    bytes: usize,
    events_max: usize,
}

impl Batch {
    fn new(events_max: usize) -> Self {
        Self { events: Vec::new(), bytes: 0, events_max: events_max.max(1) }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.events_max || self.bytes >= BATCH_BYTES
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn take(&mut self) -> Vec<NewEvent> {
        self.bytes = 0;
        std::mem::take(&mut self.events)
    }
}

/// The body cut into lines. A line within one part is a slice of it; only one that spans parts is copied.
struct Lines {
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
    fn new(max: usize) -> Self {
        Self { part: Bytes::new(), begun: Vec::new(), number: 0, max, is_ended: false, last_topic: None }
    }

    /// The next part of the body; the one before must have been used up.
    fn put(&mut self, part: Bytes) {
        self.part = part;
    }

    /// Nothing more comes.
    fn end(&mut self) {
        self.is_ended = true;
    }

    /// Parses lines into `batch` until it is full or there is no whole line left.
    fn fill(
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

/// What has been acknowledged.
#[derive(Default)]
struct Tally {
    accepted: u64,
    duplicates: u64,
    scheduled: u64,
    first: Option<Offset>,
    last: Option<Offset>,
    newest: Option<Position>,
}

impl Tally {
    fn settle(&mut self, done: Option<Result<Receipt, Error>>) -> Result<(), Refusal> {
        let Some(done) = done else { return Ok(()) };
        let receipt = done.map_err(|error| {
            let mut refusal = Refusal::from(error).with("accepted", self.accepted);
            refusal.extra.retain(|(name, _)| *name != "index");
            refusal
        })?;
        self.accepted += receipt.events.len() as u64;
        for event in &receipt.events {
            self.duplicates += u64::from(event.duplicate);
            match event.fate {
                Fate::Scheduled { .. } => self.scheduled += 1,
                Fate::Stored { offset, .. } if !event.duplicate => {
                    self.first.get_or_insert(offset);
                    self.last = Some(offset);
                }
                Fate::Stored { .. } => {}
            }
        }
        let newest = receipt.cursor().positions.pop();
        let is_newer = |p: &Position| {
            self.newest.as_ref().is_none_or(|own| own.offset < p.offset || own.epoch != p.epoch)
        };
        if let Some(position) = newest.filter(is_newer) {
            self.newest = Some(position);
        }
        Ok(())
    }

    fn json(self) -> String {
        let mut json = json!({
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "scheduled": self.scheduled,
            "cursor": self.newest.map_or_else(Cursor::default, Cursor::of).to_string(),
        });
        for (name, offset) in [("first", self.first), ("last", self.last)] {
            if let Some(offset) = offset {
                json[name] = json!({ "offset": offset.0 });
            }
        }
        json.to_string()
    }
}
