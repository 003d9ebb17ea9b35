//! What surrounds every route: counting, CORS, compression, and an answer also after a panic.
//!
//! Owns: the order of these. Publishing goes through [`watched`] directly, without a layer of its own and
//! without compression, because it is the path where every microsecond counts.

use super::{Route, body};
use crate::dialect::{broker, esink};
use crate::refusal::{Refusal, guarded};
use crate::{Config, Door, gate};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::future::Future;
use tidings_model::Code;
use tower::ServiceExt as _;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;

/// Runs `answer` as the handling of `route`: counted, with CORS headers, and answered if it panics.
pub async fn watched(
    door: &Door,
    route: &Route,
    origin: Option<HeaderValue>,
    answer: impl Future<Output = Response>,
) -> Response {
    let mut response = guarded(answer, Refusal::into_response).await;
    door.metrics.request(route.method, route.path, response.status());
    if let Some(origin) = origin {
        allow_origin(&door.config, &origin, response.headers_mut());
    }
    response
}

/// [`watched`] as a layer of one route.
pub async fn watch(
    State((door, route)): State<(Door, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    watched(&door, route, origin, next.run(owed(&door, request))).await
}

/// A refusal before the body was read reaches the client all the same.
pub fn owed(door: &Door, request: Request) -> Request {
    request.map(|body| body::owed(body, door.tidings.limits().read_timeout_ms, &door.services))
}

/// Compresses the answer with gzip or zstd if the client takes it; never a stream.
pub async fn compress(request: Request, next: Next) -> Response {
    if super::wants_stream(request.headers()) {
        return next.run(request).await;
    }
    let service = Compression::new(next).quality(CompressionLevel::Fastest);
    match service.oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

/// No such path.
pub async fn unknown(State(door): State<Door>, request: Request) -> Response {
    let request = owed(&door, request);
    let refusal = Refusal::new(Code::NotFound, "there is no such path; /openapi.json lists those there are");
    let route = Route::elsewhere();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_esinks = door.config.esink.is_at_home && !request.uri().path().starts_with("/v1/");
    let answer = async { if is_esinks { esink::unknown() } else { refusal.into_response() } };
    watched(&door, &route, origin, answer).await
}

/// The path exists, the method does not; browsers ask here before they send what needs leave.
pub async fn other_method(State(door): State<Door>, request: Request) -> Response {
    let request = owed(&door, request);
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let methods = super::methods(path);
    if super::is_brokers(path) {
        let answer = broker::who::other_method(&door.config, request.method(), request.headers(), &methods);
        let mut response = watched(&door, &Route::elsewhere(), None, async { answer }).await;
        let allow = HeaderValue::from_str(&methods).expect("methods of the route table");
        response.headers_mut().insert(header::ALLOW, allow);
        return response;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let is_preflight = request.method() == Method::OPTIONS && origin.is_some() && asked.is_some();
    let method = request.method().clone();
    let answer = async {
        if is_preflight {
            return preflight(&door.config, origin.as_ref(), &methods);
        }
        let detail = format!("this path has {methods}, not {method}");
        Refusal::new(Code::MethodNotAllowed, detail).into_response()
    };
    let mut response = watched(&door, &Route::elsewhere(), origin.clone(), answer).await;
    let allow = HeaderValue::from_str(&methods).expect("methods of the route table");
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

fn preflight(config: &Config, origin: Option<&HeaderValue>, methods: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    if origin.is_some_and(|origin| leave(config, origin).is_some()) {
        let methods = HeaderValue::from_str(methods).expect("methods of the route table");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS_TAKEN));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    }
    response
}

/// What a page may send; binary CloudEvents carry more, but with names of their own that cannot be listed.
const HEADERS_TAKEN: &str = "authorization, content-type, accept, last-event-id, ce-id, ce-source, ce-type, ce-specversion, ce-subject, ce-time, ce-availableat";
/// What a page may read.
const HEADERS_SHOWN: &str = "retry-after, www-authenticate, allow";

/// What a page of `origin` may do: `Some(true)` also send cookies.
fn leave(config: &Config, origin: &HeaderValue) -> Option<bool> {
    if origin.to_str().is_ok_and(|origin| gate::is_listed(config, origin)) {
        return Some(true);
    }
    config.origins.iter().any(|own| own == "*").then_some(false)
}

fn allow_origin(config: &Config, origin: &HeaderValue, headers: &mut HeaderMap) {
    // What was answered to one origin is no answer for another.
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    let Some(with_credentials) = leave(config, origin) else { return };
    if with_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    } else {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(HEADERS_SHOWN));
}
