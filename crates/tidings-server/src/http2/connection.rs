//! One connection: reads, lets its streams go on, writes.
//!
//! Owns: the order of these, the keep-alive, and the end. Never: reads while what is to be written piles up, so a client
//! that takes nothing cannot make us keep more.

use super::Answers;
use super::bells::{LOOKS, PLACES, SOCKET};
use super::frame::{self, Fault, Reason, STREAM_MAX, WINDOW, kind, setting};
use super::hpack::Decoder;
use super::out::Out;
use super::receive::Gathering;
use super::request::HEADERS_BYTES_MAX;
use super::streams::{Left, Streams};
use super::windows::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::looks::{Look, Looks};
use bytes::{Buf as _, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// Room for what is read next: at first, and for whoever fills that.
const READ_BYTES: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// Memory that an idle connection keeps for its next answer.
const KEPT_BYTES: usize = 4 << 10;
/// Turns of one poll; whoever else waits for this thread comes between.
const TURNS_MAX: usize = 8;
/// A client that is silent for longer after it was asked whether it is there is not.
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// What our pings say: that we ask whether somebody is there, and that we go.
pub const PING: [u8; 8] = *b"tidings?";
pub const PING_LAST: [u8; 8] = *b"tidings!";

/// A connection from its preface on.
pub struct Connection<T, A: Answers> {
    io: T,
    pub(super) answers: A,
    /// None when the server stops: there is nothing else to be heard of it.
    looks: Option<Looks>,
    times: Times,
    socket_bell: Waker,
    looks_bell: Waker,
    /// The socket may have something to say, and takes something.
    is_called: bool,
    input: BytesMut,
    read_bytes: usize,
    pub(super) out: Out,
    pub(super) streams: Streams,
    pub(super) decoder: Decoder,
    /// A head that was seen, and what it said.
    pub(super) known: Option<Known<A>>,
    /// A header block that is not whole yet.
    pub(super) gathering: Option<Gathering>,
    /// Whole frames are at hand that wait for the socket to take what answers those before.
    pub(super) is_unread: bool,
    /// The preface was read, and the settings that are a part of it.
    pub(super) is_greeted: bool,
    pub(super) is_configured: bool,
    /// The newest stream that the client has begun.
    pub(super) last: u32,
    /// Streams that we have ended; what was on its way to them is passed over.
    pub(super) lately: VecDeque<u32>,
    /// Streams ended before their answer, more or less.
    pub(super) resets: u32,
    /// What the client may send on all streams.
    pub(super) receive: i64,
    /// Of that, what was read and not said again.
    pub(super) credit: usize,
    pub(super) end: End,
    /// Something was read since the last look.
    is_heard: bool,
    heard: Instant,
    is_pinged: bool,
    /// The socket took something since the last look, or had nothing to take.
    is_taken: bool,
    taken: Instant,
}

/// A block that left the table as it was, and what it said.
type Known<A> = (Box<[u8]>, Arc<<A as Answers>::Known>);

/// How far a connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The client knows that we go; what it has sent before it knew is still answered.
    Announced,
    /// Nothing behind the last stream is answered.
    Last,
    /// What is to be written is written, and nothing is read.
    Now,
}

/// The times that a connection keeps.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A client that is silent for this long is asked whether it is there.
    pub ping: Duration,
    /// A part of a frame or of a head takes no longer.
    pub read: Duration,
    /// A client takes something within this time.
    pub write: Duration,
}

impl<T: AsyncRead + AsyncWrite + Unpin, A: Answers> Connection<T, A> {
    pub fn new(io: T, answers: A, looks: Looks, times: Times) -> Self {
        let (now, mut out, streams) = (Instant::now(), Out::new(), Streams::new());
        let [socket_bell, looks_bell] = [SOCKET, LOOKS].map(|place| streams.bells.own(place));
        socket_bell.wake_by_ref();
        looks_bell.wake_by_ref();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, PLACES as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW as u32),
            (setting::MAX_HEADER_LIST_SIZE, HEADERS_BYTES_MAX as u32),
        ];
        frame::put_settings(&mut out.bytes, &settings);
        frame::put_window(&mut out.bytes, 0, (CONNECTION_WINDOW - WINDOW) as u32);
        Self {
            io,
            answers,
            looks: Some(looks),
            times,
            socket_bell,
            looks_bell,
            is_called: false,
            input: BytesMut::new(),
            read_bytes: READ_BYTES,
            out,
            streams,
            decoder: Decoder::new(),
            known: None,
            gathering: None,
            is_unread: false,
            is_greeted: false,
            is_configured: false,
            last: 0,
            lately: VecDeque::new(),
            resets: 0,
            receive: CONNECTION_WINDOW,
            credit: 0,
            end: End::Open,
            is_heard: false,
            heard: now,
            is_pinged: false,
            is_taken: false,
            taken: now,
        }
    }

    /// Goes on with everything there is to do. Ready when the connection is over.
    ///
    /// Only who has rung is asked: the socket, the clock and each stream lie in memory of their own, and a delivery that
    /// looks at all of it takes twice as long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.streams.bells.begin(cx.waker());
        for _ in 0..TURNS_MAX {
            for place in self.streams.bells.take() {
                match place {
                    SOCKET => self.is_called = true,
                    LOOKS if !self.look_around() => return Poll::Ready(()),
                    LOOKS => {}
                    place => self.go_on(place),
                }
            }
            let was_full = self.out.is_full();
            let Ok(has_read) = self.read() else { return Poll::Ready(()) };
            self.open_window();
            match self.write() {
                Poll::Ready(Ok(())) if self.is_done() => return self.close(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // What was not read because there was no room for it is asked for again when there is.
            let may_read = was_full && !self.out.is_full();
            if !has_read && !may_read && self.streams.bells.rest() {
                return Poll::Pending;
            }
        }
        self.streams.bells.leave();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hears what there is beside the socket; `false` if the connection is over because of it.
    fn look_around(&mut self) -> bool {
        while let Some(looks) = &mut self.looks
            && let Poll::Ready(look) = looks.poll(&mut Context::from_waker(&self.looks_bell))
        {
            match look {
                Look::Stop => {
                    self.looks = None;
                    self.go();
                }
                Look::Time if !self.look() => return false,
                Look::Time => {}
            }
        }
        true
    }

    /// Looks at the time; `false` if the connection is to end because of it.
    fn look(&mut self) -> bool {
        let (now, times) = (Instant::now(), self.times);
        if std::mem::take(&mut self.is_heard) {
            (self.heard, self.is_pinged) = (now, false);
        }
        if std::mem::take(&mut self.is_taken) || self.out.bytes.is_empty() {
            self.taken = now;
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES;
        }
        let is_stuck = self.streams.all().any(|stream| stream.is_held_for(times.write, now));
        let silent = now - self.heard;
        let is_within = !self.input.is_empty() || self.gathering.is_some() || !self.is_configured;
        let is_gone = silent > times.ping + PONG_WITHIN || is_within && silent > times.read;
        if is_stuck || is_gone || now - self.taken > times.write {
            return false;
        }
        if silent >= times.ping && !self.is_pinged && self.is_configured {
            self.is_pinged = true;
            frame::put(&mut self.out.bytes, kind::PING, 0, 0, &PING);
        }
        true
    }

    /// Takes no new streams; the connection is over when the open ones are.
    fn go(&mut self) {
        if self.end == End::Open {
            self.end = End::Announced;
            frame::put_goaway(&mut self.out.bytes, STREAM_MAX, Reason::NoError);
            frame::put(&mut self.out.bytes, kind::PING, 0, 0, &PING_LAST);
        }
    }

    /// The client knows that we go.
    pub(super) fn go_last(&mut self) {
        if self.end == End::Announced {
            self.end = End::Last;
            frame::put_goaway(&mut self.out.bytes, self.last, Reason::NoError);
        }
    }

    fn is_done(&self) -> bool {
        self.end == End::Now || self.end == End::Last && self.streams.open == 0
    }

    fn close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Over TLS a goodbye takes words; nobody waits for it.
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        Poll::Ready(())
    }

    /// Reads what has arrived and does what it says. `false` if there was nothing, or no room for what it asks for.
    fn read(&mut self) -> io::Result<bool> {
        if self.out.is_full() || self.end == End::Now || !self.is_called && !self.is_unread {
            return Ok(false);
        }
        if !self.is_unread {
            self.input.reserve(self.read_bytes);
            let read = pin!(self.io.read_buf(&mut self.input));
            let Poll::Ready(count) = read.poll(&mut Context::from_waker(&self.socket_bell))? else {
                self.is_called = false;
                return Ok(false);
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if count >= self.read_bytes {
                self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            }
            self.is_heard = true;
        }
        let mut input = std::mem::take(&mut self.input);
        match self.receive(&input) {
            Ok(done) => input.advance(done),
            Err(reason) => self.fail(reason),
        }
        self.input = input;
        Ok(true)
    }

    /// Writes what the socket takes.
    fn write(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(&self.socket_bell);
        while !self.out.bytes.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(&mut cx, &self.out.bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            // At once, so that a client that always leaves something untaken makes us keep no more than that.
            self.out.bytes.drain(..count);
            self.is_taken = true;
        }
        self.out.bytes.shrink_to(KEPT_BYTES);
        if std::mem::take(&mut self.out.is_crowded) {
            self.streams.release();
        }
        Pin::new(&mut self.io).poll_flush(&mut cx)
    }

    /// Lets a stream's answer go on.
    pub(super) fn go_on(&mut self, place: usize) {
        match self.streams.poll(place, &mut self.out) {
            Left::Open => self.give_back(place),
            Left::Over => {
                self.resets = self.resets.saturating_sub(1);
                let is_over = self.streams.at(place).is_none_or(|stream| stream.is_over);
                self.leave(place, (!is_over).then_some(Reason::NoError));
            }
            Left::Broken => self.leave(place, Some(Reason::Internal)),
        }
    }

    /// Ends a stream, which its client is told where a reason is given.
    pub(super) fn leave(&mut self, place: usize, reason: Option<Reason>) {
        let Some((stream, unread)) = self.streams.remove(place) else { return };
        self.credit += unread;
        if let Some(reason) = reason {
            self.reset(stream.id, reason);
        }
    }

    /// Tells the client that a stream is over, and passes over what it has sent before it knows.
    pub(super) fn reset(&mut self, id: u32, reason: Reason) {
        /// As many as may be open.
        const KEPT: usize = PLACES;
        if self.lately.len() >= KEPT {
            self.lately.pop_front();
        }
        self.lately.push_back(id);
        frame::put_reset(&mut self.out.bytes, id, reason);
    }

    /// The client did what ends its connection.
    fn fail(&mut self, reason: Reason) {
        tracing::debug!(?reason, "an HTTP/2 connection ends because of what its client sent");
        frame::put_goaway(&mut self.out.bytes, self.last, reason);
        self.end = End::Now;
    }

    /// A stream, or all of them, are ended by what the client did.
    pub(super) fn fault(&mut self, fault: Fault) -> Result<(), Reason> {
        match fault {
            Fault::Connection(reason) => Err(reason),
            Fault::Stream(id, reason) => {
                self.count_reset()?;
                match self.streams.find(id).map(|(place, _)| place) {
                    Some(place) => self.leave(place, Some(reason)),
                    None => self.reset(id, reason),
                }
                Ok(())
            }
        }
    }
}
