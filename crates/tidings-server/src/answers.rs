//! What answers the requests of one connection, over HTTP/1.1 and over HTTP/2.
//!
//! Owns: which door a request goes through. Never: routes; what is not a call or a publish goes to the router.

use crate::grpc::{Grpc, Known};
use crate::handover::Handover;
use crate::http2::{self, Answer, Answering, Incoming};
use crate::{Door, grpc, http};
use ::http::Request;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use tidings_model::Uuid;
use tower::Service as _;

/// A slot among the connections; a stream that was taken from the library keeps it.
pub type Slot = Arc<tokio::sync::OwnedSemaphorePermit>;

/// Whose connection a request came over; in each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What a connection is called; no other is or was called that, before a restart either. In each call's extensions.
#[derive(Clone, Default)]
pub struct ConnectionId(Arc<OnceLock<Uuid>>);

impl ConnectionId {
    pub fn get(&self) -> Uuid {
        *self.0.get_or_init(Uuid::new_v4)
    }
}

/// What is served on a port.
#[derive(Clone)]
pub struct Doors {
    pub routes: Option<axum::Router>,
    pub grpc: Option<Grpc>,
}

/// The handling of a call or a publish; the library moves it about, and its size would be part of every idle connection.
type Boxed = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// All that answers one connection.
pub struct Answers {
    pub door: Door,
    pub doors: Doors,
    pub peer: Peer,
    pub slot: Slot,
    /// Of plain connections.
    pub handover: Option<Handover>,
    pub id: ConnectionId,
}

impl Answers {
    /// Answers a request.
    pub fn to<B>(
        &self,
        mut request: Request<B>,
    ) -> Either<Boxed, impl Future<Output = Result<Response, Infallible>> + Send + use<B>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<axum::BoxError> + Send> + Send + Unpin + 'static,
    {
        if Grpc::is_call(&request)
            && let Some(grpc) = self.doors.grpc.clone()
        {
            let peer = self.peer;
            if Grpc::is_publish(&request) {
                return Either::Left(Box::pin(async move { Ok(grpc.publish(peer, request).await) }) as Boxed);
            }
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(self.id.clone());
            let request = request.map(Body::new);
            return Either::Left(Box::pin(async move { Ok(grpc.call(request).await) }) as Boxed);
        }
        if self.doors.routes.is_some() && http::is_publish(&request) {
            // A short cut: for a single event the routing would cost as much as everything else.
            let request = request.map(Body::new);
            return Either::Left(Box::pin(http::publish(self.door.clone(), request).map(Ok)) as Boxed);
        }
        let Some(mut routes) = self.doors.routes.clone() else {
            drop(http::owed(&self.door, request.map(Body::new)));
            return Either::Left(Box::pin(std::future::ready(Ok(grpc::only()))) as Boxed);
        };
        request.extensions_mut().insert(Arc::clone(&self.slot));
        request.extensions_mut().insert(self.peer);
        if let Some(handover) = &self.handover {
            request.extensions_mut().insert(handover.clone());
        }
        Either::Right(routes.call(request.map(Body::new)))
    }
}

impl http2::Answers for Answers {
    type Known = Known;

    fn answer(&self, request: Request<Incoming>) -> Answering {
        let answered = |answer| match answer {
            Ok(response) => Answer::Response(response),
            Err(never) => match never {},
        };
        Box::pin(self.to(request).map(answered))
    }

    fn known(&self, head: &Request<()>) -> Option<Arc<Known>> {
        self.doors.grpc.as_ref()?.known(head)
    }

    fn again(&self, known: &Arc<Known>, body: Bytes) -> Answering {
        Box::pin(grpc::again(Arc::clone(known), body))
    }
}
