//! Package `eventrelay`: what EventRelay's clients speak.
//!
//! Owns: its words for refusals. Never: decides about an event; a topic here is a topic everywhere.

mod api_keys;
mod config;
mod destinations;
mod event;
mod jwt;
mod publish;
mod pull;
mod queue;
mod stream;
mod topics;

pub use api_keys::ApiKeys;
pub use destinations::Destinations;
pub use event::context;
#[cfg(test)]
pub use event::read;
pub use jwt::Jwt;
pub use topics::Topics;

use super::native::{caller, peer};
use super::status;
use super::watch::Messages;
use crate::Door;
use crate::refusal::Refusal;
use tidings_model::{Code, Topic, Uuid};
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

/// An id of something that is stored; `field` is what a refusal calls it.
fn id(text: &str, field: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| Refusal::parameter(format!("{field} is not a UUID")))
}

/// A text that may be left out.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl events_server::Events for Events {
    async fn publish_events(
        &self,
        request: Request<relay::PublishEventsRequest>,
    ) -> Result<Response<relay::PublishEventsResponse>, Status> {
        let (who, peer) = (caller(&request), peer(&request));
        publish::publish(&self.door, &who, peer, request.into_inner()).await.map(Response::new)
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
        request: Request<relay::PullQueuedEventsRequest>,
    ) -> Result<Response<Encoded>, Status> {
        queue::pull(&self.door, &request).await
    }

    async fn un_lock_queued_events(
        &self,
        request: Request<relay::UnLockQueuedEventsRequest>,
    ) -> Result<Response<Encoded>, Status> {
        queue::unlock(&self.door, &request).await
    }

    type StreamEventsStream = Messages<stream::Relay>;

    async fn stream_events(
        &self,
        request: Request<relay::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let who = caller(&request);
        stream::stream(&self.door, who, request.get_ref()).await.map(Response::new)
    }
}
