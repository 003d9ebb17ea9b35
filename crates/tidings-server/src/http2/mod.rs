//! HTTP/2 (RFC 9113): one connection, its streams, and whoever answers them, all in one task.
//!
//! A call over gRPC is a few small frames, and so is a delivery to a stream; through a library that serves everybody each
//! of them costs several times what it costs here. Owns: frames, windows, header blocks, and the bounds on what a client
//! may make us keep or do. Never: knows what is asked; [`Answers`] does.
//!
//! `connection` reads and writes, `receive` takes what the client sends, `streams` brings answers on their way, `windows`
//! says how much may go; `frame`, `hpack`, `request` and `response` are the wire's forms, `body` is a request's body, `out`
//! what is to be written, `bells` who has something to do.

mod bells;
mod body;
mod connection;
mod frame;
mod hpack;
mod out;
mod receive;
mod request;
mod response;
mod streams;
#[cfg(test)]
mod tests;
mod windows;

pub use body::Incoming;
pub use connection::{Connection, Times};

use crate::looks::{Heard, Look, Looks, PARTS};
use crate::transport::Transport;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use frame::PREFACE;
use http::{Request, Response};
use std::pin::Pin;
use std::sync::Arc;

/// Whether a connection begins as HTTP/2 does; none if it is over before that can be told. What was read of it is read
/// again by whoever comes next.
pub async fn is_ahead(io: &mut Transport, looks: &mut Looks) -> Option<bool> {
    let mut begin = BytesMut::from(std::mem::take(&mut io.early));
    let mut silent = 0;
    loop {
        let known = begin.len().min(PREFACE.len());
        if begin[..known] != PREFACE[..known] || known == PREFACE.len() {
            io.early = begin.freeze();
            return Some(known == PREFACE.len() && io.early.starts_with(PREFACE));
        }
        match looks.read(io, &mut begin).await {
            Heard::Bytes => silent = 0,
            Heard::Look(Look::Time) if silent < PARTS => silent += 1,
            Heard::Look(_) | Heard::End => return None,
        }
    }
}

/// An answer that is being made.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a request is answered with.
pub enum Answer {
    Response(Response<Body>),
    Made(Made),
}

/// An answer whose header blocks are the same for many.
pub struct Made {
    /// `:status` first; the date is put behind it.
    pub head: &'static [u8],
    pub body: Bytes,
    pub trailers: &'static [u8],
}

/// Who answers what is asked over one connection.
pub trait Answers: Send + 'static {
    /// A request whose head is known: the same for many.
    type Known: Send + Sync + 'static;

    /// Answers a request.
    fn answer(&self, request: Request<Incoming>) -> Answering;

    /// Whether [`Answers::again`] may answer requests with this head, whose bodies are at hand whole.
    fn known(&self, head: &Request<()>) -> Option<Arc<Self::Known>>;

    /// Answers a request with a head that is known.
    fn again(&self, known: &Arc<Self::Known>, body: Bytes) -> Answering;
}
