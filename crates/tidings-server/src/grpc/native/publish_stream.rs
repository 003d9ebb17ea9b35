//! `PublishStream`: events without end, each request acknowledged when it is durable.
//!
//! Owns: gathering what is at hand into commits while the next requests are read. Order: that of the requests. At
//! most [`FLIGHT_MAX`] commits and one request are in memory; when the log is slower than the client, or the client
//! does not take its acknowledgements, nothing more is read. Never: stores a part of a request.

use super::event;
use super::publish::published;
use crate::Door;
use crate::grpc::status;
use crate::refusal::Refusal;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt as _, unfold};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tidings_engine::{Error, Receipt};
use tidings_model::{Code, Cursor, NewEvent, Position, Principal, Topic};
use tidings_proto::server::tidings::v1;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

/// Commits going on at the same time.
const FLIGHT_MAX: usize = 4;
/// A commit is made no larger than this, unless a single request is.
const BATCH_EVENTS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// What `PublishStream` answers.
pub type Acknowledgements = Pin<Box<dyn Stream<Item = Result<v1::PublishStreamResponse, Status>> + Send>>;

/// Publishes what `input` brings.
pub fn open(
    door: &Door,
    who: Arc<Principal>,
    input: Streaming<v1::PublishStreamRequest>,
) -> Acknowledgements {
    let session = Session {
        stop: Box::pin(door.services.stop().clone().cancelled_owned()),
        door: door.clone(),
        who,
        input,
        topic: None,
        batch: Batch::default(),
        flight: FuturesOrdered::new(),
        fault: None,
        is_ended: false,
        tally: Tally::default(),
    };
    Box::pin(unfold(session, |mut session| async move {
        let next = session.next().await?;
        Some((next, session))
    }))
}

/// One client's stream.
struct Session {
    door: Door,
    who: Arc<Principal>,
    input: Streaming<v1::PublishStreamRequest>,
    /// Where events go that name no topic.
    topic: Option<Topic>,
    batch: Batch,
    flight: FuturesOrdered<Pin<Box<dyn Future<Output = Commit> + Send>>>,
    /// Told when everything before it is acknowledged.
    fault: Option<Status>,
    is_ended: bool,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    tally: Tally,
}

/// Whole requests for one commit.
#[derive(Default)]
struct Batch {
    events: Vec<NewEvent>,
    bytes: usize,
    requests: u64,
    /// Of how many events receipts are asked for, from which on.
    receipts: Vec<std::ops::Range<usize>>,
}

/// A commit that has ended.
struct Commit {
    done: Result<Receipt, Error>,
    requests: u64,
    receipts: Vec<std::ops::Range<usize>>,
}

impl Session {
    async fn next(&mut self) -> Option<Result<v1::PublishStreamResponse, Status>> {
        loop {
            self.gather().await;
            if !self.batch.is_empty() && self.flight.len() < FLIGHT_MAX {
                self.hand_over();
                // Begun now, so that commits reach the log in order; what it answers is looked at below.
                if let Poll::Ready(Some(done)) =
                    poll_fn(|cx| Poll::Ready(self.flight.poll_next_unpin(cx))).await
                {
                    return Some(self.settle(done));
                }
            }
            if !self.takes() && self.batch.is_empty() && self.flight.is_empty() {
                self.is_ended = true;
                return self.fault.take().map(Err);
            }
            let takes = self.takes() && !self.batch.is_full();
            tokio::select! {
                biased;
                Some(done) = self.flight.next(), if !self.flight.is_empty() => return Some(self.settle(done)),
                message = self.input.message(), if takes => self.take_in(message).await,
                // A stream without end would hold the shutdown up.
                () = self.stop.as_mut(), if self.takes() => self.fault = Some(draining()),
            }
        }
    }

    /// Whether more requests are read.
    fn takes(&self) -> bool {
        self.fault.is_none() && !self.is_ended
    }

    /// Takes in what has arrived, without waiting.
    async fn gather(&mut self) {
        while self.takes() && !self.batch.is_full() {
            let Poll::Ready(next) = poll_fn(|cx| Poll::Ready(self.input.poll_next_unpin(cx))).await else {
                return;
            };
            self.take_in(next.transpose()).await;
        }
    }

    async fn take_in(&mut self, message: Result<Option<v1::PublishStreamRequest>, Status>) {
        match message {
            Ok(None) => self.is_ended = true,
            Err(cut) => self.fault = Some(cut),
            Ok(Some(request)) => {
                if let Err(refusal) = self.take(request).await {
                    self.fault = Some(refusal.into());
                }
            }
        }
    }

    async fn take(&mut self, request: v1::PublishStreamRequest) -> Result<(), Refusal> {
        if !self.who.is_in_time(self.door.tidings.clock().now()) || !self.who.is_current() {
            self.who = self.door.gate.renew(&self.who).await?;
        }
        if let Some(topic) = event::topic(&request.topic)? {
            self.topic = Some(topic);
        }
        let (found, max) = (request.events.len(), self.door.tidings.limits().batch_events);
        if found > max {
            let detail = format!("{found} events in one request, at most {max} are allowed");
            return Err(Refusal::new(Code::BatchTooLarge, detail));
        }
        let start = self.batch.events.len();
        for (index, event) in request.events.into_iter().enumerate() {
            let taken = event::read(event, self.topic.as_ref(), index).and_then(|event| {
                let previous = self.batch.events.last().map(|event| &event.topic);
                self.door.tidings.check(&self.who, &event, index, previous)?;
                Ok(event)
            });
            match taken {
                Ok(event) => {
                    self.batch.bytes += event.payload_bytes();
                    self.batch.events.push(event);
                }
                Err(refusal) => {
                    self.batch.events.truncate(start);
                    return Err(refusal);
                }
            }
        }
        if request.receipts {
            self.batch.receipts.push(start..self.batch.events.len());
        }
        self.batch.requests += 1;
        Ok(())
    }

    fn hand_over(&mut self) {
        let Batch { events, requests, receipts, .. } = std::mem::take(&mut self.batch);
        let (tidings, who) = (self.door.tidings.clone(), Arc::clone(&self.who));
        self.flight.push_back(Box::pin(async move {
            Commit { done: tidings.publish(&who, events).await, requests, receipts }
        }));
    }

    fn settle(&mut self, commit: Commit) -> Result<v1::PublishStreamResponse, Status> {
        let Commit { done, requests, receipts } = commit;
        let receipt = match done {
            Ok(receipt) => receipt,
            Err(error) => {
                // What was sent after it is not to be stored: it would stand before what failed.
                (self.is_ended, self.batch, self.flight) = (true, Batch::default(), FuturesOrdered::new());
                let mut status = status::of(error);
                status.metadata_mut().remove("tidings-index");
                return Err(status);
            }
        };
        self.tally.add(&receipt, requests);
        let wanted = receipts.into_iter().flat_map(|range| &receipt.events[range]);
        Ok(v1::PublishStreamResponse {
            requests: self.tally.requests,
            events: self.tally.events,
            cursor: self.tally.cursor.to_string(),
            receipts: wanted.map(published).collect(),
        })
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS || self.bytes >= BATCH_BYTES || self.requests >= BATCH_EVENTS as u64
    }

    fn is_empty(&self) -> bool {
        self.requests == 0
    }
}

/// What is acknowledged.
#[derive(Default)]
struct Tally {
    requests: u64,
    events: u64,
    /// After the newest event of each topic, of the topics last published to.
    cursor: Cursor,
}

impl Tally {
    fn add(&mut self, receipt: &Receipt, requests: u64) {
        self.requests += requests;
        self.events += receipt.events.len() as u64;
        for position in receipt.cursor().positions {
            let own = self.cursor.positions.iter_mut().find(|own| own.topic == position.topic);
            match own {
                Some(own) if own.epoch == position.epoch => own.offset = own.offset.max(position.offset),
                Some(own) => *own = position,
                None => self.remember(position),
            }
        }
    }

    fn remember(&mut self, position: Position) {
        if self.cursor.positions.len() == Cursor::TOPICS_MAX {
            self.cursor.positions.remove(0);
        }
        self.cursor.positions.push(position);
    }
}

fn draining() -> Status {
    let detail = "the server is shutting down; go on after the last request acknowledged";
    status::of(Refusal::new(Code::Draining, detail))
}
