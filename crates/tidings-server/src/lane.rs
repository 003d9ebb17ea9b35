//! A lane of its own for small publishes over HTTP/1.1: what most requests are, answered without the HTTP library, whose
//! way costs as much as everything else.
//!
//! Owns: a connection for as long as it sends nothing else, one request after the other. Never: guesses. Whatever is not
//! of the form that `request` knows goes to the library with every byte that was read, and the connection with it; what
//! is answered here is answered as it would be there.

mod request;

use crate::http::Sender;
use crate::looks::{Heard, Look, Looks, PARTS};
use crate::refusal::{Refusal, guarded};
use crate::{Door, http};
use ::http::StatusCode;
use axum::response::IntoResponse as _;
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use request::{Head, Read, Request};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// What is kept for the next answer of the memory of a larger one.
const OUTPUT_BYTES: usize = 4 << 10;

/// How the lane is left.
pub enum Leave {
    /// The library goes on, beginning with these bytes.
    Library(Bytes),
    /// The connection is over.
    Over,
}

/// Whether publishes may be answered here: their callers' calls are not counted, and none that is small is too large.
pub fn is_open(door: &Door) -> bool {
    !door.rates.is_bounded(crate::Call::Publish)
        && door.tidings.limits().body_bytes >= request::REQUEST_BYTES_MAX
}

/// Who publishes over a connection, and the head that says so.
struct Known {
    head: Head,
    sender: Sender,
}

/// Answers what the connection sends, until it sends something else.
pub async fn serve<T>(door: &Door, io: &mut T, looks: &mut Looks) -> Leave
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut input, mut output, mut known) = (BytesMut::new(), Vec::new(), None);
    // Looks since the last request was whole.
    let mut silent = 0;
    loop {
        let again = known.as_ref().and_then(|known: &Known| Some((known, known.head.again(&input)?)));
        let (published, len) = match again.filter(|(known, _)| known.sender.is_current(door)) {
            Some((known, (body, len))) => (guarded(known.sender.publish(door, body), Err).await, len),
            None => match request::read(&input) {
                Read::Whole(request) => (guarded(first(door, &request, &mut known), Err).await, request.len),
                Read::Other => return Leave::Library(input.freeze()),
                Read::Part => {
                    match looks.read(io, &mut input).await {
                        Heard::Bytes => {}
                        // The library knows what to say to whoever is slow, and when.
                        _ if !input.is_empty() => return Leave::Library(input.freeze()),
                        Heard::Look(Look::Time) if silent < PARTS => silent += 1,
                        Heard::Look(_) | Heard::End => return over(io).await,
                    }
                    continue;
                }
            },
        };
        silent = 0;
        input.advance(len);
        let is_last = looks.is_stop();
        output.clear();
        output.shrink_to(OUTPUT_BYTES);
        answer(door, published, is_last, &mut output).await;
        if write(io, &output, door.tidings.limits().write_timeout_ms).await.is_none() || is_last {
            return over(io).await;
        }
    }
}

/// Publishes for the first time with this head.
async fn first(door: &Door, request: &Request<'_>, known: &mut Option<Known>) -> Result<Vec<u8>, Refusal> {
    let sender = Sender::of(door, request.path, request.authorization).await?;
    let known = known.insert(Known { head: Head::of(request), sender });
    known.sender.publish(door, request.body).await
}

/// Brings the answer on its way; `None` if the client is gone, or does not read.
async fn write<T: AsyncWrite + Unpin>(io: &mut T, output: &[u8], within_ms: u64) -> Option<()> {
    // Nearly always the socket takes it at once: then there is nothing to wait for.
    let mut writing = pin!(async {
        io.write_all(output).await?;
        io.flush().await
    });
    let written = match writing.as_mut().now_or_never() {
        Some(written) => written,
        None => tokio::time::timeout(Duration::from_millis(within_ms), writing).await.ok()?,
    };
    written.ok()
}

/// Says goodbye, which over TLS takes words.
async fn over<T: AsyncWrite + Unpin>(io: &mut T) -> Leave {
    let _ = io.shutdown().now_or_never();
    Leave::Over
}

/// Puts the answer into `output`; the connection ends behind it if it `is_last`.
async fn answer(door: &Door, published: Result<Vec<u8>, Refusal>, is_last: bool, output: &mut Vec<u8>) {
    let status = match published {
        Ok(receipt) => {
            let headers = http::JSON.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            put(output, StatusCode::CREATED, headers, is_last, &receipt);
            StatusCode::CREATED
        }
        Err(refusal) => {
            // Nothing else makes room for others where a client sends nonsense without waiting for answers.
            tokio::task::coop::consume_budget().await;
            let (head, body) = refusal.into_response().into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            put(output, head.status, headers, is_last, &body);
            head.status
        }
    };
    http::count_publish(door, status);
}

/// An answer's bytes (RFC 9112).
fn put<'a>(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    is_last: bool,
    body: &[u8],
) {
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if is_last {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"content-length: ");
    http::put_number(out, body.len() as u64);
    out.extend_from_slice(b"\r\ndate: ");
    http::with_date(|date| out.extend_from_slice(date));
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}
