//! A request's body: JSON, small enough, and what is missing in it said in Broker's words.

use super::denied::Denied;
use crate::Door;
use crate::http::body::Parts;
use crate::refusal::Refusal;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use tidings_model::{Code, EventError};

/// The body's bytes.
pub async fn body(door: &Door, request: Request) -> Result<Bytes, Denied> {
    let (head, body) = request.into_parts();
    let mut parts = Parts::new(body, door.tidings.limits().read_timeout_ms);
    if !is_json(&head.headers) {
        let detail = "The request's content-type is not supported";
        return Err(Refusal::new(Code::MediaTypeUnsupported, detail).into());
    }
    Ok(parts.whole(door.tidings.limits().body_bytes).await?)
}

/// Without a type it is taken for JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or("?").split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The fields of a body.
pub fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Denied> {
    let text = EventError::text(body).map_err(|e| Denied::new(e.code(), e.to_string()))?;
    EventError::read(text)
        .map_err(|error| Denied::new(error.code(), format!("Request body deserialize error: {error}")))
}
