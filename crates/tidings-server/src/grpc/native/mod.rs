//! `tidings.v1.Events`: what HTTP and WebSocket offer, with the same words.

mod event;
mod publish;
mod publish_stream;
mod pull;
mod subscribe;

#[cfg(test)]
pub use event::read;
pub use publish::publish;
use publish_stream::Acknowledgements;
pub use subscribe::{Native, subscribe};

use super::watch::Messages;
use crate::Door;
use crate::caller::Caller;
use std::net::IpAddr;
use std::sync::Arc;
use tidings_model::Principal;
use tidings_proto::Encoded;
use tidings_proto::server::tidings::v1::{self, events_server};
use tonic::{Extensions, Request, Response, Status, Streaming};

/// The service.
pub struct Events {
    door: Door,
}

impl Events {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

/// The caller, whom `surround` has found.
pub fn caller<T>(request: &Request<T>) -> Arc<Principal> {
    caller_in(request.extensions())
}

pub fn caller_in(extensions: &Extensions) -> Arc<Principal> {
    extensions.get().cloned().unwrap_or_else(|| Arc::new(Principal::nobody()))
}

/// Whose calls count together where the caller has no id.
pub fn peer<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get().map(|Caller(peer)| *peer)
}

#[tonic::async_trait]
impl events_server::Events for Events {
    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let who = caller(&request);
        publish::publish(&self.door, &who, request.into_inner()).await.map(Response::new)
    }

    type PublishStreamStream = Acknowledgements;

    async fn publish_stream(
        &self,
        request: Request<Streaming<v1::PublishStreamRequest>>,
    ) -> Result<Response<Acknowledgements>, Status> {
        let (who, peer) = (caller(&request), peer(&request));
        Ok(Response::new(publish_stream::open(&self.door, who, peer, request.into_inner())))
    }

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<Encoded>, Status> {
        let who = caller(&request);
        pull::pull(&self.door, &who, request.get_ref()).await.map(Response::new)
    }

    type SubscribeStream = Messages<subscribe::Native>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let who = caller(&request);
        subscribe::subscribe(&self.door, who, request.into_inner()).await.map(Response::new)
    }
}
