//! A short cut for `tidings.v1.Events/Publish`: for a single event the way through the services would cost as much as
//! everything else.
//!
//! Owns: the frame around the one message of such a call and of its answer, as gRPC over HTTP/2 has it: a byte that says
//! whether it is compressed, the length in four bytes, the message; the status behind it. Never: decides about an
//! event, or takes a call whose messages may be compressed; those go the long way.

use super::surround::{self, Tally};
use super::{Grpc, METHODS, native, status};
use crate::answers::Peer;
use crate::caller::Caller;
use crate::http::body::Parts;
use crate::rates::Call;
use crate::refusal::{Refusal, guarded};
use crate::{Door, gate, http2};
use axum::body::Body;
use bytes::Bytes;
use http::request;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body::{Frame, SizeHint};
use prost::Message as _;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tidings_model::{Code, Principal};
use tidings_proto::HEAD;
use tidings_proto::server::tidings::v1;
use tonic::{Code as Kind, Status};

/// This method in the table, whose first it is.
const METHOD: &str = METHODS[0];
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Whether a call can be answered here.
pub fn is_for<B>(request: &Request<B>) -> bool {
    is_plain(request, METHOD)
}

/// Whether it is a call of `method` whose messages are not compressed.
pub fn is_plain<B>(request: &Request<B>, method: &str) -> bool {
    request.uri().path() == method && !request.headers().contains_key(ENCODING)
}

/// An answer that goes well as far as its head.
pub fn response<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

pub async fn call<B>(grpc: &Grpc, peer: Peer, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let door = grpc.door();
    let (mut head, body) = request.into_parts();
    let answered = guarded(answer(door, peer, &mut head, body), |refusal| Err(refusal.into())).await;
    let mut tally = Tally::new(door.metrics.grpc(), METHOD);
    match answered {
        Ok(message) => response(Body::new(Answer { message: Some(message), is_over: false, tally })),
        Err(status) => {
            tally.kind = status.code();
            status.into_http::<tonic::body::Body>().map(|body| Body::new(surround::Answer::new(body, tally)))
        }
    }
}

async fn answer<B>(door: &Door, peer: Peer, head: &mut request::Parts, body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let who = gate::bearer(door, &head.headers).await?;
    if door.rates.is_bounded(Call::Publish) {
        head.extensions.insert(peer);
        let Caller(peer) = Caller::of(door, head);
        door.rates.check(&who, Some(peer), Call::Publish, "Publish", door.tidings.clock().now())?;
    }
    let limits = door.tidings.limits();
    let call = whole(body, limits.read_timeout_ms, limits.body_bytes).await?;
    // Boxed: what it needs is large, and would be moved about with the rest.
    Box::pin(publish(door, &who, &call)).await
}

/// Publishes what a whole call holds, and answers with the frame of the receipt.
async fn publish(door: &Door, who: &Arc<Principal>, call: &Bytes) -> Result<Bytes, Status> {
    let message = unframed(call, door.tidings.limits().body_bytes)?;
    let request = v1::PublishRequest::decode(message)
        .map_err(|e| Refusal::new(Code::EventInvalid, format!("the message is no PublishRequest: {e}")))?;
    Ok(framed(&native::publish(door, who, request).await?))
}

/// The head of a call. Whoever publishes again mostly says the same again.
pub struct Known {
    door: Door,
    headers: HeaderMap,
    /// Who calls, once that was found out.
    who: Mutex<Option<Arc<Principal>>>,
}

impl Known {
    /// `None` where each call has to be looked at by itself, since calls are counted.
    pub fn of(door: &Door, head: &Request<()>) -> Option<Arc<Self>> {
        let is_open = !door.rates.is_bounded(Call::Publish);
        let (door, headers) = (door.clone(), head.headers().clone());
        is_open.then(|| Arc::new(Self { door, headers, who: Mutex::default() }))
    }

    async fn who(&self) -> Result<Arc<Principal>, Refusal> {
        let known = self.place().clone();
        let is_current =
            |who: &Arc<Principal>| who.is_current() && who.is_in_time(self.door.tidings.clock().now());
        if let Some(who) = known.filter(is_current) {
            return Ok(who);
        }
        let who = gate::bearer(&self.door, &self.headers).await?;
        *self.place() = Some(Arc::clone(&who));
        Ok(who)
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<Principal>>> {
        self.who.lock().expect("no panic while holding the lock")
    }

    async fn answer(&self, call: &Bytes) -> Result<Bytes, Status> {
        publish(&self.door, &self.who().await?, call).await
    }
}

/// Answers a whole call with a head that is known.
pub async fn again(known: Arc<Known>, call: Bytes) -> http2::Answer {
    let mut tally = Tally::new(known.door.metrics.grpc(), METHOD);
    match guarded(known.answer(&call), |refusal| Err(refusal.into())).await {
        Ok(body) => {
            tally.kind = Kind::Ok;
            http2::Answer::Made(http2::Made { head: HEAD_BLOCK, body, trailers: TRAILERS_BLOCK })
        }
        Err(status) => {
            tally.kind = status.code();
            http2::Answer::Response(status.into_http::<tonic::body::Body>().map(Body::new))
        }
    }
}

/// The head of an answer that goes well, and what stands behind its message, as blocks of HTTP/2 that refer to no table
/// (RFC 7541): `:status: 200` and `content-type: application/grpc`, then `grpc-status: 0`.
const HEAD_BLOCK: &[u8] = b"\x88\x00\x0ccontent-type\x10application/grpc";
const TRAILERS_BLOCK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// All that is sent before the end of the call, in one piece.
pub async fn whole<B>(body: B, within_ms: u64, max: usize) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let whole = Parts::new(body, within_ms).whole(max + HEAD).await;
    whole.map_err(|refusal| match refusal.code {
        Code::BodyTooLarge => too_large(max),
        _ => refusal.into(),
    })
}

/// The one message of a call.
pub fn unframed(call: &Bytes, max: usize) -> Result<Bytes, Status> {
    let incomplete = |what: &str| Status::from(Refusal::new(Code::BodyIncomplete, what));
    let Some((head, message)) = call.split_at_checked(HEAD) else {
        return Err(incomplete("the call has no message"));
    };
    if head[0] != 0 {
        let detail = "the message is compressed, and the call does not say how";
        return Err(status::of(Refusal::new(Code::MediaTypeUnsupported, detail)));
    }
    let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if len > max {
        return Err(too_large(max));
    }
    match message.len() {
        sent if sent == len => Ok(call.slice(HEAD..)),
        sent if sent < len => Err(incomplete("the call broke off within its message")),
        _ => Err(status::of(Refusal::new(Code::EventInvalid, "the call takes one message"))),
    }
}

fn framed(message: &v1::PublishResponse) -> Bytes {
    tidings_proto::framed(message.encoded_len(), |out| message.encode_raw(out))
}

fn too_large(max: usize) -> Status {
    status::of(Refusal::new(Code::BodyTooLarge, format!("the message is larger than {max} bytes")))
}

/// The answer's message, then the status: it went well.
struct Answer {
    message: Option<Bytes>,
    is_over: bool,
    tally: Tally,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        self.tally.kind = Kind::Ok;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(call: &[u8]) -> String {
        let status = unframed(&Bytes::copy_from_slice(call), 100).unwrap_err();
        status.metadata().get(status::CODE).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_call_has_one_whole_message_that_is_not_compressed() {
        let message = unframed(&Bytes::from_static(b"\0\0\0\0\x03abc"), 100).unwrap();
        assert_eq!(message, "abc");
        assert_eq!(unframed(&Bytes::from_static(&[0; 5]), 100).unwrap(), "");
        assert_eq!(refused(b""), "body_incomplete");
        assert_eq!(refused(b"\0\0\0\0"), "body_incomplete");
        assert_eq!(refused(b"\0\0\0\0\x03ab"), "body_incomplete");
        assert_eq!(refused(b"\0\0\0\0\x03abcd"), "event_invalid");
        assert_eq!(refused(b"\x01\0\0\0\x03abc"), "media_type_unsupported");
        assert_eq!(refused(b"\0\0\0\0\x65abc"), "body_too_large");
    }

    #[tokio::test]
    async fn a_call_arrives_in_any_pieces_and_within_its_bound() {
        let parts = |sizes: &[usize]| {
            let parts: Vec<_> =
                sizes.iter().map(|n| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; *n])))).collect();
            http_body_util::StreamBody::new(futures_util::stream::iter(parts))
        };
        for sizes in [&[][..], &[7], &[0, 7], &[3, 4], &[1, 0, 2, 4]] {
            let len: usize = sizes.iter().sum();
            assert_eq!(whole(parts(sizes), 1_000, 2).await.unwrap(), vec![b'x'; len], "{sizes:?}");
        }
        assert!(whole(parts(&[8]), 1_000, 2).await.is_err());
        assert!(whole(parts(&[4, 4]), 1_000, 2).await.is_err());
        assert!(whole(parts(&[4, 3, 1]), 1_000, 2).await.is_err());
    }

    #[test]
    fn an_answer_is_framed_as_a_call_is() {
        let answer = v1::PublishResponse { cursor: "c".into(), ..Default::default() };
        let message = unframed(&framed(&answer), 100).unwrap();
        assert_eq!(v1::PublishResponse::decode(message).unwrap(), answer);
    }
}
