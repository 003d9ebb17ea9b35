//! A request's body, from the connection to whoever reads it.
//!
//! Owns: what has arrived and was not read; the stream's window bounds it. Never: reads a frame.

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// A body whose client ended its stream before the body's end.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off before its end")]
pub struct Broken;

/// A request's body as it arrives.
pub struct Incoming {
    /// `None` where there is none.
    inbox: Option<Arc<Inbox>>,
}

/// What the connection puts a body's parts into.
pub struct Inbox {
    state: Mutex<State>,
    /// Rung when the client may send more.
    bell: Waker,
}

/// So much read since the connection last asked is worth a ring. What all streams together leave unsaid is less than the
/// window of a connection.
const RING_BYTES: usize = 4 << 10;

#[derive(Default)]
struct State {
    parts: BytesMut,
    /// What is to come, where that was said.
    length: Option<u64>,
    end: Option<Result<(), Broken>>,
    reader: Option<Waker>,
    /// Bytes read since the connection last asked.
    read: usize,
    /// Nobody reads.
    is_left: bool,
}

impl Incoming {
    /// A body of nothing.
    pub fn empty() -> Self {
        Self { inbox: None }
    }

    /// A body, and where its parts go.
    pub fn new(length: Option<u64>, bell: Waker) -> (Self, Arc<Inbox>) {
        let state = State { length, ..State::default() };
        let inbox = Arc::new(Inbox { state: Mutex::new(state), bell });
        (Self { inbox: Some(Arc::clone(&inbox)) }, inbox)
    }
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the lock")
    }

    /// Adds a part. One that nobody will read counts as read.
    pub fn push(&self, part: &[u8]) {
        let mut state = self.state();
        if state.is_left {
            state.read += part.len();
            return;
        }
        state.parts.extend_from_slice(part);
        wake(state);
    }

    /// Nothing follows.
    pub fn end(&self, end: Result<(), Broken>) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        wake(state);
    }

    /// Bytes read since this was last asked.
    pub fn take_read(&self) -> usize {
        std::mem::take(&mut self.state().read)
    }

    /// Whether nobody reads.
    pub fn is_left(&self) -> bool {
        self.state().is_left
    }

    /// Bytes that nobody has read.
    pub fn unread(&self) -> usize {
        let state = self.state();
        state.parts.len() + state.read
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(inbox) = &self.inbox else { return Poll::Ready(None) };
        let mut state = inbox.state();
        if !state.parts.is_empty() {
            let part = std::mem::take(&mut state.parts).freeze();
            state.read += part.len();
            state.length = state.length.map(|length| length.saturating_sub(part.len() as u64));
            let is_worth_it = state.end.is_none() && state.read >= RING_BYTES;
            drop(state);
            if is_worth_it {
                inbox.bell.wake_by_ref();
            }
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match &state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(Broken)) => Poll::Ready(Some(Err(Broken))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(inbox) = &self.inbox else { return true };
        let state = inbox.state();
        state.parts.is_empty() && matches!(state.end, Some(Ok(())))
    }

    fn size_hint(&self) -> SizeHint {
        let Some(inbox) = &self.inbox else { return SizeHint::with_exact(0) };
        let state = inbox.state();
        match (state.length, &state.end) {
            (Some(length), _) => SizeHint::with_exact(length),
            (None, Some(_)) => SizeHint::with_exact(state.parts.len() as u64),
            (None, None) => SizeHint::default(),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(inbox) = &self.inbox else { return };
        let mut state = inbox.state();
        state.is_left = true;
        state.read += state.parts.len();
        state.parts = BytesMut::new();
        drop(state);
        inbox.bell.wake_by_ref();
    }
}
