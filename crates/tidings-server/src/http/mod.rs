//! The map of the HTTP door: every path and method there is.
//!
//! Owns: [`ROUTES`], from which the router is built and against which `spec/openapi.json` is tested.

mod address;
pub(crate) mod body;
mod cloudevents;
mod deliveries;
pub(crate) mod destinations;
mod entities;
pub(crate) mod health;
mod home;
mod inbound;
mod ingest;
mod keys;
pub(crate) mod layers;
mod lines;
mod login;
mod ndjson;
mod openapi;
mod page;
mod publish;
mod queues;
pub(crate) mod reply;
mod scheduled;
mod sources;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod topics;
mod users;

pub(crate) use address::Query;

use crate::dialect::{broker, entity_sync, esink, eventrelay};
use crate::{Door, phoenix, socketio, ws};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::{HeaderMap, header};

/// One method of one path.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    handler: fn() -> MethodRouter<Door>,
    wrap: Wrap,
}

/// What a route is surrounded by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrap {
    /// Nothing: the handler does it itself.
    Own,
    Watched,
    /// Watched, and compressed where the client asks for it.
    Compressed,
    /// EventRelay's interface: watched, and there unless it is switched off.
    Relay,
    /// Broker's interface: its own rule for origins, and its own form of errors.
    Broker,
}

use Wrap::{Broker, Compressed, Own, Relay, Watched};

/// All routes.
pub const ROUTES: &[Route] = &[
    Route::new("POST", "/v1/topics/{topic}/events", || post(publish::post), Own),
    Route::new("GET", "/v1/topics/{topic}/events", || get(page::get), Compressed),
    Route::new("GET", "/v1/topics/{topic}/state", || get(state::get), Compressed),
    Route::new("GET", "/v1/stream", || get(stream::get), Watched),
    Route::new("GET", "/v1/ws", || get(ws::upgrade), Watched),
    Route::new("GET", "/v1/topics", || get(topics::list), Compressed),
    Route::new("GET", "/v1/topics/{topic}", || get(topics::get), Compressed),
    Route::new("PUT", "/v1/topics/{topic}", || put(topics::put), Watched),
    Route::new("DELETE", "/v1/topics/{topic}", || delete(topics::delete), Watched),
    Route::new("GET", "/v1/scheduled", || get(scheduled::list), Compressed),
    Route::new("DELETE", "/v1/scheduled", || delete(scheduled::delete_all), Watched),
    Route::new("GET", "/v1/scheduled/{id}", || get(scheduled::get), Compressed),
    Route::new("PATCH", "/v1/scheduled/{id}", || patch(scheduled::patch), Watched),
    Route::new("DELETE", "/v1/scheduled/{id}", || delete(scheduled::delete), Watched),
    Route::new("GET", "/v1/entities/{entity}/{id}", || get(entities::get), Compressed),
    Route::new("POST", "/v1/entities/{entity}/{id}/changed", || post(entities::changed), Watched),
    Route::new("GET", "/v1/sources", || get(sources::list), Compressed),
    Route::new("POST", "/v1/login", || post(login::login), Watched),
    Route::new("POST", "/v1/logout", || post(login::logout), Watched),
    Route::new("GET", "/v1/users/me", || get(login::me), Watched),
    Route::new("POST", "/v1/users/me/password", || post(login::password), Watched),
    Route::new("POST", "/v1/users", || post(users::create), Watched),
    Route::new("GET", "/v1/users", || get(users::list), Compressed),
    Route::new("GET", "/v1/users/{id}", || get(users::get), Watched),
    Route::new("PATCH", "/v1/users/{id}", || patch(users::update), Watched),
    Route::new("DELETE", "/v1/users/{id}", || delete(users::delete), Watched),
    Route::new("POST", "/v1/users/{id}/revoke", || post(users::revoke), Watched),
    Route::new("POST", "/v1/users/{id}/restore", || post(users::restore), Watched),
    Route::new("POST", "/v1/inbound", || post(inbound::create), Watched),
    Route::new("GET", "/v1/inbound", || get(inbound::list), Compressed),
    Route::new("GET", "/v1/inbound/{id}", || get(inbound::get), Watched),
    Route::new("PATCH", "/v1/inbound/{id}", || patch(inbound::update), Watched),
    Route::new("DELETE", "/v1/inbound/{id}", || delete(inbound::delete), Watched),
    Route::new("POST", "/v1/inbound/{id}/rotate", || post(inbound::rotate), Watched),
    Route::new("POST", "/webhooks/ingest/{id}", || post(ingest::post), Watched),
    Route::new("POST", "/v1/keys", || post(keys::create), Watched),
    Route::new("GET", "/v1/keys", || get(keys::list), Compressed),
    Route::new("GET", "/v1/keys/{id}", || get(keys::get), Watched),
    Route::new("PATCH", "/v1/keys/{id}", || patch(keys::update), Watched),
    Route::new("DELETE", "/v1/keys/{id}", || delete(keys::delete), Watched),
    Route::new("POST", "/v1/keys/{id}/revoke", || post(keys::revoke), Watched),
    Route::new("POST", "/v1/destinations", || post(destinations::create), Watched),
    Route::new("GET", "/v1/destinations", || get(destinations::list), Compressed),
    Route::new("GET", "/v1/destinations/{id}", || get(destinations::get), Watched),
    Route::new("PATCH", "/v1/destinations/{id}", || patch(destinations::update), Watched),
    Route::new("DELETE", "/v1/destinations/{id}", || delete(destinations::delete), Watched),
    Route::new("POST", "/v1/destinations/{id}/pause", || post(destinations::pause), Watched),
    Route::new("POST", "/v1/destinations/{id}/resume", || post(destinations::resume), Watched),
    Route::new("GET", "/v1/destinations/{id}/secret", || get(destinations::secret), Watched),
    Route::new("POST", "/v1/destinations/{id}/secret", || post(destinations::rotate), Watched),
    Route::new("POST", "/v1/destinations/{id}/pull", || post(queues::pull), Compressed),
    Route::new("POST", "/v1/destinations/{id}/ack", || post(queues::acknowledge), Watched),
    Route::new("POST", "/v1/destinations/{id}/unlock", || post(queues::unlock), Compressed),
    Route::new("POST", "/v1/destinations/{id}/replay", || post(deliveries::replay_all), Watched),
    Route::new("GET", "/v1/deliveries", || get(deliveries::list), Compressed),
    Route::new("GET", "/v1/deliveries/{id}", || get(deliveries::get), Watched),
    Route::new("POST", "/v1/deliveries/{id}/replay", || post(deliveries::replay), Watched),
    Route::new("POST", "/api/events", || post(eventrelay::api_events::post), Relay),
    Route::new("POST", "/users", || post(broker::users::sign_up), Broker),
    Route::new("POST", "/login", || post(broker::users::login), Broker),
    Route::new("POST", "/insert", || post(broker::insert::post), Broker),
    Route::new("GET", "/cancel/{id}", || get(broker::insert::cancel), Broker),
    Route::new("GET", "/collections/{id}", || get(broker::lists::collection), Broker),
    Route::new("GET", "/user_events", || get(broker::lists::own), Broker),
    Route::new("GET", "/events", || get(broker::events::get), Broker),
    Route::new("GET", "/events/{any}", || get(broker::events::get), Broker),
    Route::new("GET", "/", || get(home::get), Watched),
    Route::new("GET", "/socket/websocket", || get(phoenix::upgrade), Watched),
    Route::new("GET", "/socket.io/", || get(socketio::get), Watched),
    Route::new("POST", "/socket.io/", || post(socketio::post), Watched),
    Route::new("POST", "/publish", || post(esink::publish), Watched),
    Route::new("GET", "/ping", || get(esink::ping), Watched),
    Route::new("GET", "/livez", || get(health::livez), Watched),
    Route::new("GET", "/readyz", || get(health::readyz), Watched),
    Route::new("GET", "/metrics", || get(health::metrics), Compressed),
    Route::new("GET", "/openapi.json", || get(openapi::get), Compressed),
];

impl Route {
    const fn new(
        method: &'static str,
        path: &'static str,
        handler: fn() -> MethodRouter<Door>,
        wrap: Wrap,
    ) -> Self {
        Self { method, path, handler, wrap }
    }

    /// Whether its interface is switched on.
    fn is_on(&self, door: &Door) -> bool {
        match self.path {
            "/socket.io/" => door.config.socketio.enabled,
            "/publish" | "/ping" => door.config.esink.enabled,
            _ => match self.wrap {
                Broker => door.config.broker,
                Relay => door.config.eventrelay,
                Own | Watched | Compressed => true,
            },
        }
    }

    /// What matches no route, as metrics name it: one name, however many paths are tried.
    fn elsewhere() -> Self {
        Self::new("-", "-", MethodRouter::new, Own)
    }
}

/// The door whose path is a setting; metrics name it by the usual one.
static ENTITY_SYNC: Route = Route::new("GET", "/ws/entity-sync/", MethodRouter::new, Watched);

/// Whether a route lies at exactly this path.
pub(crate) fn is_route(path: &str) -> bool {
    ROUTES.iter().any(|route| route.path == path)
}

/// The router over all routes.
pub(crate) fn router(door: Door) -> Router {
    let mut router = Router::new();
    for route in ROUTES.iter().filter(|route| route.is_on(&door)) {
        let mut handler = (route.handler)();
        if route.wrap == Compressed {
            handler = handler.layer(from_fn(layers::compress));
        }
        if route.wrap == Broker {
            handler = handler.layer(from_fn_with_state((door.clone(), route), broker::who::surround));
        } else if route.wrap != Own {
            handler = handler.layer(from_fn_with_state((door.clone(), route), layers::watch));
        }
        router = router.route(route.path, handler);
    }
    let entity_sync = &door.config.entity_sync;
    if entity_sync.enabled {
        let handler = get(entity_sync::upgrade);
        let handler = handler.layer(from_fn_with_state((door.clone(), &ENTITY_SYNC), layers::watch));
        router = router.route(&entity_sync.path, handler);
    }
    router.method_not_allowed_fallback(layers::other_method).fallback(layers::unknown).with_state(door)
}

/// Whether the router would bring the request to [`publish`]: `POST /v1/topics/{topic}/events`.
pub(crate) fn is_publish<B>(request: &http::Request<B>) -> bool {
    request.method() == http::Method::POST && is_publish_path(request.uri().path())
}

/// Whether it is the path of [`publish`].
pub(crate) fn is_publish_path(path: &str) -> bool {
    let topic = path.strip_prefix("/v1/topics/").and_then(|path| path.strip_suffix("/events"));
    topic.is_some_and(|topic| !topic.is_empty() && topic.bytes().all(|byte| byte != b'/'))
}

/// The first route without the router.
pub(crate) fn publish(
    door: Door,
    request: axum::extract::Request,
) -> impl Future<Output = axum::response::Response> {
    publish::post(axum::extract::State(door), request)
}

/// The headers of an answer in JSON.
pub(crate) use layers::owed;
/// Publishes from outside of the library, and how that is counted.
pub(crate) use publish::{Sender, count as count_publish};
pub(crate) use reply::{HEADERS as JSON, number as put_number, with_date};

/// Whether `path` of the table is one of Broker's.
fn is_brokers(path: &str) -> bool {
    ROUTES.iter().any(|route| route.path == path && route.wrap == Broker)
}

/// The methods of `path`, as the `Allow` header lists them.
fn methods(path: &str) -> String {
    let mut methods: Vec<&str> = ROUTES.iter().filter(|r| r.path == path).map(|r| r.method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    methods.join(", ")
}

/// Whether the client asks for an event stream.
fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    accepted.flat_map(|v| v.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}
