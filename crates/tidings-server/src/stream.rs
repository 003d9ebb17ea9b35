//! The life of a stream's connection after it was taken from the HTTP library.
//!
//! Owns: the turns between catching up (this task writes, waiting for the socket) and being live (the fan
//! writes). Never: knows what SSE or WebSocket say beyond [`Style`].

use crate::Door;
use crate::conn::{Conn, Gone, Style};
use crate::fan::Berth;
use crate::refusal::Refusal;
use crate::wire;
use bytes::Bytes;
use std::collections::VecDeque;
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
    /// Of the events sent, how many the metrics know of.
    counted: u64,
}

impl Stream {
    pub fn new(door: Door, conn: Arc<Conn>, subscription: Subscription) -> Self {
        let (berth, who) = (door.fan.berth(), Arc::clone(subscription.principal()));
        let own = Some(Box::new(subscription));
        let stream = Self { door, conn, berth, who, own, out: VecDeque::new(), counted: 0 };
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
            let why = format!("{topic} is no longer granted; its subscription has ended");
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

    /// Brings the reader up to date, then hands it to the fan. Returns when it is live.
    pub async fn go_live(&mut self) -> Result<(), End> {
        loop {
            self.renew().await?;
            self.subscription();
            let subscription = self.own.as_mut().expect("just taken");
            let mut bytes = 0;
            while self.out.len() < 256 && bytes < 1 << 20 {
                let item: Item = match subscription.step() {
                    Step::Item(item) => item,
                    Step::Idle => break,
                    // What is gathered goes out before the log is read.
                    Step::Behind if !self.out.is_empty() => break,
                    Step::Behind => match subscription.next_read().await.map_err(End::Engine)? {
                        Some(item) => item,
                        None => continue,
                    },
                };
                self.conn.encode(subscription, item, &mut self.out);
                bytes += self.out.back().map_or(0, Bytes::len);
            }
            if self.out.is_empty() {
                break;
            }
            self.conn.send(&mut self.out).await?;
        }
        let subscription = self.own.take().expect("taken above");
        self.door.fan.park(&self.berth, &self.conn, subscription);
        Ok(())
    }

    /// Sends something of our own, in order with the events.
    pub async fn say(&mut self, bytes: Bytes) -> Result<(), Gone> {
        let mut some = Some(bytes);
        if self.own.is_none() && self.conn.aside(|_| some.take().into_iter().collect()) {
            return Ok(());
        }
        self.subscription();
        self.out.extend(some);
        self.conn.send(&mut self.out).await
    }

    /// Looks at the subscription wherever it is, and sends what `f` answers.
    pub async fn look(&mut self, f: impl Fn(&mut Subscription) -> Vec<Bytes>) -> Result<(), Gone> {
        if self.own.is_none() && self.conn.aside(|s| f(s).into()) {
            return Ok(());
        }
        let out = f(self.subscription());
        self.out.extend(out);
        self.conn.send(&mut self.out).await
    }

    /// Goes on if a heartbeat found that the log has more than the ring knows.
    pub async fn nudge(&mut self) -> Result<(), End> {
        self.count();
        if self.own.is_some() || self.conn.aside_is_behind() { self.go_live().await } else { Ok(()) }
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
    /// [`Stream::go_live`] has work.
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
