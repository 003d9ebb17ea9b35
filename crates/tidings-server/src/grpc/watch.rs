//! One stream over gRPC: takes from its subscription what it lacks, at its client's pace.
//!
//! Owns: its end: with the token, with the rights, with the server. HTTP/2 holds it back when its client does not
//! read; then nothing is taken from the subscription, and the log has what comes next. Never: says what an item
//! looks like; that is [`Wire`]'s.

use super::status;
use crate::refusal::Refusal;
use crate::stream;
use crate::{Door, metrics};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::{Error, Item, Subscription};
use tidings_model::{Code, Cursor, Principal, Watcher};
use tidings_proto::Encoded;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

/// What a stream's items look like.
pub trait Wire: Send + 'static {
    /// Puts an item into messages and says how many events it held.
    fn encode(&mut self, subscription: &Subscription, item: Item, out: &mut VecDeque<Encoded>) -> u64;

    /// What is said when nothing but the position has moved.
    fn moved(&mut self, cursor: &Cursor) -> Option<Encoded>;
}

/// A stream's own state.
pub struct Watch<W> {
    door: Door,
    subscription: Subscription,
    who: Arc<Principal>,
    wire: W,
    out: VecDeque<Encoded>,
    /// Rung when something about the user changes.
    bell: Arc<Bell>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    beat: Pin<Box<Sleep>>,
    beat_every: Duration,
    sent: u64,
    is_over: bool,
    _open: metrics::Open,
}

#[derive(Default)]
struct Bell(Notify);

impl Watcher for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The messages of a stream.
pub type Messages = Pin<Box<dyn futures_util::Stream<Item = Result<Encoded, Status>> + Send>>;

impl<W: Wire> Watch<W> {
    /// The messages that `subscription` yields.
    pub fn open(door: &Door, subscription: Subscription, wire: W) -> Messages {
        let config = &door.config;
        let beat_every = Duration::from_millis(config.heartbeat_ms.min(config.ping_ms));
        let mut watch = Self {
            who: Arc::clone(subscription.principal()),
            wire,
            out: VecDeque::new(),
            bell: Arc::default(),
            stop: Box::pin(door.services.stop().clone().cancelled_owned()),
            beat: Box::pin(tokio::time::sleep(Duration::ZERO)),
            beat_every,
            sent: 0,
            is_over: false,
            _open: door.metrics.open_grpc(),
            door: door.clone(),
            subscription,
        };
        watch.watch_user();
        watch.next_beat();
        // A client that is cut off before its first event resumes from where the stream began.
        let begin = watch.subscription.cursor();
        if !begin.positions.is_empty() {
            watch.out.extend(watch.wire.moved(&begin));
        }
        // Boxed: it goes in and out with every message.
        Box::pin(futures_util::stream::unfold(Box::new(watch), |mut watch| async move {
            let next = watch.next().await?;
            Some((next, watch))
        }))
    }

    async fn next(&mut self) -> Option<Result<Encoded, Status>> {
        if let Some(message) = self.out.pop_front() {
            return Some(Ok(message));
        }
        if self.is_over {
            return None;
        }
        let next = self.item().await;
        self.is_over = next.is_err();
        Some(next)
    }

    async fn item(&mut self) -> Result<Encoded, Status> {
        loop {
            self.renew().await?;
            tokio::select! {
                biased;
                () = self.stop.as_mut() => return Err(draining()),
                () = self.bell.0.notified() => {}
                () = self.beat.as_mut() => self.look()?,
                item = self.subscription.next() => {
                    let item = item.map_err(status::of)?;
                    // Between being woken and taking, the rights may have gone.
                    self.renew().await?;
                    self.sent += self.wire.encode(&self.subscription, item, &mut self.out);
                }
            }
            if let Some(message) = self.out.pop_front() {
                return Ok(message);
            }
        }
    }

    /// Goes on with the caller's rights of now.
    async fn renew(&mut self) -> Result<(), Status> {
        if self.who.is_current() {
            return Ok(());
        }
        self.who = Box::pin(self.door.gate.renew(&self.who)).await.map_err(status::of)?;
        self.watch_user();
        match self.subscription.renew(Arc::clone(&self.who)).pop() {
            None => Ok(()),
            Some(topic) => Err(status::of(Error::MayNotSubscribe(topic))),
        }
    }

    fn watch_user(&self) {
        if let Some(session) = &self.who.session {
            session.lease.watch(&(Arc::clone(&self.bell) as Arc<dyn Watcher>));
        }
    }

    /// Looks whether the token has ended, and whether the position moved although nothing was sent.
    fn look(&mut self) -> Result<(), Status> {
        if !self.who.is_in_time(self.door.tidings.clock().now()) {
            return Err(status::of(Refusal::new(Code::TokenExpired, "the token has expired")));
        }
        self.next_beat();
        if let Some(cursor) = self.subscription.heartbeat() {
            self.out.extend(self.wire.moved(&cursor));
        }
        Ok(())
    }

    /// The next heartbeat, or the end of the token if that comes first.
    fn next_beat(&mut self) {
        let expires = stream::expiry(&self.who, self.door.tidings.clock().now());
        self.beat.as_mut().reset((Instant::now() + self.beat_every).min(expires));
    }
}

impl<W> Drop for Watch<W> {
    fn drop(&mut self) {
        self.door.metrics.delivered(self.sent);
    }
}

fn draining() -> Status {
    status::of(Refusal::new(Code::Draining, "the server is shutting down; resume at another or in a moment"))
}
