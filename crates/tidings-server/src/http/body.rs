//! A request's body, part by part.
//!
//! Owns: the bounds in size and time, and taking what is left of a refused body from the wire. Never: holds
//! more than its caller asked for.

use crate::refusal::Refusal;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tidings_engine::Services;
use tidings_model::Code;

/// What is taken from the wire after a refusal, so that the client gets to read it.
const LEFTOVER_BYTES_MAX: usize = 64 << 20;
const LEFTOVER_WITHIN: Duration = Duration::from_secs(10);

/// The parts of a body as they arrive.
pub struct Parts<B = Body> {
    body: B,
    within: Duration,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Parts<B> {
    /// Each part must arrive within `within_ms`.
    pub fn new(body: B, within_ms: u64) -> Self {
        Self { body, within: Duration::from_millis(within_ms) }
    }

    /// The next part; `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// When the body ends before its announced end, or a part takes too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            if self.body.is_end_stream() {
                return Ok(None);
            }
            let late = |_| Refusal::new(Code::Timeout, "the body did not go on within the time allowed");
            // Most bodies arrive with their head: then there is nothing to wait for.
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => tokio::time::timeout(self.within, self.body.frame()).await.map_err(late)?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(Refusal::new(Code::BodyIncomplete, "the body broke off before its end"));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {} // Trailers, and parts that hold nothing.
                },
            }
        }
    }

    /// The whole body, if it has at most `max` bytes.
    pub async fn whole(&mut self, max: usize) -> Result<Bytes, Refusal> {
        let too_large = || {
            let detail = format!("the body has more than {max} bytes; NDJSON has no such bound");
            Refusal::new(Code::BodyTooLarge, detail)
        };
        if self.body.size_hint().lower() > max as u64 {
            return Err(too_large());
        }
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if self.body.is_end_stream() && first.len() <= max {
            return Ok(first); // The usual case: nothing is copied.
        }
        let mut whole = BytesMut::from(first);
        while whole.len() <= max {
            match self.next().await? {
                None => return Ok(whole.freeze()),
                Some(part) => whole.extend_from_slice(&part),
            }
        }
        Err(too_large())
    }
}

impl Parts {
    /// Takes what is left from the wire, within bounds: a connection closed with bytes unread is reset, and
    /// the client would see that instead of the answer.
    pub fn discard(mut self, services: &Services) {
        if self.body.is_end_stream() {
            return;
        }
        let stop = services.stop().clone();
        services.spawn("discard", async move {
            let rest = async {
                let mut left = LEFTOVER_BYTES_MAX;
                while let Ok(Some(part)) = self.next().await {
                    let Some(less) = left.checked_sub(part.len()) else { return };
                    left = less;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(LEFTOVER_WITHIN, rest) => {}
            }
        });
    }
}

/// A body whose rest is taken from the wire when whoever had it lets go of it, as [`Parts::discard`] does.
struct Owed {
    body: Body,
    within_ms: u64,
    services: Services,
}

/// `body`, taken from the wire to its end whether its handler reads it or not. An empty one is given back as it is.
pub fn owed(body: Body, within_ms: u64, services: &Services) -> Body {
    if body.is_end_stream() { body } else { Body::new(Owed { body, within_ms, services: services.clone() }) }
}

impl http_body::Body for Owed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        Parts::new(body, self.within_ms).discard(&self.services);
    }
}
