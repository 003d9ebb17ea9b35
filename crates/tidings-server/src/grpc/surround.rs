//! What surrounds every call: who calls and how often, how long its parts may take, what is counted.
//!
//! Owns: that a call without a valid token, or one too many, is answered before its body is read. Never: looks into
//! a message.

use super::{Grpc, METHODS, event_relay, status, streamed};
use crate::caller::Caller;
use crate::metrics::GrpcCalls;
use crate::rates::Call;
use crate::refusal::{Refusal, guarded};
use crate::{Door, gate};
use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidings_model::Code;
use tokio::time::{Instant, Sleep};
use tonic::{Code as Kind, Status};

/// What everybody may ask: it shows no more than is published with the program.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];
/// Calls in which a client may be silent for as long as it likes.
const PATIENT: [&str; 3] = ["/tidings.v1.Events/PublishStream", "/grpc.health.", "/grpc.reflection."];

pub async fn call(grpc: &Grpc, request: Request<Body>) -> Response<Body> {
    let door = grpc.door();
    let (mut head, body) = request.into_parts();
    let path = head.uri.path();
    let method = METHODS.iter().copied().find(|own| *own == path).unwrap_or("-");
    let begins = |list: &[&str]| list.iter().any(|own| path.starts_with(own));
    let within = (!begins(&PATIENT)).then(|| Duration::from_millis(door.tidings.limits().read_timeout_ms));
    if !begins(&OPEN)
        && let Err(refused) = admit(door, &mut head, method).await
    {
        return finish(door.metrics.grpc(), method, refused.into_http::<Body>());
    }
    let request = Request::from_parts(head, Timed::new(body, within));
    if streamed::is_for(&request) {
        let opened = guarded(streamed::open(door, request), |refusal| Err(status::of(refusal)));
        return match opened.await {
            Ok(messages) => finish(door.metrics.grpc(), method, streamed::answer(messages)),
            Err(status) => finish(door.metrics.grpc(), method, status.into_http::<Body>()),
        };
    }
    let response = guarded(grpc.dispatch(request), |refusal| status::of(refusal).into_http()).await;
    finish(door.metrics.grpc(), method, response)
}

/// Finds out who calls, and counts the call. The caller stands in the extensions afterwards.
async fn admit(door: &Door, head: &mut Parts, method: &'static str) -> Result<(), Status> {
    let is_relay = head.uri.path().starts_with("/eventrelay.");
    let who = gate::bearer(door, &head.headers).await.map_err(|refusal| match is_relay {
        true => event_relay::unknown_caller(refusal),
        false => Status::from(refusal),
    })?;
    let caller = Caller::of(door, head);
    let call = match method {
        // Counted when it is known whether the events are to be stored, and for each request of the stream.
        "/eventrelay.Events/PublishEvents" | "/tidings.v1.Events/PublishStream" => None,
        "/eventrelay.Topics/CreateTopic" => Some(Call::RelayCreateTopic),
        "/tidings.v1.Events/Publish" => Some(Call::Publish),
        _ if is_relay => Some(Call::RelayOther),
        _ => Some(Call::Other),
    };
    if let Some(call) = call {
        let name = method.rsplit('/').next().unwrap_or(method);
        door.rates.check(&who, Some(caller.0), call, name, door.tidings.clock().now())?;
    }
    head.extensions.insert(who);
    head.extensions.insert(caller);
    Ok(())
}

fn finish<B>(calls: GrpcCalls, method: &'static str, response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let mut tally = Tally::new(calls, method);
    // A refusal has its status in the head, any other answer behind its body.
    tally.note(response.headers());
    response.map(|inner| Body::new(Answer::new(inner, tally)))
}

/// What became of a call, counted when it is over; one that nobody waited for was cancelled.
pub struct Tally {
    calls: GrpcCalls,
    method: &'static str,
    /// What the client was told.
    pub kind: Kind,
}

impl Tally {
    pub fn new(calls: GrpcCalls, method: &'static str) -> Self {
        Self { calls, method, kind: Kind::Cancelled }
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(value) = headers.get(Status::GRPC_STATUS) {
            self.kind = Kind::from_bytes(value.as_bytes());
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.calls.ended(self.method, self.kind);
    }
}

/// An answer's body: counts how it ends.
pub struct Answer<B> {
    inner: B,
    tally: Tally,
}

impl<B> Answer<B> {
    pub fn new(inner: B, tally: Tally) -> Self {
        Self { inner, tally }
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.tally.note(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A call's body whose parts must arrive in time.
pub struct Timed {
    inner: Body,
    within: Option<Duration>,
    /// Made when a part is waited for; most calls arrive whole.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    fn new(inner: Body, within: Option<Duration>) -> Self {
        Self { inner, within, sleep: None }
    }
}

impl http_body::Body for Timed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.sleep = None;
            let cut = |_| status::of(Refusal::new(Code::BodyIncomplete, "the call broke off before its end"));
            return Poll::Ready(frame.map(|frame| frame.map_err(cut)));
        }
        let Some(within) = this.within else { return Poll::Pending };
        let sleep =
            this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + within)));
        ready!(sleep.as_mut().poll(cx));
        let late = Refusal::new(Code::Timeout, "the call did not go on within the time allowed");
        Poll::Ready(Some(Err(status::of(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
