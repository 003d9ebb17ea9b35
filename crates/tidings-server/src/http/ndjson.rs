//! A stream of events, one JSON object on each line, of any length.
//!
//! Owns: handing lines over in commits while the next ones are read. Order: that of the lines. At most [`FLIGHT_MAX`] batches and one line are in memory; when the log is slower than
//! the client, the body is not read any further. Never: holds the whole body.

use super::body::Parts;
use super::lines::{Batch, Lines};
use super::reply;
use crate::Door;
use crate::refusal::Refusal;
use axum::response::Response;
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

/// Publishes all lines to `topic`.
///
/// After a refusal, everything before the line at fault is stored, and `accepted` says how much that is.
pub async fn publish(
    door: &Door,
    mut who: Arc<Principal>,
    topic: Topic,
    body: &mut Parts,
) -> Result<Response, Refusal> {
    let limits = door.tidings.limits();
    let mut lines = Lines::new(limits.event_bytes);
    let mut batch = Batch::new(limits.batch_events);
    let mut tally = Tally::default();
    let mut flight = FuturesOrdered::new();
    let mut events = 0;
    let stop = door.services.stop();
    // Reads until the end, or the first thing that cannot be taken.
    let fault = loop {
        if !who.is_current() {
            match door.gate.renew(&who).await {
                Ok(renewed) => who = renewed,
                Err(refused) => {
                    batch.take();
                    break Some(refused.into());
                }
            }
        }
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
            if stop.is_cancelled() {
                break Some(draining());
            }
            continue;
        }
        if lines.is_ended() {
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
                        // A stream without end would hold the shutdown up.
                        () = stop.cancelled() => break Err(draining()),
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

fn draining() -> Refusal {
    Refusal::new(Code::Draining, "the server is shutting down; go on after the last line accepted")
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
