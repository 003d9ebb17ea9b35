//! A short cut for `tidings.v1.Events/Subscribe`: what was made once for all streams goes to HTTP/2 as it is.
//!
//! Owns: putting small messages that are at hand together into one frame of HTTP/2, and the status behind the last.
//! Never: takes a call whose message may be compressed; that goes the long way.

use super::surround::Timed;
use super::watch::{Messages, Wire};
use super::{native, single};
use crate::Door;
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use futures_util::Stream as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use prost::Message as _;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidings_proto::server::tidings::v1;
use tonic::Status;

const METHOD: &str = "/tidings.v1.Events/Subscribe";
/// About as much is put together.
const FRAME_BYTES: usize = 32 << 10;

/// Whether a call can be answered here.
pub fn is_for<B>(request: &Request<B>) -> bool {
    single::is_plain(request, METHOD)
}

/// Reads the call; its caller has been found by `surround`.
pub async fn open(door: &Door, request: Request<Timed>) -> Result<Messages<native::Native>, Status> {
    let (head, body) = request.into_parts();
    let limits = door.tidings.limits();
    let call = single::whole(body, limits.read_timeout_ms, limits.body_bytes).await?;
    let message = single::unframed(&call, limits.body_bytes)?;
    let request = v1::SubscribeRequest::decode(message)
        .map_err(|e| Refusal::parameter(format!("the message is no SubscribeRequest: {e}")))?;
    native::subscribe(door, native::caller_in(&head.extensions), request).await
}

pub fn answer<W: Wire>(messages: Messages<W>) -> Response<Streamed<W>> {
    single::response(Streamed { messages, is_over: false })
}

/// The messages, then the status.
pub struct Streamed<W> {
    messages: Messages<W>,
    is_over: bool,
}

impl<W: Wire> Streamed<W> {
    /// The message's frame, with those of others that are at hand behind it.
    fn gather(&mut self, first: Bytes) -> Bytes {
        let mut next = self.messages.at_hand();
        if next.is_none() {
            return first;
        }
        let mut all = BytesMut::from(first);
        while let Some(message) = next {
            all.extend_from_slice(&message.into_frame());
            next = if all.len() < FRAME_BYTES { self.messages.at_hand() } else { None };
        }
        all.freeze()
    }
}

impl<W: Wire> http_body::Body for Streamed<W> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let status = match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
            Some(Ok(message)) => {
                return Poll::Ready(Some(Ok(Frame::data(self.gather(message.into_frame())))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // A text that no header takes: the code says the most of it.
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}
