//! What a client sends: frame by frame, as RFC 9113 allows it.
//!
//! Owns: which frame may come when, and the bounds against clients that send what costs us more than them.

use super::body::{Inbox, Incoming};
use super::connection::{Connection, End, PING_LAST};
use super::frame::{self, Fault, HEAD, Head, PAYLOAD_MAX, PREFACE, Reason, flag, kind, setting};
use super::hpack::TABLE_BYTES;
use super::request::{Fields, HEADERS_BYTES_MAX, Refused};
use super::streams::Stream;
use super::windows::STREAM_WINDOW;
use super::{Answer, Answering, Answers};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::task::Waker;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// Frames of one header block.
const BLOCK_FRAMES_MAX: u32 = 64;
/// Streams that a client may end, or make us end, before their answer, for each that is answered.
const RESETS_MAX: u32 = 1_000;

/// A header block of which more frames follow.
pub struct Gathering {
    stream: u32,
    is_last: bool,
    block: Vec<u8>,
    frames: u32,
}

pub(super) const PROTOCOL: Fault = Fault::Connection(Reason::Protocol);

impl<T: AsyncRead + AsyncWrite + Unpin, A: Answers> Connection<T, A> {
    /// Does what the whole frames at the beginning of `input` say, and answers how many bytes these are.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<usize, Reason> {
        let mut at = 0;
        if !self.is_greeted {
            let Some(preface) = input.get(..PREFACE.len()) else { return Ok(0) };
            if preface != PREFACE {
                return Err(Reason::Protocol);
            }
            (self.is_greeted, at) = (true, PREFACE.len());
        }
        self.is_unread = false;
        while let Some(head) = Head::read(&input[at..]) {
            if head.len > PAYLOAD_MAX {
                return Err(Reason::FrameSize);
            }
            let Some(payload) = input[at + HEAD..].get(..head.len) else { break };
            // Answers to pings and settings are not held back by a window.
            if self.out.is_full() {
                self.is_unread = true;
                break;
            }
            at += HEAD + head.len;
            match self.frame(head, payload, &input[at..]) {
                Ok(more) => at += more,
                Err(fault) => self.fault(fault)?,
            }
        }
        Ok(at)
    }

    /// One frame. Answers how much of the `rest` was taken with it.
    fn frame(&mut self, head: Head, payload: &[u8], rest: &[u8]) -> Result<usize, Fault> {
        let is_first = !std::mem::replace(&mut self.is_configured, true);
        if is_first && (head.kind != kind::SETTINGS || head.is(flag::ACK)) {
            return Err(PROTOCOL);
        }
        if let Some(gathering) = &self.gathering
            && (head.kind != kind::CONTINUATION || head.stream != gathering.stream)
        {
            return Err(PROTOCOL);
        }
        let is_of_stream = head.stream != 0;
        match head.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM if !is_of_stream => {
                return Err(PROTOCOL);
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY if is_of_stream => return Err(PROTOCOL),
            kind::DATA => self.data(head, payload)?,
            kind::HEADERS => return self.headers(head, payload, rest),
            kind::CONTINUATION => return self.continuation(head, payload, rest),
            kind::PRIORITY => {
                let priority =
                    payload.try_into().map_err(|_| Fault::Stream(head.stream, Reason::FrameSize))?;
                if frame::is_own_parent(head.stream, priority) {
                    return Err(PROTOCOL);
                }
            }
            kind::RST_STREAM => {
                frame::number(payload)?;
                self.begun(head.stream)?;
                if let Some((place, _)) = self.streams.find(head.stream) {
                    self.leave(place, None);
                    self.count_reset().map_err(Fault::Connection)?;
                }
                // It knows now; what it sends from here on was not on its way.
                self.lately.retain(|id| *id != head.stream);
            }
            kind::SETTINGS => self.settings(head, payload)?,
            kind::PUSH_PROMISE => return Err(PROTOCOL),
            kind::PING => {
                if payload.len() != 8 {
                    return Err(Fault::Connection(Reason::FrameSize));
                }
                if !head.is(flag::ACK) {
                    frame::put(&mut self.out.bytes, kind::PING, flag::ACK, 0, payload);
                } else if payload == PING_LAST {
                    self.go_last();
                }
            }
            // The client opens no more streams; those there are go on.
            kind::GOAWAY if payload.len() < 8 => return Err(Fault::Connection(Reason::FrameSize)),
            kind::WINDOW_UPDATE => self.window(head.stream, payload)?,
            _ => {}
        }
        Ok(0)
    }

    /// Only streams that were begun have anything but a head.
    pub(super) fn begun(&self, stream: u32) -> Result<(), Fault> {
        if stream > self.last || stream.is_multiple_of(2) { Err(PROTOCOL) } else { Ok(()) }
    }

    pub(super) fn count_reset(&mut self) -> Result<(), Reason> {
        self.resets += 1;
        if self.resets > RESETS_MAX { Err(Reason::Calm) } else { Ok(()) }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        self.begun(head.stream)?;
        let len = payload.len() as i64;
        self.receive -= len;
        if self.receive < 0 {
            return Err(Fault::Connection(Reason::FlowControl));
        }
        let part = frame::unpadded(head, payload)?;
        // Whoever is not to read it, it counts as read.
        let Some((place, stream)) = self.streams.find(head.stream) else {
            self.credit += payload.len();
            let is_late = self.lately.contains(&head.stream);
            return if is_late { Ok(()) } else { Err(Fault::Stream(head.stream, Reason::StreamClosed)) };
        };
        stream.receive -= len;
        let fault = if stream.is_over {
            Some(Reason::StreamClosed)
        } else if stream.receive < 0 {
            Some(Reason::FlowControl)
        } else {
            stream.left = stream.left.map(|left| left.wrapping_sub(part.len() as u64));
            let is_wrong = stream
                .left
                .is_some_and(|left| left > i64::MAX as u64 || head.is(flag::END_STREAM) && left > 0);
            is_wrong.then_some(Reason::Protocol)
        };
        if let Some(reason) = fault {
            self.credit += payload.len();
            return Err(Fault::Stream(head.stream, reason));
        }
        self.credit += payload.len() - part.len();
        stream.credit += payload.len() - part.len();
        match &stream.inbox {
            None => self.credit += part.len(),
            Some(inbox) => {
                inbox.push(part);
                if head.is(flag::END_STREAM) {
                    inbox.end(Ok(()));
                }
            }
        }
        stream.is_over = head.is(flag::END_STREAM);
        // Also where nobody reads: windows are opened, and an end may be all that was waited for.
        self.streams.bells.ring(place);
        Ok(())
    }

    fn headers(&mut self, head: Head, payload: &[u8], rest: &[u8]) -> Result<usize, Fault> {
        if head.stream.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        let block = frame::block(head, payload)?;
        let is_last = head.is(flag::END_STREAM);
        if head.is(flag::END_HEADERS) {
            return self.block(head.stream, is_last, block, rest);
        }
        self.gathering = Some(Gathering { stream: head.stream, is_last, block: block.to_vec(), frames: 1 });
        Ok(0)
    }

    fn continuation(&mut self, head: Head, payload: &[u8], rest: &[u8]) -> Result<usize, Fault> {
        let mut gathering = self.gathering.take().ok_or(PROTOCOL)?;
        gathering.block.extend_from_slice(payload);
        gathering.frames += 1;
        if gathering.frames > BLOCK_FRAMES_MAX || gathering.block.len() > HEADERS_BYTES_MAX {
            return Err(Fault::Connection(Reason::Calm));
        }
        if head.is(flag::END_HEADERS) {
            return self.block(gathering.stream, gathering.is_last, &gathering.block, rest);
        }
        self.gathering = Some(gathering);
        Ok(0)
    }

    /// A whole header block.
    fn block(&mut self, id: u32, is_last: bool, block: &[u8], rest: &[u8]) -> Result<usize, Fault> {
        // What most calls begin with is what the one before began with.
        if id > self.last
            && self.end != End::Last
            && let Some((own, known)) = &self.known
            && **own == *block
            && let Some(body) = whole(id, rest)
        {
            let answering = self.answers.again(known, Bytes::copy_from_slice(body));
            self.last = id;
            return self.again(id, answering, body.len());
        }
        let mut fields = Fields::default();
        let decoded = self.decoder.decode(block, |name, value| fields.add(name, value));
        let is_pure = decoded.map_err(|_| Fault::Connection(Reason::Compression))?;
        if let Some((place, stream)) = self.streams.find(id) {
            return match (stream.is_over, is_last && fields.are_trailers()) {
                (true, _) => Err(Fault::Stream(id, Reason::StreamClosed)),
                (false, false) => Err(Fault::Stream(id, Reason::Protocol)),
                (false, true) if stream.left.is_some_and(|left| left > 0) => {
                    Err(Fault::Stream(id, Reason::Protocol))
                }
                (false, true) => {
                    stream.is_over = true;
                    if let Some(inbox) = &stream.inbox {
                        inbox.end(Ok(()));
                    }
                    self.streams.bells.ring(place);
                    Ok(0)
                }
            };
        }
        if id <= self.last {
            let is_late = self.lately.contains(&id);
            return if is_late { Ok(0) } else { Err(Fault::Connection(Reason::StreamClosed)) };
        }
        if self.end == End::Last {
            return Ok(0); // The client was told that nothing answers this.
        }
        self.last = id;
        let (request, length) = match fields.request() {
            Ok(request) => request,
            Err(Refused::TooLarge) => {
                self.insert(id, is_last, false, |_, _| (too_large(), None))?;
                return Ok(0);
            }
            Err(Refused::Malformed) => return Err(Fault::Stream(id, Reason::Protocol)),
        };
        if is_last && length.is_some_and(|length| length > 0) {
            return Err(Fault::Stream(id, Reason::Protocol));
        }
        if length.is_none()
            && let Some(known) = self.answers.known(&request)
            && let Some(body) = whole(id, rest)
        {
            let answering = self.answers.again(&known, Bytes::copy_from_slice(body));
            if is_pure {
                self.known = Some((block.into(), known));
            }
            return self.again(id, answering, body.len());
        }
        self.begin(request.map(|()| length), id, is_last)?;
        Ok(0)
    }

    /// Begins the answer to a request.
    fn begin(&mut self, request: Request<Option<u64>>, id: u32, is_last: bool) -> Result<(), Fault> {
        let is_head_only = request.method() == Method::HEAD;
        let (head, length) = request.into_parts();
        let is_beside = self.streams.open > 0;
        let place = self.insert(id, is_last, is_head_only, |answers, bell| {
            let (body, inbox) = match is_last {
                true => (Incoming::empty(), None),
                false => {
                    let (body, inbox) = Incoming::new(length, bell);
                    (body, Some(inbox))
                }
            };
            let answering = answers.answer(Request::from_parts(head, body));
            (if is_beside { elsewhere(answering) } else { answering }, inbox)
        })?;
        if let Some(stream) = self.streams.at(place) {
            stream.left = length;
        }
        Ok(())
    }

    /// Answers a request that was whole with a head and a body in one frame.
    fn again(&mut self, id: u32, answering: Answering, len: usize) -> Result<usize, Fault> {
        self.receive -= len as i64;
        self.credit += len;
        if self.receive < 0 {
            return Err(Fault::Connection(Reason::FlowControl));
        }
        let place = self.insert(id, true, false, |_, _| (answering, None))?;
        self.go_on(place);
        Ok(HEAD + len)
    }

    fn insert(
        &mut self,
        id: u32,
        is_over: bool,
        is_head_only: bool,
        begin: impl FnOnce(&A, Waker) -> (Answering, Option<Arc<Inbox>>),
    ) -> Result<usize, Fault> {
        let place = self.streams.place().ok_or(Fault::Stream(id, Reason::Refused))?;
        let (answering, inbox) = begin(&self.answers, self.streams.bells.bell(place).clone());
        let mut stream = Stream::new(id, answering, is_head_only);
        (stream.inbox, stream.is_over) = (inbox, is_over);
        (stream.receive, stream.send) = (STREAM_WINDOW, self.out.stream_window);
        self.streams.insert(place, stream);
        Ok(place)
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let settings = payload.chunks_exact(6);
        if !settings.remainder().is_empty() || head.is(flag::ACK) && !payload.is_empty() {
            return Err(Fault::Connection(Reason::FrameSize));
        }
        if head.is(flag::ACK) {
            return Ok(());
        }
        for setting in settings {
            let [a, b, value @ ..] = setting else { continue };
            let value = frame::number(value)?;
            match u16::from_be_bytes([*a, *b]) {
                // Our blocks refer to no table; only a smaller bound has to be taken note of.
                setting::HEADER_TABLE_SIZE => self.out.is_table_due |= (value as usize) < TABLE_BYTES,
                setting::ENABLE_PUSH if value > 1 => return Err(PROTOCOL),
                setting::INITIAL_WINDOW_SIZE => self.widen(i64::from(value))?,
                setting::MAX_FRAME_SIZE => match value as usize {
                    PAYLOAD_MAX..0x100_0000 => {}
                    _ => return Err(PROTOCOL),
                },
                _ => {}
            }
        }
        frame::put(&mut self.out.bytes, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }
}

/// The body of a stream's request where it follows at once in one plain frame.
fn whole(id: u32, rest: &[u8]) -> Option<&[u8]> {
    let head = Head::read(rest)?;
    let is_all = head.kind == kind::DATA && head.stream == id && head.flags == flag::END_STREAM;
    rest[HEAD..].get(..head.len).filter(|_| is_all && head.len <= PAYLOAD_MAX)
}

/// Makes an answer in a task of its own.
fn elsewhere(answering: Answering) -> Answering {
    let task = AbortOnDropHandle::new(tokio::spawn(answering));
    Box::pin(async move {
        match task.await {
            Ok(answer) => answer,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    })
}

fn too_large() -> Answering {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Box::pin(std::future::ready(Answer::Response(response)))
}
