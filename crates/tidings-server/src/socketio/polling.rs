//! Long polling: a session whose client asks again and again.
//!
//! Owns: which poll is answered with what. Events are taken from the subscription only while a poll waits for
//! them, so a client that does not ask costs its cursor and nothing else (I11).

use super::session::{Due, Leave, Session};
use super::websocket::Line;
use super::{Ask, packet};
use crate::stream::{self, End};
use crate::wire::socketio as wire;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::{Item, Step, Subscription};
use tidings_model::{Principal, Watcher};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Packets of our own (answers to what the client said) that may wait for a poll.
const WAITING_MAX: usize = 1000;
/// A payload that has grown to this is sent.
const PAYLOAD_BYTES: usize = 64 << 10;

/// A session while its client polls.
pub struct Polling {
    session: Session,
    subscription: Subscription,
    who: Option<Arc<Principal>>,
    /// Packets that must be sent before anything else.
    out: Vec<String>,
    poll: Option<oneshot::Sender<String>>,
    /// The client tries a WebSocket: polls are answered at once.
    is_probing: bool,
    expires: Instant,
}

/// What goes on over a WebSocket.
pub struct Changed {
    pub session: Session,
    pub subscription: Subscription,
    pub line: Line,
    /// Packets that no poll has come for.
    pub rest: Vec<String>,
    /// `rest` puts the client out.
    pub is_told: bool,
}

impl Polling {
    pub fn new(session: Session, subscription: Subscription) -> Self {
        Self {
            session,
            subscription,
            who: None,
            out: Vec::new(),
            poll: None,
            is_probing: false,
            expires: far(),
        }
    }

    /// Serves polls until the client goes, which is nothing, or changes to a WebSocket.
    pub async fn run(mut self) -> Option<Box<Changed>> {
        let (line, is_told) = match self.live().await {
            Ok(line) => (Some(line), false),
            Err(leave) => {
                self.out.extend(leave.farewell());
                let line = match leave.is_told() {
                    true => tokio::time::timeout(Leave::LINGER, self.linger()).await.ok().flatten(),
                    false => None,
                };
                (line, true)
            }
        };
        let Some(line) = line else {
            self.out.push(packet::CLOSE.into());
            let _ = self.reply();
            return None;
        };
        let Self { session, subscription, out: rest, .. } = self;
        Some(Box::new(Changed { session, subscription, line: *line, rest, is_told }))
    }

    /// Lets the client come for its last packets and close; one that was changing to a WebSocket comes over that.
    async fn linger(&mut self) -> Option<Box<Line>> {
        while self.reply().is_ok() {
            match self.session.mail.recv().await? {
                Ask::Poll(poll) => self.poll = Some(poll),
                Ask::Post(body) if body.contains(packet::SEPARATOR) || body != packet::CLOSE => {}
                Ask::Post(_) => return None,
                Ask::Probing(is_so) => self.is_probing = is_so,
                Ask::Upgrade(line) => return Some(line),
            }
        }
        None
    }

    async fn live(&mut self) -> Result<Box<Line>, Leave> {
        let stop = self.session.door.services.stop().clone();
        loop {
            self.serve().await?;
            let handle = Arc::clone(&self.session.handle);
            let tick = self.session.beat.next().min(self.expires);
            // News matters only to a poll that waits for it.
            let waits = self.poll.is_some() && self.session.talk.is_in();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining.into()),
                () = handle.bell.notified() => {}
                ask = self.session.mail.recv() => match ask.ok_or(End::Gone)? {
                    Ask::Poll(poll) => {
                        // Two at once is no behaviour of a client's; neither can know what it would miss.
                        if self.poll.replace(poll).is_some_and(|old| !old.is_closed()) {
                            return Err(End::Gone.into());
                        }
                    }
                    Ask::Post(body) => self.hear(&body).await?,
                    Ask::Probing(is_so) => self.is_probing = is_so,
                    Ask::Upgrade(line) => return Ok(line),
                },
                () = gone(&mut self.poll) => return Err(End::Gone.into()),
                item = self.subscription.next(), if waits => {
                    self.take(item.map_err(End::Engine)?);
                }
                () = tokio::time::sleep_until(tick) => {
                    if Instant::now() >= self.expires {
                        return Err(End::Expired.into());
                    }
                    if let Due::Ping = self.session.beat.look(self.session.talk.is_in())? {
                        self.say(packet::PING.into())?;
                    }
                }
            }
        }
    }

    /// Answers the poll that waits, if there is anything to say.
    async fn serve(&mut self) -> Result<(), End> {
        self.renew().await?;
        self.session.look_at_token()?;
        if self.poll.is_none() {
            return Ok(());
        }
        let mut bytes: usize = self.out.iter().map(String::len).sum();
        while self.session.talk.is_in() && bytes < PAYLOAD_BYTES {
            let before = self.out.len();
            match self.subscription.step() {
                Step::Item(item) => self.take(item),
                Step::Idle => break,
                Step::Behind if !self.out.is_empty() => break,
                Step::Behind => {
                    let item = self.subscription.next_read().await.map_err(End::Engine)?;
                    item.into_iter().for_each(|item| self.take(item));
                }
            }
            bytes += self.out[before..].iter().map(String::len).sum::<usize>();
        }
        self.reply()
    }

    /// Sends what there is over the poll that waits; one of a client that tries a WebSocket waits for nothing.
    fn reply(&mut self) -> Result<(), End> {
        if self.out.is_empty() && !self.is_probing {
            return Ok(());
        }
        let Some(poll) = self.poll.take() else { return Ok(()) };
        if self.out.is_empty() {
            self.out.push(packet::NOOP.into());
        }
        let payload = std::mem::take(&mut self.out).join(&packet::SEPARATOR.to_string());
        // Whoever does not take it is gone, and comes back with the cursor of the last event it has got.
        poll.send(payload).map_err(|_| End::Gone)
    }

    fn take(&mut self, item: Item) {
        let events = wire::texts(&self.subscription, &item, &mut self.out);
        self.session.door.metrics.delivered(events);
    }

    fn say(&mut self, packet: String) -> Result<(), End> {
        // Whoever keeps asking and takes no answer is not waited for.
        if self.out.len() >= WAITING_MAX {
            return Err(End::Gone);
        }
        self.out.push(packet);
        Ok(())
    }

    /// Goes on with the caller's rights of now.
    async fn renew(&mut self) -> Result<(), End> {
        let Some(who) = self.who.as_ref().filter(|who| !who.is_current()) else { return Ok(()) };
        let who = Box::pin(self.session.door.gate.renew(who)).await.map_err(End::Refused)?;
        self.become_caller(who);
        Ok(())
    }

    fn become_caller(&mut self, who: Arc<Principal>) {
        self.subscription.renew(Arc::clone(&who));
        self.expires = stream::expiry(&who, self.session.door.tidings.clock().now());
        if let Some(session) = &who.session {
            session.lease.watch(&(Arc::clone(&self.session.handle) as Arc<dyn Watcher>));
        }
        self.who = Some(who);
    }

    /// Hears what the client has posted, packet by packet.
    async fn hear(&mut self, body: &str) -> Result<(), Leave> {
        for text in body.split(packet::SEPARATOR) {
            match packet::Engine::parse(text).map_err(|_| End::Gone)? {
                packet::Engine::Message(text) => {
                    let heard = self.session.talk.hear(text, &mut self.subscription).await;
                    let heard = heard.map_err(|_| End::Gone)?;
                    heard.caller.into_iter().for_each(|who| self.become_caller(who));
                    heard.out.into_iter().try_for_each(|packet| self.say(packet))?;
                    if heard.is_end {
                        return Err(Leave::Told);
                    }
                }
                packet::Engine::Pong => self.session.beat.heard(),
                packet::Engine::Close => return Err(End::Gone.into()),
                packet::Engine::Ping(_) | packet::Engine::Upgrade | packet::Engine::Other => {}
            }
        }
        Ok(())
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(366 * 86_400)
}

/// The client has given up the poll that waits.
async fn gone(poll: &mut Option<oneshot::Sender<String>>) {
    match poll {
        Some(poll) => poll.closed().await,
        None => std::future::pending().await,
    }
}
