//! The life of a stream's connection after it was taken from the HTTP library.
//!
//! Owns: the turns between catching up (this task writes, in pieces, and looks around between them) and being live
//! (the fan writes). Never: knows what SSE or WebSocket say beyond [`Style`].

use crate::Door;
use crate::conn::{Conn, Gone, Style};
use crate::fan::Berth;
use crate::refusal::Refusal;
use crate::wire;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidings_engine::{Error, Item, Step, Subscription, auth};
use tidings_model::{Code, Principal, Timestamp, Topic, Watcher};
use tokio::time::Instant;

/// A connection with its subscription.
pub struct Stream {
    pub door: Door,
    pub conn: Arc<Conn>,
    berth: Berth,
    /// Whose stream it is, with the rights it was last given.
    pub who: Arc<Principal>,
    /// `None` while the fan has it.
    own: Option<Box<Subscription>>,
    /// Must be written before anything else.
    pub out: VecDeque<Bytes>,
    /// When the socket last took something that had waited for it.
    pub moved: Instant,
    /// By when it must take something, while something waits.
    stuck: Option<Instant>,
    /// Of the events sent, how many the metrics know of.
    counted: u64,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// The fan has it.
    Live,
    /// There may be more to read.
    Reading,
    /// The socket has to take what was read first.
    Writing,
}

/// What is gathered for a reader at once.
const GATHER_PARTS: usize = 256;
const GATHER_BYTES: usize = 1 << 20;
/// What waits for a socket at most, but for a single item, before whoever adds to it waits too.
const WAITING_PARTS: usize = 1024;
const WAITING_BYTES: usize = 2 << 20;

impl Stream {
    pub fn new(door: Door, conn: Arc<Conn>, subscription: Subscription) -> Self {
        let (berth, who) = (door.fan.berth(), Arc::clone(subscription.principal()));
        let own = Some(Box::new(subscription));
        let (moved, out) = (Instant::now(), VecDeque::new());
        let stream = Self { door, conn, berth, who, own, out, moved, stuck: None, counted: 0 };
        stream.watch();
        stream
    }

    /// Has the bell rung when something about the user changes.
    fn watch(&self) {
        if let Some(lease) = self.who.lease() {
            lease.watch(&(Arc::clone(&self.conn) as Arc<dyn Watcher>));
        }
    }

    /// Goes on as `who`; addresses that one may not read are given up and returned.
    pub fn become_caller(&mut self, who: Arc<Principal>) -> Vec<Topic> {
        self.who = Arc::clone(&who);
        self.watch();
        self.subscription().renew(who)
    }

    /// Goes on with the caller's rights of now, if they have changed.
    pub async fn renew(&mut self) -> Result<(), End> {
        if self.who.is_current() {
            return Ok(());
        }
        // Boxed: it happens seldom, and its needs would be part of every idle connection.
        let who = Box::pin(self.door.gate.renew(&self.who)).await.map_err(End::Refused)?;
        for topic in self.become_caller(who) {
            let why = lost(&topic);
            match self.conn.style {
                Style::Ws => self.out.push_back(wire::ws_error(None, Code::Forbidden, &why)),
                Style::SocketIo => self.out.push_back(wire::socketio::error(Code::Forbidden, &why)),
                _ => return Err(End::Engine(Error::MayNotSubscribe(topic))),
            }
        }
        Ok(())
    }

    /// The subscription, taken back from the fan if that has it.
    pub fn subscription(&mut self) -> &mut Subscription {
        if self.own.is_none() {
            let (mut subscription, rest) = self.conn.take_back().expect("parked by this task");
            self.berth.release(&subscription);
            subscription.look_everywhere();
            if !rest.is_empty() {
                self.door.metrics.fell_back();
                // What the fan could not write comes before what was prepared meanwhile.
                let later = std::mem::replace(&mut self.out, rest);
                self.out.extend(later);
            }
            self.own = Some(subscription);
        }
        self.own.as_mut().expect("just taken")
    }

    /// Gets on with what the reader lacks, by one look at the log at most; hands the subscription to the fan where it
    /// lacks nothing. Never waits for the socket, so that whoever calls can look at other things in between.
    pub async fn catch_up(&mut self) -> Result<Going, End> {
        self.renew().await?;
        if self.is_live() {
            return Ok(Going::Live);
        }
        self.subscription();
        // What waits goes out before anything is read: so much and no more is held for a client that is slow.
        let is_level = self.write_now() && self.gather().await?;
        if !self.write_now() {
            return Ok(Going::Writing);
        }
        if !is_level {
            return Ok(Going::Reading);
        }
        let subscription = self.own.take().expect("taken above");
        self.door.fan.park(&self.berth, &self.conn, subscription);
        Ok(Going::Live)
    }

    /// Gathers what there is for the reader, up to a bound; `true` if that is all.
    async fn gather(&mut self) -> Result<bool, End> {
        let subscription = self.own.as_mut().expect("the caller has it");
        let mut bytes = 0;
        while self.out.len() < GATHER_PARTS && bytes < GATHER_BYTES {
            let item: Item = match subscription.step() {
                Step::Item(item) => item,
                Step::Idle => return Ok(true),
                // What is gathered goes out before the log is read.
                Step::Behind if !self.out.is_empty() => return Ok(false),
                Step::Behind => match subscription.next_read().await.map_err(End::Engine)? {
                    Some(item) => item,
                    None => return Ok(false),
                },
            };
            self.conn.encode(subscription, item, &mut self.out);
            bytes += self.out.back().map_or(0, Bytes::len);
        }
        Ok(false)
    }

    /// Writes what the socket takes now; `true` if that was everything.
    fn write_now(&mut self) -> bool {
        while !self.out.is_empty() {
            // A broken socket shows when it is waited for.
            if self.conn.write_once(&mut self.out).is_err() {
                return false;
            }
            self.moved = Instant::now();
            self.stuck = None;
        }
        true
    }

    /// Writes everything, waiting for the socket. Cancel safe: the time within which it must take something goes on.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        while !self.out.is_empty() {
            match self.conn.write_once(&mut self.out) {
                Ok(()) => (self.moved, self.stuck) = (Instant::now(), None),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let by = *self.stuck.get_or_insert_with(|| Instant::now() + self.conn.write_timeout);
                    let writable = tokio::time::timeout_at(by, self.conn.socket.writable());
                    writable.await.map_err(|_| Gone)?.map_err(|_| Gone)?;
                }
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Sends something of our own, in order with the events. What the socket does not take now goes out with
    /// [`Stream::catch_up`] and [`Stream::flush`]; only where much waits already the socket is waited for.
    pub async fn say(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.put(|_| vec![bytes]).await
    }

    /// Looks at the subscription wherever it is, and sends what `f` answers, as [`Stream::say`] does.
    pub async fn look(&mut self, f: impl FnOnce(&mut Subscription) -> Vec<Bytes>) -> Result<(), Gone> {
        self.put(f).await
    }

    async fn put(&mut self, f: impl FnOnce(&mut Subscription) -> Vec<Bytes>) -> Result<(), Gone> {
        let mut f = Some(f);
        let mut ask = |subscription: &mut Subscription| f.take().map_or_else(Vec::new, |f| f(subscription));
        if self.own.is_none() && self.conn.aside(|subscription| ask(subscription).into()) {
            return Ok(());
        }
        let out = ask(self.subscription());
        self.out.extend(out);
        let waiting: usize = self.out.iter().map(Bytes::len).sum();
        if self.write_now() || (self.out.len() < WAITING_PARTS && waiting < WAITING_BYTES) {
            return Ok(());
        }
        self.flush().await
    }

    /// Takes the subscription back if a heartbeat found that the log has more than the ring knows.
    pub fn nudge(&mut self) {
        self.count();
        if self.own.is_none() && self.conn.aside_is_behind() {
            self.subscription();
        }
    }

    /// Tells the metrics what was sent since the last time.
    fn count(&mut self) {
        let sent = self.conn.sent.load(Ordering::Relaxed);
        self.door.metrics.delivered(sent - std::mem::replace(&mut self.counted, sent));
    }

    /// When the caller's time is up, as the clock stands now; it may be set while the stream is open.
    pub fn expiry(&self) -> Instant {
        expiry(&self.who, self.door.tidings.clock().now())
    }

    /// Whether the subscription is with the fan.
    pub fn is_live(&self) -> bool {
        self.own.is_none() && !self.conn.is_returned()
    }

    /// Whether the fan gave the subscription back or the caller's rights have changed, so that
    /// [`Stream::catch_up`] has work.
    pub fn is_called(&self) -> bool {
        self.conn.is_returned() || !self.who.is_current()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.own.is_none()
            && let Some((subscription, _)) = self.conn.take_back()
        {
            self.berth.release(&subscription);
        }
        self.berth.leave(&self.conn);
        self.count();
    }
}

/// Why a stream ends.
#[derive(Debug)]
pub enum End {
    /// The peer has gone or does not read; nobody is there to be told.
    Gone,
    /// The token has expired.
    Expired,
    /// The token no longer counts.
    Refused(auth::Refused),
    /// The server shuts down.
    Draining,
    Engine(Error),
    /// The peer broke the WebSocket protocol: its close code, and the word for it.
    Frame(u16, Code),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl End {
    /// The stable word and the sentence a client is told.
    pub fn reason(&self) -> (&'static str, String) {
        match self {
            Self::Gone => ("gone", "the connection is gone".into()),
            Self::Expired => ("token_expired", "the token has expired".into()),
            Self::Refused(refused) => {
                let refusal = Refusal::from(refused.clone());
                (refusal.code.as_str(), refusal.detail)
            }
            Self::Draining => ("draining", "the server is shutting down".into()),
            Self::Frame(_, code) => (code.as_str(), "the frame cannot be taken".into()),
            Self::Engine(error) => {
                let refusal = Refusal::from(error.clone());
                (refusal.code.as_str(), refusal.detail)
            }
        }
    }
}

/// What a client is told whose subscription has ended.
pub fn lost(topic: &Topic) -> String {
    format!("{topic} is no longer granted; its subscription has ended")
}

/// When the principal's time is up; far away where it is not bounded.
pub fn expiry(who: &Principal, now: Timestamp) -> Instant {
    let left = who.expires_at.map_or(i64::MAX, |end| end.as_millis() - now.as_millis());
    let year = Duration::from_secs(366 * 86_400);
    Instant::now() + Duration::from_millis(left.max(0) as u64).min(year)
}

/// Milliseconds after which this client shall come back: spread evenly over the configured time.
pub fn retry_ms(door: &Door) -> u64 {
    let n = door.ended.fetch_add(1, Ordering::Relaxed);
    // Steps of the golden ratio fall evenly into the interval however many there are.
    let part = (n as f64 * 0.618_033_988_749_895).fract();
    100 + (part * door.config.retry_spread_ms as f64) as u64
}
