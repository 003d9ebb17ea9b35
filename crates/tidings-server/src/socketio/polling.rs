//! Long polling: a session whose client asks again and again.
//!
//! Owns: which poll is answered with what. Events are taken from the subscription only while a poll waits for
//! them, so a client that does not ask costs its cursor and nothing else (I11).

use super::session::{Due, Leave, Session};
use super::sessions::{Inbox, Poll};
use super::websocket::Line;
use super::{Ask, packet};
use crate::stream::{self, End};
use crate::wire::socketio as wire;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::{Item, Step, Subscription};
use tidings_model::{Code, Principal, Watcher};
use tokio::time::Instant;

/// While answers of so many bytes wait for a poll, nothing more is heard.
const WAITING_BYTES: usize = 256 << 10;
/// The same of a client that is in and changes to a WebSocket: the answers to three full bodies of small packets.
const CHANGING_BYTES: usize = 16 << 20;
/// A payload that has grown to this is sent.
const PAYLOAD_BYTES: usize = 64 << 10;

/// A session while its client polls.
pub struct Polling {
    session: Session,
    inbox: Inbox,
    subscription: Subscription,
    who: Option<Arc<Principal>>,
    /// Packets that must be sent before anything else.
    out: Vec<String>,
    /// What the client has posted and was not heard yet.
    body: Body,
    poll: Option<Poll>,
    /// How many WebSockets the client tries: polls are answered at once.
    probes: u32,
    expires: Instant,
}

/// A posted body that is heard packet by packet.
#[derive(Default)]
struct Body {
    text: String,
    at: usize,
}

impl Body {
    fn is_heard(&self) -> bool {
        self.at > self.text.len() || self.text.is_empty()
    }

    /// The place of the next packet.
    fn next(&mut self) -> Option<std::ops::Range<usize>> {
        if self.is_heard() {
            return None;
        }
        let (from, rest) = (self.at, &self.text[self.at..]);
        let to = from + rest.find(packet::SEPARATOR).unwrap_or(rest.len());
        self.at = to + packet::SEPARATOR.len_utf8();
        Some(from..to)
    }
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
    pub fn new(session: Session, inbox: Inbox, subscription: Subscription) -> Self {
        Self {
            session,
            inbox,
            subscription,
            who: None,
            out: Vec::new(),
            body: Body::default(),
            poll: None,
            probes: 0,
            expires: far(),
        }
    }

    /// Serves polls until the client goes, which is nothing, or changes to a WebSocket.
    pub async fn run(mut self) -> Option<Box<Changed>> {
        let (line, is_told) = match self.live().await {
            Ok(line) => (Some(line), false),
            Err(leave) => {
                self.session.talk.leave();
                self.out.extend(leave.farewell());
                let stop = self.session.door.services.stop().clone();
                let line = match leave.is_told() {
                    true => tokio::select! {
                        biased;
                        () = stop.cancelled() => None,
                        line = tokio::time::timeout(Leave::LINGER, self.linger()) => line.ok().flatten(),
                    },
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
            tokio::select! {
                poll = self.inbox.polls.recv() => self.poll = Some(poll?),
                ask = self.inbox.mail.recv() => match ask? {
                    Ask::Post(body) if body.split(packet::SEPARATOR).any(|one| one == packet::CLOSE) => {
                        return None;
                    }
                    Ask::Post(_) => {}
                    Ask::Probing(is_so) => self.probe(is_so),
                    Ask::Upgrade(line) => return Some(line),
                },
            }
        }
        None
    }

    async fn live(&mut self) -> Result<Box<Line>, Leave> {
        let stop = self.session.door.services.stop().clone();
        let handle = Arc::clone(&self.session.handle);
        loop {
            // Asked first, so that a client that never stops talking does not outlive its token, and is asked itself.
            let tick = self.session.beat.next().min(self.expires);
            if Instant::now() >= tick {
                self.tick()?;
            }
            let is_level = self.serve().await?;
            // News matters only to a poll that waits for it.
            let waits = self.poll.is_some() && self.session.talk.is_in();
            let may_hear = self.out.iter().map(String::len).sum::<usize>() < self.room();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining.into()),
                () = handle.bell.notified() => {}
                poll = self.inbox.polls.recv() => {
                    // Two at once is no behaviour of a client's; neither can know what it would miss.
                    if self.poll.replace(poll.ok_or(End::Gone)?).is_some_and(|old| !old.is_closed()) {
                        return Err(End::Gone.into());
                    }
                }
                ask = self.inbox.mail.recv(), if self.body.is_heard() => match ask.ok_or(End::Gone)? {
                    Ask::Post(text) => self.body = Body { text, at: 0 },
                    Ask::Probing(is_so) => self.probe(is_so),
                    Ask::Upgrade(line) => return Ok(line),
                },
                () = gone(&mut self.poll) => return Err(End::Gone.into()),
                () = tokio::time::sleep_until(tick) => {}
                () = std::future::ready(()), if may_hear && !self.body.is_heard() => self.hear().await?,
                () = std::future::ready(()), if !is_level => {}
                item = self.subscription.next(), if waits => {
                    self.take(item.map_err(End::Engine)?);
                }
            }
        }
    }

    fn tick(&mut self) -> Result<(), End> {
        if let Some(who) = &self.who {
            // Anew: the clock may have been set.
            self.expires = stream::expiry(who, self.session.door.tidings.clock().now());
        }
        if Instant::now() >= self.expires {
            return Err(End::Expired);
        }
        if let Due::Ping = self.session.beat.look(self.session.talk.is_in(), None)? {
            self.out.push(packet::PING.into());
        }
        Ok(())
    }

    /// So many bytes of answers may wait before nothing more is heard.
    fn room(&self) -> usize {
        // Whoever changes to a WebSocket has ended its polls, and takes the answers to all that it has posted over that.
        if self.probes > 0 && self.session.talk.is_in() { CHANGING_BYTES } else { WAITING_BYTES }
    }

    fn probe(&mut self, is_so: bool) {
        self.probes = if is_so { self.probes + 1 } else { self.probes.saturating_sub(1) };
    }

    /// Answers the poll that waits, if there is anything to say, by one look at the log at most; `false` where there
    /// may be more to look at.
    async fn serve(&mut self) -> Result<bool, End> {
        self.renew().await?;
        self.session.look_at_token()?;
        if self.poll.is_none() {
            return Ok(true);
        }
        let mut is_level = true;
        let mut bytes: usize = self.out.iter().map(String::len).sum();
        while self.session.talk.is_in() && bytes < PAYLOAD_BYTES {
            let before = self.out.len();
            match self.subscription.step() {
                Step::Item(item) => self.take(item),
                Step::Idle => break,
                Step::Behind if !self.out.is_empty() => break,
                Step::Behind => match self.subscription.next_read().await.map_err(End::Engine)? {
                    Some(item) => self.take(item),
                    None => {
                        is_level = false;
                        break;
                    }
                },
            }
            bytes += self.out[before..].iter().map(String::len).sum::<usize>();
        }
        self.reply()?;
        Ok(is_level)
    }

    /// Sends what there is over the poll that waits; one of a client that tries a WebSocket waits for nothing.
    fn reply(&mut self) -> Result<(), End> {
        if self.out.is_empty() && self.probes == 0 {
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

    /// Goes on with the caller's rights of now.
    async fn renew(&mut self) -> Result<(), End> {
        let Some(who) = self.who.as_ref().filter(|who| !who.is_current()) else { return Ok(()) };
        let who = Box::pin(self.session.door.gate.renew(who)).await.map_err(End::Refused)?;
        self.become_caller(who);
        Ok(())
    }

    fn become_caller(&mut self, who: Arc<Principal>) {
        for topic in self.subscription.renew(Arc::clone(&who)) {
            self.out.push(wire::error_text(Code::Forbidden, &stream::lost(&topic)));
        }
        self.expires = stream::expiry(&who, self.session.door.tidings.clock().now());
        if let Some(lease) = who.lease() {
            lease.watch(&(Arc::clone(&self.session.handle) as Arc<dyn Watcher>));
        }
        self.who = Some(who);
    }

    /// Hears the next packet of what the client has posted; the caller's rights of now count for it.
    async fn hear(&mut self) -> Result<(), Leave> {
        let Some(place) = self.body.next() else { return Ok(()) };
        match packet::Engine::parse(&self.body.text[place])? {
            packet::Engine::Message(text) => {
                let heard = self.session.talk.hear(text, &mut self.subscription).await?;
                heard.caller.into_iter().for_each(|who| self.become_caller(who));
                self.out.extend(heard.out);
                if let Some(leave) = heard.leave {
                    return Err(leave);
                }
            }
            packet::Engine::Pong => self.session.beat.heard(),
            packet::Engine::Close => return Err(End::Gone.into()),
            packet::Engine::Ping(_) | packet::Engine::Upgrade | packet::Engine::Other => {}
        }
        if self.body.is_heard() {
            self.body = Body::default();
        }
        Ok(())
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(366 * 86_400)
}

/// The client has given up the poll that waits.
async fn gone(poll: &mut Option<Poll>) {
    match poll {
        Some(poll) => poll.closed().await,
        None => std::future::pending().await,
    }
}
