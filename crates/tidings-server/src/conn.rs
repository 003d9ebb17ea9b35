//! A socket taken away from the HTTP library: what is left of a stream's connection.
//!
//! Owns: the socket, and who steps its subscription at the moment: the connection's own task, or the fan.
//! Never: both at once; every write happens under that right.

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{self, SendFlags};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tidings_engine::{Item, Place, Step, Subscription, Track};
use tidings_model::Watcher;
use tidings_model::phoenix::Version;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::round::Round;
use crate::wire::{self, Framing, rows};

/// A plain connection, or our end of a pair whose other end encrypts or frames.
pub enum Socket {
    Tcp(TcpStream),
    Pair(UnixStream),
}

impl Socket {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_write_vectored(parts),
            Self::Pair(s) => s.try_write_vectored(parts),
        }
    }

    /// Asks the system without a look at what the runtime knows of the socket, which is one more place in memory;
    /// only that it is full the runtime has to see itself, so that one can wait.
    fn try_write(&self, part: &[u8]) -> io::Result<usize> {
        match net::send(self, part, SendFlags::NOSIGNAL) {
            Ok(written) => return Ok(written),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match self {
            Self::Tcp(s) => s.try_write(part),
            Self::Pair(s) => s.try_write(part),
        }
    }

    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.try_read(into),
            Self::Pair(s) => s.try_read(into),
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.readable().await,
            Self::Pair(s) => s.readable().await,
        }
    }

    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.writable().await,
            Self::Pair(s) => s.writable().await,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Pair(s) => s.as_fd(),
        }
    }
}

/// What goes over the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Sse {
        framing: Framing,
        is_single: bool,
    },
    Ws,
    /// An entity's rows as they are, one text frame each.
    EntitySync,
    /// Messages of Phoenix channels.
    Phoenix(Version),
    SocketIo,
}

/// One stream's connection.
pub struct Conn {
    pub socket: Socket,
    pub style: Style,
    pub write_timeout: Duration,
    hold: Mutex<Hold>,
    /// Rung when the fan gives the subscription back, and when the caller's rights have changed.
    pub bell: Notify,
    pub sent: AtomicU64,
}

impl Watcher for Conn {
    /// Something about the user has changed: the connection's task looks what.
    fn wake(&self) {
        self.bell.notify_one();
    }
}

/// Who steps the subscription.
enum Hold {
    /// The connection's task.
    Task,
    /// The fan, for as long as the ticket is the same. Where there is a track, that is where the reader stands, and the
    /// subscription itself is told only when it is needed: most of what makes a delivery dear is memory to look at.
    Fan { subscription: Box<Subscription>, ticket: u64, track: Option<Track> },
    /// The fan gave it back: it fell behind, or the socket took only a part.
    Returned { subscription: Box<Subscription>, rest: VecDeque<Bytes> },
}

/// What the fan has to do with a connection's place in its lists.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    Keep,
    Remove,
}

/// The peer has gone, or took nothing for too long.
#[derive(Debug)]
pub struct Gone;

impl Conn {
    pub fn new(socket: Socket, style: Style, write_timeout: Duration) -> Self {
        let (hold, bell) = (Mutex::new(Hold::Task), Notify::new());
        Self { socket, style, write_timeout, hold, bell, sent: AtomicU64::new(0) }
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().expect("no panic while holding the lock")
    }

    /// Hands the subscription to the fan under `ticket`.
    pub fn park(&self, subscription: Box<Subscription>, ticket: u64) {
        *self.hold() = Hold::Fan { subscription, ticket, track: None };
    }

    /// Takes the subscription back, with what must be written before anything else.
    pub fn take_back(&self) -> Option<(Box<Subscription>, VecDeque<Bytes>)> {
        match std::mem::replace(&mut *self.hold(), Hold::Task) {
            Hold::Task => None,
            Hold::Fan { mut subscription, mut track, .. } => {
                settle(&mut subscription, &mut track);
                Some((subscription, VecDeque::new()))
            }
            Hold::Returned { subscription, rest } => Some((subscription, rest)),
        }
    }

    /// Whether the fan has given the subscription back.
    pub fn is_returned(&self) -> bool {
        matches!(&*self.hold(), Hold::Returned { .. })
    }

    /// Lets `f` look at the subscription and say what to send, while it stays with the fan.
    /// `false` if it is not with the fan.
    pub fn aside(&self, f: impl FnOnce(&mut Subscription) -> VecDeque<Bytes>) -> bool {
        let mut hold = self.hold();
        let Hold::Fan { subscription, track, .. } = &mut *hold else { return false };
        settle(subscription, track);
        let mut out = f(subscription);
        if !out.is_empty() && !self.write_some(&mut out) {
            self.give_back(&mut hold, out);
        }
        true
    }

    /// Whether the fan's subscription has to read the log, or was given back.
    pub fn aside_is_behind(&self) -> bool {
        match &*self.hold() {
            Hold::Task => false,
            Hold::Fan { track: Some(_), .. } => false,
            Hold::Fan { subscription, .. } => subscription.is_behind(),
            Hold::Returned { .. } => true,
        }
    }

    /// On the fan's thread: sends what there is for this connection, anywhere or at one place, where the round knows
    /// what others were given; `scratch` is only memory.
    pub fn pump(
        &self,
        ticket: u64,
        news: Option<(Place, &mut Round)>,
        scratch: &mut VecDeque<Bytes>,
    ) -> Pumped {
        let mut hold = self.hold();
        let Hold::Fan { subscription, ticket: own, track } = &mut *hold else { return Pumped::Remove };
        if *own != ticket {
            return Pumped::Remove;
        }
        let place = news.as_ref().map(|(place, _)| *place);
        if let Some((_, round)) = news
            && let Some((news, to)) = round.news(*track, subscription, self.style)
        {
            *track = Some(to);
            self.sent.fetch_add(news.count, Ordering::Relaxed);
            return match self.socket.try_write(&news.bytes) {
                Ok(written) if written == news.bytes.len() => Pumped::Keep,
                written => {
                    let rest = news.bytes.slice(written.unwrap_or(0)..);
                    self.give_back(&mut hold, VecDeque::from([rest]));
                    Pumped::Remove
                }
            };
        }
        settle(subscription, track);
        if let Some(place) = place {
            subscription.news_at(place);
        }
        let (mut is_behind, mut bytes) = (false, 0);
        while scratch.len() < BACKLOG_MAX && bytes < BACKLOG_BYTES_MAX {
            match subscription.step() {
                Step::Item(item) => {
                    self.sent.fetch_add(encode(subscription, item, self.style, scratch), Ordering::Relaxed);
                    bytes += scratch.back().map_or(0, Bytes::len);
                }
                Step::Idle => break,
                Step::Behind => {
                    is_behind = true;
                    break;
                }
            }
        }
        let is_full = scratch.len() >= BACKLOG_MAX || bytes >= BACKLOG_BYTES_MAX;
        let is_out = scratch.is_empty() || self.write_some(scratch);
        if is_out && !is_behind && !is_full {
            return Pumped::Keep;
        }
        self.give_back(&mut hold, std::mem::take(scratch));
        Pumped::Remove
    }

    fn give_back(&self, hold: &mut Hold, rest: VecDeque<Bytes>) {
        if let Hold::Fan { mut subscription, mut track, .. } = std::mem::replace(hold, Hold::Task) {
            settle(&mut subscription, &mut track);
            *hold = Hold::Returned { subscription, rest };
            self.bell.notify_one();
        }
    }

    /// Writes what the socket takes now; `true` if that was everything. What is left stays in `out`.
    fn write_some(&self, out: &mut VecDeque<Bytes>) -> bool {
        while !out.is_empty() {
            // A broken socket shows when the task reads or writes; until then it takes nothing.
            if self.write_once(out).is_err() {
                return false;
            }
        }
        true
    }

    /// One write of as many parts as it takes; what was written leaves `out`.
    pub fn write_once(&self, out: &mut VecDeque<Bytes>) -> io::Result<()> {
        let written = if out.len() == 1 {
            self.socket.try_write(&out[0])?
        } else {
            let mut parts = [IoSlice::new(&[]); PARTS_MAX];
            let n = out.len().min(PARTS_MAX);
            for (part, bytes) in parts.iter_mut().zip(out.iter()) {
                *part = IoSlice::new(bytes);
            }
            self.socket.try_write_vectored(&parts[..n])?
        };
        advance(out, written);
        Ok(())
    }

    /// Writes everything, waiting for the socket; only the connection's task calls this.
    pub async fn send(&self, out: &mut VecDeque<Bytes>) -> Result<(), Gone> {
        while !out.is_empty() {
            let writable = tokio::time::timeout(self.write_timeout, self.socket.writable());
            writable.await.map_err(|_| Gone)?.map_err(|_| Gone)?;
            match self.write_once(out) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Puts an item into bytes.
    pub fn encode(&self, subscription: &Subscription, item: Item, out: &mut VecDeque<Bytes>) {
        self.sent.fetch_add(encode(subscription, item, self.style, out), Ordering::Relaxed);
    }
}

/// Tells the subscription where its reader stands, where only the track knows.
fn settle(subscription: &mut Subscription, track: &mut Option<Track>) {
    if let Some(track) = track.take() {
        subscription.set_track(track);
    }
}

/// Parts of one vectored write.
const PARTS_MAX: usize = 64;
/// Parts gathered for one connection before they are written.
const BACKLOG_MAX: usize = 1024;
/// About as many bytes are gathered at most; rows of entities are large at times.
pub const BACKLOG_BYTES_MAX: usize = 1 << 20;

fn advance(out: &mut VecDeque<Bytes>, mut n: usize) {
    while let Some(first) = out.front_mut() {
        if n < first.len() {
            first.advance(n);
            return;
        }
        n -= first.len();
        out.pop_front();
    }
}

/// Appends the item's bytes and answers how many events it held.
fn encode(subscription: &Subscription, item: Item, style: Style, out: &mut VecDeque<Bytes>) -> u64 {
    match (item, style) {
        (item, Style::Phoenix(version)) => return wire::phoenix::encode(subscription, item, version, out),
        (item, Style::SocketIo) => return wire::socketio::frames(subscription, &item, out),
        (Item::Events(batch), style) => {
            for entry in &batch.entries {
                let offset = entry.event.offset();
                match style {
                    Style::Sse { framing, is_single: true } if !batch.in_state => {
                        out.push_back(wire::sse(entry, framing));
                    }
                    Style::Sse { framing, .. } => {
                        let cursor = subscription.cursor_at(batch.leg, offset, batch.in_state);
                        let mut parts = Vec::with_capacity(3);
                        wire::sse_own(entry, &cursor, framing, &mut parts);
                        out.extend(parts);
                    }
                    Style::Ws if !batch.in_state => out.push_back(wire::ws(entry)),
                    Style::Ws | Style::EntitySync | Style::Phoenix(_) | Style::SocketIo => {
                        let cursor = subscription.leg_cursor_at(batch.leg, offset, true);
                        out.push_back(wire::ws_own(entry, &cursor));
                    }
                }
            }
            return batch.entries.len() as u64;
        }
        (Item::Passing(entries), style) => {
            out.extend(entries.iter().filter_map(|entry| match style {
                Style::Sse { framing, .. } => Some(wire::sse(entry, framing)),
                Style::Ws => Some(wire::ws(entry)),
                Style::EntitySync | Style::Phoenix(_) | Style::SocketIo => None,
            }));
            return entries.len() as u64;
        }
        (Item::Gap(gap), Style::Sse { framing, .. }) => {
            let cursor = subscription.cursor();
            out.push_back(framing.wrap(wire::sse_notice("$gap", Some(&cursor), &wire::gap_json(&gap))));
        }
        (Item::Gap(gap), _) => out.push_back(wire::ws_gap(&gap)),
        (Item::Live(topic), Style::Sse { framing, .. }) => {
            let data = serde_json::json!({ "topic": topic.to_string() });
            let cursor = subscription.cursor();
            out.push_back(framing.wrap(wire::sse_notice("$live", Some(&cursor), &data)));
        }
        (Item::Live(topic), _) => {
            out.push_back(wire::ws_live(&topic, &subscription.cursor_of(&topic)));
        }
        (Item::Rows(rows), style) => {
            let bytes = rows::encode(&rows, style);
            if !bytes.is_empty() {
                out.push_back(bytes);
            }
            return 1;
        }
        (Item::Trouble(trouble), style) => out.push_back(rows::trouble(&trouble, style)),
    }
    0
}
