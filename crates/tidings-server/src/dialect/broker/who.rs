//! Who calls, and from which page.
//!
//! Owns: the token in the header, with `Bearer` before it or bare as Broker takes it, and Broker's rule for
//! origins: a page of an origin that is not allowed gets nothing, and whoever names no origin is no page.

use super::denied::Denied;
use crate::http::{Route, layers};
use crate::{Config, Door, gate};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use std::sync::Arc;
use tidings_model::{Code, Principal};

/// The caller, by the Authorization header.
pub struct Who(pub Arc<Principal>);

impl FromRequestParts<Door> for Who {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Denied> {
        bearer(door, &parts.headers).await.map(Self)
    }
}

/// The caller, by the Authorization header.
pub async fn bearer(door: &Door, headers: &HeaderMap) -> Result<Arc<Principal>, Denied> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all
        .next()
        .ok_or_else(|| Denied::new(Code::TokenMissing, "Missing request header \"authorization\""))?;
    let bad =
        || Denied::new(Code::TokenInvalid, "the Authorization header is neither `Bearer TOKEN` nor a token");
    if all.next().is_some() {
        return Err(bad());
    }
    let value = value.to_str().map_err(|_| bad())?.trim();
    let token = match value.split_once(' ') {
        None => value,
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        Some(_) => return Err(bad()),
    };
    if token.is_empty() { Err(bad()) } else { Ok(door.gate.verify(token).await?) }
}

/// Surrounds each route: the origin first, then the answer with its headers, counted.
pub async fn surround(
    State((door, route)): State<(Door, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    let request = layers::owed(&door, request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_foreign = origin.as_ref().is_some_and(|origin| !is_allowed(&door.config, origin));
    let answer = async {
        if is_foreign {
            return foreign();
        }
        next.run(request).await
    };
    let mut response = layers::watched(&door, route, None, answer).await;
    name_origin(origin.filter(|_| !is_foreign), &mut response);
    response
}

/// The path is one of Broker's, the method is not; browsers ask here before they send what needs leave.
pub fn other_method(config: &Config, method: &Method, headers: &HeaderMap, methods: &str) -> Response {
    let origin = headers.get(header::ORIGIN);
    if origin.is_some_and(|origin| !is_allowed(config, origin)) {
        return foreign();
    }
    let is_preflight =
        method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight && origin.is_some() {
        let mut response = StatusCode::OK.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let taken = HeaderValue::from_static("authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, taken);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        response
    } else {
        Denied::new(Code::MethodNotAllowed, format!("this path has {methods}, not {method}")).into_response()
    };
    name_origin(origin.cloned(), &mut response);
    response
}

fn foreign() -> Response {
    let error = "CORS request forbidden: origin not allowed";
    let mut response = Denied::new(Code::OriginForbidden, error).into_response();
    name_origin(None, &mut response);
    response
}

fn is_allowed(config: &Config, origin: &HeaderValue) -> bool {
    config.origins.iter().any(|own| own == "*") || origin.to_str().is_ok_and(|o| gate::is_listed(config, o))
}

fn name_origin(origin: Option<HeaderValue>, response: &mut Response) {
    // What was answered to one origin is no answer for another.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}
