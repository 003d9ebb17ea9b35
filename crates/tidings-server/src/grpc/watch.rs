//! One stream over gRPC: takes from its subscription what it lacks, at its client's pace.
//!
//! Owns: its end: with the token, with the rights, with the server. HTTP/2 holds it back when its client does not
//! read; then nothing is taken from the subscription, and the log has what comes next. Never: says what an item
//! looks like; that is [`Wire`]'s.

use super::status;
use crate::coarse::together;
use crate::refusal::Refusal;
use crate::stream;
use crate::{Door, metrics};
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidings_engine::{Error, Item, Step, Subscription};
use tidings_model::{Code, Cursor, Principal, Watcher};
use tidings_proto::Encoded;
use tokio::sync::Notify;
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
    /// What there is to hear beside events; each asked only when it has something to say.
    besides: FuturesUnordered<Pin<Box<dyn Future<Output = Beside> + Send>>>,
    beat_every: Duration,
    sent: u64,
    _open: metrics::Open,
}

/// What a stream hears beside events.
enum Beside {
    /// The server stops.
    Stop,
    /// Something about the user has changed.
    Bell,
    /// It is time for a heartbeat, or the token has ended.
    Beat,
}

#[derive(Default)]
struct Bell(Notify);

impl Watcher for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// The messages of a stream.
pub struct Messages<W>(State<W>);

impl<W> Messages<W> {
    /// A message that needs no looking for.
    pub fn at_hand(&mut self) -> Option<Encoded> {
        match &mut self.0 {
            State::AtHand(watch) => watch.out.pop_front(),
            State::Asking(_) | State::Over => None,
        }
    }
}

enum State<W> {
    /// The next message comes from what is at hand.
    AtHand(Box<Watch<W>>),
    /// It has to be read from the log, or the caller's rights have to be asked for.
    Asking(Asking<W>),
    Over,
}

/// Gives the stream's state back when it is done.
type Asking<W> = Pin<Box<dyn Future<Output = Result<Box<Watch<W>>, Status>> + Send>>;

impl<W: Wire> futures_util::Stream for Messages<W> {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Over, unless what follows says something else.
            self.0 = match std::mem::replace(&mut self.0, State::Over) {
                State::AtHand(mut watch) => match watch.poll_at_hand(cx) {
                    Poll::Ready(Ok(None)) => State::Asking(Box::pin(watch.ask())),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                    found => {
                        self.0 = State::AtHand(watch);
                        return found.map(Result::transpose);
                    }
                },
                State::Asking(mut asking) => match asking.as_mut().poll(cx) {
                    Poll::Ready(Ok(watch)) => State::AtHand(watch),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                    Poll::Pending => {
                        self.0 = State::Asking(asking);
                        return Poll::Pending;
                    }
                },
                State::Over => return Poll::Ready(None),
            };
        }
    }
}

impl<W: Wire> Watch<W> {
    /// The messages that `subscription` yields.
    pub fn open(door: &Door, subscription: Subscription, wire: W) -> Messages<W> {
        let config = &door.config;
        let beat_every = Duration::from_millis(config.heartbeat_ms.min(config.ping_ms));
        let mut watch = Self {
            who: Arc::clone(subscription.principal()),
            wire,
            out: VecDeque::new(),
            bell: Arc::default(),
            besides: FuturesUnordered::new(),
            beat_every,
            sent: 0,
            _open: door.metrics.open_grpc(),
            door: door.clone(),
            subscription,
        };
        watch.watch_user();
        watch.next_bell();
        watch.next_beat();
        let stop = door.services.stop().clone().cancelled_owned();
        watch.besides.push(Box::pin(stop.map(|()| Beside::Stop)));
        // A client that is cut off before its first event resumes from where the stream began.
        let begin = watch.subscription.cursor();
        if !begin.positions.is_empty() {
            watch.out.extend(watch.wire.moved(&begin));
        }
        Messages(State::AtHand(Box::new(watch)))
    }

    /// The next message; none if that takes [`Watch::ask`].
    fn poll_at_hand(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Encoded>, Status>> {
        loop {
            if let Some(message) = self.out.pop_front() {
                return Poll::Ready(Ok(Some(message)));
            }
            if !self.who.is_current() {
                return Poll::Ready(Ok(None));
            }
            match self.subscription.step() {
                Step::Item(item) => self.put(item),
                Step::Behind => return Poll::Ready(Ok(None)),
                Step::Idle => match self.besides.poll_next_unpin(cx) {
                    Poll::Ready(Some(beside)) => self.hear(beside)?,
                    _ => ready!(self.subscription.poll_news(cx)),
                },
            }
        }
    }

    /// Asks for the caller's rights if they have changed, and reads on in the log otherwise.
    async fn ask(mut self: Box<Self>) -> Result<Box<Self>, Status> {
        if !self.who.is_current() {
            self.renew().await?;
            return Ok(self);
        }
        let this = &mut *self;
        tokio::select! {
            biased;
            Some(beside) = this.besides.next() => this.hear(beside)?,
            read = this.subscription.next_read() => {
                let read = read.map_err(status::of)?;
                // Meanwhile the rights may have gone.
                this.renew().await?;
                read.into_iter().for_each(|item| this.put(item));
            }
        }
        Ok(self)
    }

    fn put(&mut self, item: Item) {
        self.sent += self.wire.encode(&self.subscription, item, &mut self.out);
    }

    fn hear(&mut self, beside: Beside) -> Result<(), Status> {
        match beside {
            Beside::Stop => return Err(draining()),
            Beside::Bell => self.next_bell(),
            Beside::Beat => self.look()?,
        }
        Ok(())
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
    fn next_beat(&self) {
        let expires = stream::expiry(&self.who, self.door.tidings.clock().now());
        let beat = tokio::time::sleep_until(together(self.beat_every).min(expires));
        self.besides.push(Box::pin(beat.map(|()| Beside::Beat)));
    }

    fn next_bell(&self) {
        let bell = Arc::clone(&self.bell);
        self.besides.push(Box::pin(async move {
            bell.0.notified().await;
            Beside::Bell
        }));
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
