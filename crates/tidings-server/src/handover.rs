//! Takes a plain connection away from the HTTP library once it has written the head of an answer.
//!
//! hyper keeps some 20 KB for a connection whose body streams on for hours, and a write through it costs
//! several times the system call. So the body of an event stream, when it is first polled (the head is in
//! hyper's buffer then), arms the handover; at hyper's next flush (the head is on the wire) [`Io`] gives the
//! socket away; and the body ends with an error, which lets hyper forget the connection.

use bytes::Bytes;
use http_body::Frame;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

/// Asks for the socket of the connection that a request came over. In each request's extensions.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    None,
    /// The head is in the library's buffer.
    Armed {
        to: oneshot::Sender<TcpStream>,
        body: Waker,
    },
    Done,
}

impl Handover {
    /// A body that never yields anything, and the socket once the head before it has been written.
    pub fn after_head(&self) -> (HandoverBody, oneshot::Receiver<TcpStream>) {
        let (to, socket) = oneshot::channel();
        (HandoverBody { handover: self.clone(), to: Some(to) }, socket)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic while holding the lock")
    }
}

/// The body of an answer whose socket is about to be taken.
pub struct HandoverBody {
    handover: Handover,
    to: Option<oneshot::Sender<TcpStream>>,
}

/// The library may forget the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection was handed over")]
pub struct HandedOver;

impl http_body::Body for HandoverBody {
    type Data = Bytes;
    type Error = HandedOver;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandedOver>>> {
        let handover = self.handover.clone();
        let mut state = handover.state();
        match (&mut *state, self.to.take()) {
            (State::Done, _) => Poll::Ready(Some(Err(HandedOver))),
            (_, Some(to)) => {
                *state = State::Armed { to, body: cx.waker().clone() };
                Poll::Pending
            }
            (State::Armed { body, .. }, None) => {
                body.clone_from(cx.waker());
                Poll::Pending
            }
            (State::None, None) => Poll::Pending,
        }
    }
}

/// A plain connection as the HTTP library sees it.
pub struct Io {
    /// `None` once it was given away.
    tcp: Option<TcpStream>,
    /// `None` where it never will be.
    handover: Option<Handover>,
}

impl Io {
    pub fn new(tcp: TcpStream, handover: Handover) -> Self {
        Self { tcp: Some(tcp), handover: Some(handover) }
    }

    /// It is not given away.
    pub fn keep(&mut self) {
        self.handover = None;
    }

    /// The socket, after an upgrade.
    pub fn into_tcp(self) -> Option<TcpStream> {
        self.tcp
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.tcp {
            Some(tcp) => Pin::new(tcp).poll_read(cx, buf),
            // The body's error ends the connection; reading has nothing to add.
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.tcp {
            Some(tcp) => Pin::new(tcp).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (&mut self.tcp, bufs) {
            // What a call is answered with is in one piece, and the system takes that with less ado.
            (Some(tcp), [buf]) => Pin::new(tcp).poll_write(cx, buf),
            (Some(tcp), bufs) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            (None, _) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything the library had is in the socket now; TCP itself needs no flush.
        let Some(handover) = self.handover.clone() else { return Poll::Ready(Ok(())) };
        let mut state = handover.state();
        if matches!(*state, State::Armed { .. })
            && let State::Armed { to, body } = std::mem::replace(&mut *state, State::Done)
        {
            if let Some(tcp) = self.tcp.take() {
                let _ = to.send(tcp);
            }
            body.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tcp {
            Some(tcp) => Pin::new(tcp).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// A body that carries what is written into the other end of a pair.
pub struct PairBody {
    pair: UnixStream,
}

impl PairBody {
    pub fn new(pair: UnixStream) -> Self {
        Self { pair }
    }
}

impl http_body::Body for PairBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut space = [0; 8192];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.pair).poll_read(cx, &mut buf))?;
        match buf.filled() {
            [] => Poll::Ready(None),
            some => Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(some))))),
        }
    }
}
