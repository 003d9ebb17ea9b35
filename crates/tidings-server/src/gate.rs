//! From a request to a principal.
//!
//! Owns: where a token is looked for. `Authorization: Bearer` everywhere; a cookie only on GET streams, and
//! only for pages of an allowed origin, so that no foreign page can read with a visitor's cookie. Never: takes
//! a token from the query string, which ends up in logs.

use crate::caller::Caller;
use crate::rates::Call;
use crate::refusal::Refusal;
use crate::{Config, Door};
use axum::extract::{FromRequestParts, MatchedPath};
use http::{HeaderMap, Method, header, request::Parts};
use std::sync::Arc;
use tidings_model::{Code, Principal};

/// The caller, by the Authorization header.
pub struct Who(pub Arc<Principal>);

impl FromRequestParts<Door> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Refusal> {
        counted(door, parts).await.map(Self)
    }
}

/// The caller by the Authorization header, whose request is counted.
pub async fn counted(door: &Door, parts: &Parts) -> Result<Arc<Principal>, Refusal> {
    let who = bearer(door, &parts.headers).await?;
    count(door, parts, &who, Call::Other)?;
    Ok(who)
}

/// Counts the request among the calls of its caller, if these have a bound.
pub fn count(door: &Door, parts: &Parts, who: &Principal, call: Call) -> Result<(), Refusal> {
    if !door.rates.is_bounded(call) {
        return Ok(());
    }
    let Caller(peer) = Caller::of(door, parts);
    let name = parts.extensions.get::<MatchedPath>().map_or(parts.uri.path(), MatchedPath::as_str);
    door.rates.check(who, Some(peer), call, name, door.tidings.clock().now())
}

/// The caller by the Authorization header.
pub async fn bearer(door: &Door, headers: &HeaderMap) -> Result<Arc<Principal>, Refusal> {
    optional(door, headers).await?.ok_or_else(missing)
}

/// The caller by the value of the Authorization header.
pub async fn by_value(door: &Door, value: &[u8]) -> Result<Arc<Principal>, Refusal> {
    Ok(door.gate.verify(token_in(value)?).await?)
}

/// The caller by the Authorization header, `None` where there is none; a bad one is refused.
pub async fn optional(door: &Door, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
    match token(headers)? {
        None => Ok(None),
        Some(token) => Ok(Some(door.gate.verify(token).await?)),
    }
}

/// The caller of a stream: by the header, or by the cookie where the page may use it.
pub async fn stream_principal(door: &Door, parts: &Parts) -> Result<Arc<Principal>, Refusal> {
    let who = stream_caller(door, parts).await?;
    count(door, parts, &who, Call::Other)?;
    Ok(who)
}

async fn stream_caller(door: &Door, parts: &Parts) -> Result<Arc<Principal>, Refusal> {
    if let Some(who) = optional(door, &parts.headers).await? {
        return Ok(who);
    }
    let token = cookie(&parts.headers, &door.config.cookie).filter(|_| parts.method == Method::GET);
    let Some(token) = token else { return Err(missing()) };
    if !is_own_page(&door.config, &parts.headers) {
        let detail = "a token in a cookie is taken only from pages of this server and of `http.origins`";
        return Err(Refusal::new(Code::OriginForbidden, detail));
    }
    Ok(door.gate.verify(token).await?)
}

/// Whether pages of `origin` are listed by name. `*` does not count here: it never comes with credentials.
pub fn is_listed(config: &Config, origin: &str) -> bool {
    config.origins.iter().any(|own| own != "*" && own.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

/// Whether a WebSocket may be opened that asks for no token yet. No Origin is no browser; a browser's page may if
/// it comes from here, from a listed origin, or from one of `also`, where `*` is all.
pub fn may_call(config: &Config, also: &[String], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let is_also = also.iter().any(|o| o == "*" || o.trim_end_matches('/').eq_ignore_ascii_case(origin));
    if is_also || is_listed(config, origin) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let from = origin.split_once("://").map(|(_, authority)| authority);
    host.is_some() && from.is_some_and(|from| host.is_some_and(|host| from.eq_ignore_ascii_case(host)))
}

fn is_own_page(config: &Config, headers: &HeaderMap) -> bool {
    match headers.get(header::ORIGIN) {
        Some(origin) => origin.to_str().is_ok_and(|origin| is_listed(config, origin)),
        // Browsers leave Origin out of GETs to the page's own server, and then say so here; a script
        // in the page cannot set either.
        None => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
    }
}

fn missing() -> Refusal {
    Refusal::new(Code::TokenMissing, "send `Authorization: Bearer TOKEN`")
}

/// What stands before a token; case does not count.
const SCHEME: &[u8] = b"bearer ";

fn token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(not_bearer());
    }
    token_in(value.as_bytes()).map(Some)
}

/// The token in a value of the Authorization header.
fn token_in(value: &[u8]) -> Result<&str, Refusal> {
    let (scheme, token) = value.split_at_checked(SCHEME.len()).ok_or_else(not_bearer)?;
    let token = std::str::from_utf8(token).map_err(|_| not_bearer())?.trim();
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty();
    if is_bearer { Ok(token) } else { Err(not_bearer()) }
}

fn not_bearer() -> Refusal {
    Refusal::new(Code::TokenInvalid, "the Authorization header is not `Bearer TOKEN`")
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).find_map(|pair| {
        let (own, value) = pair.trim().split_once('=')?;
        (own == name && !value.is_empty()).then(|| value.trim_matches('"'))
    })
}
