//! `POST /webhooks/ingest/{id}`: where other people's servers post.
//!
//! Owns: the headers that speak for a sender, and the plain `OK`. A body is read only after its head was found good.

use super::address;
use super::body::Parts;
use crate::Door;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tidings_engine::inbound::{InboundError, Shown};

/// What a body may have beyond the data of one event: the frame of Standard Webhooks.
const FRAME_BYTES: usize = 16 << 10;

/// Takes a message.
pub async fn post(State(door): State<Door>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = Parts::new(body, door.tidings.limits().read_timeout_ms);
    match take(&door, &head, &mut body).await {
        Ok(()) => (StatusCode::OK, "OK").into_response(),
        Err(refusal) => answer(refusal),
    }
}

async fn take(door: &Door, head: &http::request::Parts, body: &mut Parts) -> Result<(), Refusal> {
    let unauthorized = || Refusal::from(tidings_engine::Error::from(InboundError::Unauthorized));
    let id = address::inbound_id(&head.uri).map_err(|_| unauthorized())?;
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let pair = basic(&head.headers);
    let shown = Shown {
        basic: pair.as_ref().map(|(key, password)| (key.as_str(), password.as_str())),
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    };
    let admitted = door.inbounds.admit(id, &shown).await?;
    let body = body.whole(door.tidings.limits().event_bytes + FRAME_BYTES).await?;
    door.inbounds.take(&admitted, &shown, &body).await?;
    Ok(())
}

/// Key and password of HTTP Basic.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let decoded = STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (key, password) = text.split_once(':')?;
    Some((key.to_owned(), password.to_owned()))
}

fn answer(refusal: Refusal) -> Response {
    if refusal.code.status() != 401 {
        return refusal.into_response();
    }
    let mut response = refusal.with("errors", json!(["Unauthorized"])).into_response();
    let challenge = HeaderValue::from_static("Basic realm=\"inbound webhooks\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
