//! The gRPC door: every method there is, on the same port as HTTP and on one of its own.
//!
//! Owns: [`METHODS`] and who serves them; what surrounds a call is in `surround`. Never: decides about an event.
//! Two packages: `tidings.v1` is ours, `eventrelay` is what EventRelay's clients speak. A stream is a task that
//! takes from its subscription what it lacks; the bytes of an event are made once for all streams.

pub mod config;
mod event_relay;
mod health;
mod native;
mod protobuf;
mod single;
mod status;
mod streamed;
mod surround;
#[cfg(test)]
mod tests;
mod watch;

pub use single::{Known, again};

use crate::Door;
use crate::answers::Peer;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::response::IntoResponse as _;
use http::{Method, Request, Response, Version, header};
use std::convert::Infallible;
use std::sync::Arc;
use tidings_model::Code;
use tidings_proto::server::{eventrelay as relay, tidings::v1};
use tonic::codegen::Service;
use tonic_health::pb::health_server::HealthServer;
use tower::util::BoxCloneSyncService;

/// Every method, by its path.
pub(crate) const METHODS: &[&str] = &[
    "/tidings.v1.Events/Publish",
    "/tidings.v1.Events/PublishStream",
    "/tidings.v1.Events/Pull",
    "/tidings.v1.Events/Subscribe",
    "/eventrelay.Events/PublishEvents",
    "/eventrelay.Events/PullEvents",
    "/eventrelay.Events/PullQueuedEvents",
    "/eventrelay.Events/UnLockQueuedEvents",
    "/eventrelay.Events/StreamEvents",
    "/eventrelay.Topics/ListTopics",
    "/eventrelay.Topics/CreateTopic",
    "/eventrelay.Topics/DeleteTopic",
    "/eventrelay.Destinations/ListDestinations",
    "/eventrelay.Destinations/GetDestination",
    "/eventrelay.Destinations/CreateDestination",
    "/eventrelay.Destinations/DeleteDestination",
    "/eventrelay.ApiKeys/CreateApiKey",
    "/eventrelay.ApiKeys/RevokeApiKey",
    "/eventrelay.ApiKeys/AddDestinationsToApiKey",
    "/eventrelay.ApiKeys/DeleteDestinationsFromApiKey",
    "/eventrelay.ApiKeys/AddTopicsToApiKey",
    "/eventrelay.ApiKeys/DeleteTopicsFromApiKey",
    "/eventrelay.JWT/CreateJWT",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What anything but a call is answered with on a port for calls alone.
pub fn only() -> Response<Body> {
    Refusal::new(Code::NotFound, "this port takes gRPC calls over HTTP/2 and nothing else").into_response()
}

/// All services of one door. Cheap to clone.
#[derive(Clone)]
pub struct Grpc(Arc<Inner>);

struct Inner {
    door: Door,
    events: v1::events_server::EventsServer<native::Events>,
    relay_events: relay::events_server::EventsServer<event_relay::Events>,
    relay_topics: relay::topics_server::TopicsServer<event_relay::Topics>,
    relay_destinations: relay::destinations_server::DestinationsServer<event_relay::Destinations>,
    relay_keys: relay::api_keys_server::ApiKeysServer<event_relay::ApiKeys>,
    relay_jwt: relay::jwt_server::JwtServer<event_relay::Jwt>,
    health: HealthServer<health::Health>,
    reflection: Reflection,
}

/// A service whose type has no name.
type Reflecting = BoxCloneSyncService<Request<surround::Timed>, Response<tonic::body::Body>, Infallible>;

/// Both versions: newer clients ask for the first, older ones know only the second.
struct Reflection {
    v1: Reflecting,
    v1alpha: Reflecting,
}

impl Reflection {
    fn new() -> Self {
        let files = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tidings_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = files().build_v1().expect("the files were compiled together");
        let v1alpha = files().build_v1alpha().expect("the files were compiled together");
        Self { v1: BoxCloneSyncService::new(v1), v1alpha: BoxCloneSyncService::new(v1alpha) }
    }
}

impl Grpc {
    pub fn new(door: Door) -> Self {
        let max = door.tidings.limits().body_bytes;
        let events = native::Events::new(door.clone());
        let events = v1::events_server::EventsServer::new(events).max_decoding_message_size(max);
        let relay_events = event_relay::Events::new(door.clone());
        let relay_events =
            relay::events_server::EventsServer::new(relay_events).max_decoding_message_size(max);
        let relay_topics = relay::topics_server::TopicsServer::new(event_relay::Topics::new(door.clone()));
        let destinations = event_relay::Destinations::new(door.clone());
        let relay_destinations = relay::destinations_server::DestinationsServer::new(destinations);
        let relay_keys = relay::api_keys_server::ApiKeysServer::new(event_relay::ApiKeys::new(door.clone()));
        let relay_jwt = relay::jwt_server::JwtServer::new(event_relay::Jwt::new(door.clone()));
        let health = HealthServer::new(health::Health::new(door.clone()));
        let reflection = Reflection::new();
        Self(Arc::new(Inner {
            door,
            events,
            relay_events,
            relay_topics,
            relay_destinations,
            relay_keys,
            relay_jwt,
            health,
            reflection,
        }))
    }

    /// Whether a request is a gRPC call.
    pub fn is_call<B>(request: &Request<B>) -> bool {
        let kind = || request.headers().get(header::CONTENT_TYPE).map(|v| v.as_bytes());
        request.version() == Version::HTTP_2
            && request.method() == Method::POST
            && kind().is_some_and(|kind| {
                kind.strip_prefix(b"application/grpc")
                    .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
            })
    }

    /// Answers a call. The parts of its body must arrive within the time that is set.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        surround::call(self, request).await
    }

    /// Whether [`Grpc::publish`] answers a call.
    pub fn is_publish<B>(request: &Request<B>) -> bool {
        single::is_for(request)
    }

    /// As [`Grpc::call`], for a call that publishes.
    pub async fn publish<B>(&self, peer: Peer, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Unpin,
    {
        single::call(self, peer, request).await
    }

    /// The head of a call that [`again`] may answer.
    pub fn known(&self, head: &Request<()>) -> Option<Arc<Known>> {
        (Self::is_call(head) && Self::is_publish(head)).then(|| Known::of(self.door(), head)).flatten()
    }

    fn door(&self) -> &Door {
        &self.0.door
    }

    /// Brings a call to its service.
    async fn dispatch(&self, request: Request<surround::Timed>) -> Response<tonic::body::Body> {
        let inner = &self.0;
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let answer = match service {
            "tidings.v1.Events" => inner.events.clone().call(request).await,
            "eventrelay.Events" => inner.relay_events.clone().call(request).await,
            "eventrelay.Topics" => inner.relay_topics.clone().call(request).await,
            "eventrelay.Destinations" => inner.relay_destinations.clone().call(request).await,
            "eventrelay.ApiKeys" => inner.relay_keys.clone().call(request).await,
            "eventrelay.JWT" => inner.relay_jwt.clone().call(request).await,
            "grpc.health.v1.Health" => inner.health.clone().call(request).await,
            "grpc.reflection.v1.ServerReflection" => inner.reflection.v1.clone().call(request).await,
            "grpc.reflection.v1alpha.ServerReflection" => {
                inner.reflection.v1alpha.clone().call(request).await
            }
            _ => Ok(status::no_method(request.uri().path()).into_http()),
        };
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
