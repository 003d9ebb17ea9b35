//! Package `eventrelay`: what EventRelay's clients speak.
//!
//! Owns: its words for refusals. Never: decides about an event; a topic here is a topic everywhere.

mod event;
mod publish;
mod pull;
mod stream;
mod topics;

pub use event::context;
#[cfg(test)]
pub use event::read;
pub use topics::Topics;

use super::native::caller;
use super::status;
use super::watch::Messages;
use crate::Door;
use crate::refusal::Refusal;
use tidings_model::{Code, Topic};
use tidings_proto::Encoded;
use tidings_proto::server::eventrelay::{self as relay, events_server};
use tonic::{Request, Response, Status};

/// Publishing, pulling and streaming.
pub struct Events {
    door: Door,
}

impl Events {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

/// Why a caller is not known, in EventRelay's words.
pub fn unknown_caller(refusal: Refusal) -> Status {
    let detail = match refusal.code {
        Code::TokenMissing => "Invalid credentials: could not find bearer token".to_owned(),
        Code::TokenInvalid => "Invalid credentials".to_owned(),
        Code::TokenExpired | Code::TokenRevoked => format!("Invalid credentials: {}", refusal.detail),
        _ => refusal.detail.clone(),
    };
    Refusal { detail, ..refusal }.into()
}

/// The topic that `call` names.
fn topic(text: &str, call: &str) -> Result<Topic, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new(Code::TopicInvalid, format!("A topic must be provided to {call}")));
    }
    Ok(Topic::parse(text)?)
}

/// What a number of 32 bits does not hold.
fn out_of_range(detail: &str) -> Status {
    let mut status = Status::out_of_range(format!("{detail}; call tidings.v1.Events/Pull"));
    let code = tonic::metadata::MetadataValue::from_static(Code::ParameterInvalid.as_str());
    status.metadata_mut().insert(status::CODE, code);
    status
}

/// Not there until destinations are.
fn no_destinations() -> Status {
    status::no_method("that takes from a destination")
}

#[tonic::async_trait]
impl events_server::Events for Events {
    async fn publish_events(
        &self,
        request: Request<relay::PublishEventsRequest>,
    ) -> Result<Response<relay::PublishEventsResponse>, Status> {
        let who = caller(&request);
        publish::publish(&self.door, &who, request.into_inner()).await.map(Response::new)
    }

    async fn pull_events(
        &self,
        request: Request<relay::PullEventsRequest>,
    ) -> Result<Response<Encoded>, Status> {
        let who = caller(&request);
        pull::pull(&self.door, &who, request.get_ref()).await
    }

    async fn pull_queued_events(
        &self,
        _: Request<relay::PullQueuedEventsRequest>,
    ) -> Result<Response<relay::PullQueuedEventsResponse>, Status> {
        Err(no_destinations())
    }

    async fn un_lock_queued_events(
        &self,
        _: Request<relay::UnLockQueuedEventsRequest>,
    ) -> Result<Response<relay::UnLockQueuedEventsResponse>, Status> {
        Err(no_destinations())
    }

    type StreamEventsStream = Messages;

    async fn stream_events(
        &self,
        request: Request<relay::StreamEventsRequest>,
    ) -> Result<Response<Messages>, Status> {
        let who = caller(&request);
        stream::stream(&self.door, who, request.get_ref()).await.map(Response::new)
    }
}
