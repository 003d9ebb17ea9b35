//! The streams of a connection: what is done for each, and bringing it on its way as far as the windows reach.
//!
//! Owns: who polls an answer. One alone is made in the connection's own task, as most connections carry one at a time;
//! one beside others in a task of its own, so that none waits for another's work.

use super::bells::{Bells, PLACES};
use super::body::{Broken, Inbox};
use super::frame::{self, PAYLOAD_MAX, flag, kind};
use super::out::Out;
use super::{Answer, Answering, response};
use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// One request and its answer.
pub struct Stream {
    pub id: u32,
    work: Work,
    /// Where the request's body goes; `None` where there is none, or nothing more comes.
    pub inbox: Option<Arc<Inbox>>,
    /// The client has sent everything.
    pub is_over: bool,
    /// What is to come of the body, where that was said.
    pub left: Option<u64>,
    /// What the client may send.
    pub receive: i64,
    /// Of that, what was read and not said again.
    pub credit: usize,
    /// What we may send.
    pub send: i64,
    /// Since when it waits for a window or for the socket.
    held: Option<Instant>,
    /// It was told that there is room again, and has not looked.
    is_released: bool,
    /// The answer has no body, whatever it says.
    is_head_only: bool,
}

enum Work {
    Answering(Answering),
    Sending(Bytes, Then),
    /// The answer is out, and somebody still takes what the client sends.
    Sent,
}

/// What comes behind the bytes at hand.
enum Then {
    Ask(Body),
    /// A header block.
    Trailers(Cow<'static, [u8]>),
    End,
}

/// How a stream is left by a poll.
pub enum Left {
    Open,
    /// Its answer is complete.
    Over,
    /// There is nothing more of its answer.
    Broken,
}

impl Stream {
    pub fn new(id: u32, answering: Answering, is_head_only: bool) -> Self {
        Self {
            id,
            work: Work::Answering(answering),
            inbox: None,
            is_over: false,
            left: None,
            receive: 0,
            credit: 0,
            send: 0,
            held: None,
            is_released: false,
            is_head_only,
        }
    }
}

/// All of a connection.
pub struct Streams {
    places: Vec<Option<Box<Stream>>>,
    /// Those of the streams at each place; 0 where there is none.
    ids: Vec<u32>,
    pub open: usize,
    pub bells: Bells,
}

impl Streams {
    pub fn new() -> Self {
        Self { places: Vec::new(), ids: Vec::new(), open: 0, bells: Bells::default() }
    }

    /// A place for one more; none if there are as many as may be.
    pub fn place(&mut self) -> Option<usize> {
        let free = self.ids.iter().position(|id| *id == 0);
        let place = free.unwrap_or(self.ids.len());
        if place >= PLACES {
            return None;
        }
        if free.is_none() {
            self.ids.push(0);
            self.places.push(None);
        }
        Some(place)
    }

    /// Begins at a free place.
    pub fn insert(&mut self, place: usize, stream: Stream) {
        self.ids[place] = stream.id;
        self.places[place] = Some(Box::new(stream));
        self.open += 1;
        self.bells.ring(place);
    }

    pub fn find(&mut self, id: u32) -> Option<(usize, &mut Stream)> {
        let place = self.ids.iter().position(|own| *own == id)?;
        Some((place, self.places[place].as_mut()?))
    }

    pub fn at(&mut self, place: usize) -> Option<&mut Stream> {
        self.places.get_mut(place)?.as_deref_mut()
    }

    /// Ends one, and answers how many bytes nobody has read.
    pub fn remove(&mut self, place: usize) -> Option<(Box<Stream>, usize)> {
        let stream = self.places.get_mut(place)?.take()?;
        self.ids[place] = 0;
        self.open -= 1;
        let unread = stream.inbox.as_ref().map_or(0, |inbox| {
            inbox.end(Err(Broken));
            inbox.unread()
        });
        Some((stream, unread))
    }

    /// Every open stream.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().flatten().map(|stream| &mut **stream)
    }

    /// Looks again at those that waited for a window or for the socket.
    pub fn release(&mut self) {
        (0..self.places.len()).for_each(|place| self.release_one(place));
    }

    pub fn release_one(&mut self, place: usize) {
        if let Some(stream) = self.at(place)
            && stream.held.is_some()
            && !std::mem::replace(&mut stream.is_released, true)
        {
            self.bells.ring(place);
        }
    }

    /// Goes on with the answer at a place.
    pub fn poll(&mut self, place: usize, out: &mut Out) -> Left {
        let Some(Some(stream)) = self.places.get_mut(place) else { return Left::Open };
        let mut cx = Context::from_waker(self.bells.bell(place));
        // A fault in one answer is not to end the others.
        catch_unwind(AssertUnwindSafe(|| stream.poll(&mut cx, out))).unwrap_or(Left::Broken)
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Out) -> Left {
        loop {
            let (bytes, then) = match &mut self.work {
                Work::Answering(answering) => {
                    let Poll::Ready(answer) = answering.as_mut().poll(cx) else { return Left::Open };
                    match self.begin(answer, out) {
                        Some(work) => self.work = work,
                        None => return self.sent(),
                    }
                    continue;
                }
                Work::Sending(bytes, then) => (bytes, then),
                Work::Sent => return self.sent(),
            };
            if !bytes.is_empty() {
                let room = self.send.min(out.window).min(PAYLOAD_MAX as i64).max(0) as usize;
                if room == 0 || out.is_full() {
                    out.is_crowded |= room > 0;
                    return self.hold();
                }
                self.held = None;
                let part = bytes.split_to(room.min(bytes.len()));
                let is_last = bytes.is_empty() && matches!(then, Then::End);
                let flags = if is_last { flag::END_STREAM } else { 0 };
                frame::put(&mut out.bytes, kind::DATA, flags, self.id, &part);
                self.send -= part.len() as i64;
                out.window -= part.len() as i64;
                if is_last {
                    return self.sent();
                }
                continue;
            }
            match then {
                Then::Ask(_) if out.is_full() => {
                    out.is_crowded = true;
                    return self.hold();
                }
                Then::Ask(body) => match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => {
                        self.held = None;
                        return Left::Open;
                    }
                    Poll::Ready(None) => *then = Then::End,
                    Poll::Ready(Some(Err(_))) => return Left::Broken,
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            *bytes = data;
                            if body.is_end_stream() {
                                *then = Then::End;
                            }
                        }
                        Err(frame) => {
                            let mut block = Vec::new();
                            response::fields(&frame.into_trailers().unwrap_or_default(), &mut block);
                            *then = Then::Trailers(block.into());
                        }
                    },
                },
                Then::Trailers(block) => {
                    out.block(self.id, true, |out| out.extend_from_slice(block));
                    return self.sent();
                }
                Then::End => {
                    frame::put(&mut out.bytes, kind::DATA, flag::END_STREAM, self.id, &[]);
                    return self.sent();
                }
            }
        }
    }

    fn hold(&mut self) -> Left {
        self.held.get_or_insert_with(Instant::now);
        self.is_released = false;
        Left::Open
    }

    /// Whether the client has taken nothing of the answer for that long.
    pub fn is_held_for(&self, time: Duration, now: Instant) -> bool {
        self.held.is_some_and(|held| now.saturating_duration_since(held) > time)
    }

    /// The answer is out: a client that gets it early may go on to send for as long as somebody listens.
    fn sent(&mut self) -> Left {
        let is_heard = !self.is_over && self.inbox.as_ref().is_some_and(|inbox| !inbox.is_left());
        if is_heard {
            self.work = Work::Sent;
        }
        if is_heard { Left::Open } else { Left::Over }
    }

    /// Puts the head of an answer on its way; none if that is all of it.
    fn begin(&self, answer: Answer, out: &mut Out) -> Option<Work> {
        match answer {
            Answer::Made(made) => {
                out.block(self.id, false, |out| {
                    out.extend_from_slice(made.head);
                    response::date(out);
                });
                Some(Work::Sending(made.body, Then::Trailers(made.trailers.into())))
            }
            Answer::Response(response) => {
                let (head, body) = response.into_parts();
                let is_all = self.is_head_only || body.is_end_stream();
                let length = body.size_hint().exact().filter(|length| !is_all || *length > 0);
                out.block(self.id, is_all, |out| response::head(&head, length, out));
                (!is_all).then(|| Work::Sending(Bytes::new(), Then::Ask(body)))
            }
        }
    }
}
