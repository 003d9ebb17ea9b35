//! What the dispatcher has others do: read, send, commit. Each errand ends with one message.
//!
//! Owns: the errands. Never: decides anything.

use super::attempt::{Attempt, Delivery, DeliveryId, KIND, Status};
use super::courier::{Answer, Courier};
use super::destination::{Destination, Policy};
use super::destinations::Destinations;
use super::line::LineKey;
use super::mark::{Mark, Replay};
use super::runner::Landed;
use super::{backoff, forward, message};
use crate::{Error, Page, Tidings};
use std::sync::Arc;
use std::time::Instant;
use tidings_log::{Batch, ReadMax};
use tidings_model::{Event, Filter, Offset, Principal, Timestamp, Uuid};
use tokio::sync::oneshot;

/// What an errand, or somebody at the door, says.
pub enum Message {
    /// Where a destination stands, its deliveries that are not through, and how many are dead.
    Restored(Uuid, Result<(Mark, Vec<Delivery>, usize), Error>),
    Read(From, Result<Page, Error>),
    ReadAgain(From, Result<Again, Error>),
    Loaded(From, LineKey, Vec<u64>, Result<Vec<Event>, Error>),
    Landed(From, LineKey, Event, Landed),
    Copied(From, Result<(Mark, bool), Error>),
    /// The batch comes back if it was not taken.
    Committed(Option<Box<Batch>>, Vec<Uuid>),
    /// An admin wants something sent again; answered once that is durable, `false` if there is too much to do.
    Replay(Uuid, Replay, oneshot::Sender<bool>),
}

/// Which destination, in which of its lives: what an earlier one has asked for is of no use to the next.
#[derive(Debug, Clone, Copy)]
pub struct From {
    pub id: Uuid,
    pub life: u64,
}

/// What was found to be replayed.
pub struct Again {
    pub events: Vec<Event>,
    pub records: Vec<Delivery>,
    pub up_to: u64,
}

/// Bytes of events that are read at once for one destination.
const READ_BYTES: usize = 256 << 10;

impl Destinations {
    /// Where a destination stands.
    pub(super) async fn restore(self, id: Uuid) -> Result<(Mark, Vec<Delivery>, usize), Error> {
        // At the start all destinations come at once.
        let _permit = self.0.reading().await?;
        let mark = self.stored_mark(id).await?;
        let mut open = self.records(id, 0, u64::MAX, usize::MAX).await?;
        let dead = open.iter().filter(|delivery| delivery.status == Status::Dead).count();
        open.retain(|delivery| delivery.status == Status::Waiting || !mark.settled.contains(delivery.offset));
        Ok((mark, open, dead))
    }

    /// Up to `max` records of a destination's deliveries with these offsets, ascending.
    pub(super) async fn records(
        &self,
        id: Uuid,
        first: u64,
        last: u64,
        max: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let mut found = Vec::new();
        let mut after = match first {
            0 => format!("{id}/"),
            first => DeliveryId { destination: id, offset: first - 1 }.key(),
        };
        while found.len() < max {
            let page = self.0.log().registry_page(KIND, Some(&after), 256.min(max - found.len())).await?;
            let Some((key, _)) = page.last() else { break };
            after = key.clone();
            for (key, bytes) in page {
                match DeliveryId::of_key(&key) {
                    Some(own) if own.destination == id && own.offset <= last => {
                        found.extend(Delivery::parse(&bytes))
                    }
                    _ => return Ok(found),
                }
            }
        }
        Ok(found)
    }

    /// Forgets everything about a destination that is gone.
    pub(super) async fn forget_all(&self, id: Uuid) -> Result<(), Error> {
        self.0.log().commit(Batch { marks: vec![Mark::removed(id)], ..Batch::default() }).await?;
        self.forget_records(id).await
    }

    /// Forgets all deliveries of a destination.
    pub(super) async fn forget_records(&self, id: Uuid) -> Result<(), Error> {
        loop {
            let records = self.records(id, 0, u64::MAX, 256).await?;
            if records.is_empty() {
                return Ok(());
            }
            let registry = records.iter().map(|delivery| delivery.id().removal()).collect();
            self.0.log().commit(Batch { registry, ..Batch::default() }).await?;
        }
    }

    /// Forgets the oldest dead deliveries of a destination.
    pub(super) async fn forget_oldest(&self, id: Uuid, count: usize) -> Result<(), Error> {
        let records = self.records(id, 0, u64::MAX, usize::MAX).await?;
        let dead = records.iter().filter(|delivery| delivery.status == Status::Dead).take(count);
        let registry = dead.map(|delivery| delivery.id().removal()).collect();
        self.0.log().commit(Batch { registry, ..Batch::default() }).await?;
        Ok(())
    }
}

/// Reads on in a destination's topic.
pub async fn read(tidings: &Tidings, own: &Destination, after: u64, max: usize) -> Result<Page, Error> {
    let max = ReadMax { events: max, bytes: READ_BYTES };
    tidings.read_within(&Principal::admin(), &own.topic, Offset(after), max, &own.filter).await
}

/// Reads these events again, at least the first that is kept. What lies behind the last one that was read may be
/// there all the same.
pub async fn load(tidings: &Tidings, own: &Destination, offsets: &[u64]) -> Result<Vec<Event>, Error> {
    let all: Vec<Offset> = offsets.iter().copied().map(Offset).collect();
    let max = ReadMax { events: all.len(), bytes: READ_BYTES };
    Ok(tidings.log().read_at(&own.topic.name, &all, max).await?)
}

/// Reads what is to be replayed.
pub async fn read_again(
    tidings: &Tidings,
    own: &Destination,
    replay: Replay,
    max: usize,
) -> Result<Again, Error> {
    let Replay { first, last, only_dead } = replay;
    let destinations = tidings.destinations();
    if only_dead {
        let mut records = destinations.records(own.id, first, last, max).await?;
        let mut up_to =
            records.last().filter(|_| records.len() == max).map_or(last, |delivery| delivery.offset);
        records.retain(|delivery| delivery.status != Status::Delivered);
        let offsets: Vec<u64> = records.iter().map(|delivery| delivery.offset).collect();
        let events = load(tidings, own, &offsets).await?;
        if let (Some(read), Some(asked)) = (events.last(), offsets.last())
            && read.offset().0 < *asked
        {
            up_to = read.offset().0;
        }
        return Ok(Again { events, records, up_to });
    }
    // What is named alone is sent whatever the filter says by now.
    let filter =
        if first == last { Filter::default().with_key(own.topic.key.clone()) } else { own.filter.clone() };
    let max = ReadMax { events: max, bytes: READ_BYTES };
    let after = Offset(first.saturating_sub(1));
    let page = tidings.read_within(&Principal::admin(), &own.topic, after, max, &filter).await?;
    let mut events = page.events;
    events.retain(|event| event.offset().0 <= last);
    let up_to = if page.after >= page.bounds.tail { last } else { page.after.0.min(last) };
    let records = match (events.first(), events.last()) {
        (Some(from), Some(to)) => {
            destinations.records(own.id, from.offset().0, to.offset().0, usize::MAX).await?
        }
        _ => Vec::new(),
    };
    Ok(Again { events, records, up_to })
}

/// Sends an event once.
pub async fn send(
    tidings: Tidings,
    courier: Arc<dyn Courier>,
    own: Arc<Destination>,
    policy: Policy,
    event: &Event,
) -> Landed {
    let (at, begun) = (tidings.clock().now(), Instant::now());
    let request = message::request(&own, &policy, event, at);
    let answer = courier.send(request).await;
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    landed(answer, at, duration_ms, tidings.clock().now())
}

fn landed(answer: Answer, at: Timestamp, duration_ms: u64, now: Timestamp) -> Landed {
    let attempt = Attempt { at, duration_ms, status: None, answer: None, error: None };
    match answer {
        Answer::Failed(why) => Landed::Failed(Attempt { error: Some(why), ..attempt }, None),
        Answer::Status { status, retry_after, body } => {
            let text = String::from_utf8_lossy(&body);
            let answer = (!text.is_empty()).then(|| text.as_ref().into());
            let attempt = Attempt { status: Some(status), answer, ..attempt };
            match status {
                200..=299 => Landed::Delivered(attempt),
                410 => Landed::Gone(attempt),
                _ => {
                    Landed::Failed(attempt, retry_after.and_then(|text| backoff::retry_after_ms(&text, now)))
                }
            }
        }
    }
}

/// Copies on.
pub async fn copy(tidings: &Tidings, own: &Destination, mark: Mark) -> Result<(Mark, bool), Error> {
    forward::step(tidings, own, mark).await
}
