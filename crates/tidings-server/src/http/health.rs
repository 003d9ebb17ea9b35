//! Whether the server lives, whether it should be sent requests, and what it has counted.

use super::reply;
use crate::refusal::Refusal;
use crate::{Door, gate};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use tidings_engine::bus::Status;
use tidings_model::Code;

/// `GET /livez`: the process answers.
pub async fn livez() -> &'static str {
    "ok"
}

/// Why new requests are not welcome; nothing where they are.
pub fn reasons(door: &Door) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if door.services.stop().is_cancelled() {
        reasons.push(Code::Draining.as_str());
    }
    if door.tidings.log().read_only().is_some() {
        reasons.push(Code::LogReadOnly.as_str());
    }
    if matches!(door.tidings.entities().bus_status(), Status::Lost { .. }) {
        reasons.push(Code::BusUnavailable.as_str());
    }
    reasons.extend(door.tidings.sources().unready().map(Code::as_str));
    reasons
}

/// `GET /readyz`: new requests are welcome.
pub async fn readyz(State(door): State<Door>) -> Response {
    let reasons = reasons(&door);
    let is_ready = reasons.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, serde_json::json!({ "ready": is_ready, "reasons": reasons }).to_string())
}

/// `GET /metrics`: for Prometheus.
pub async fn metrics(State(door): State<Door>, headers: HeaderMap) -> Result<Response, Refusal> {
    if !door.config.metrics_public && !gate::bearer(&door, &headers).await?.is_admin {
        return Err(Refusal::new(Code::Forbidden, "only an admin may read the metrics"));
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], door.metrics.text()).into_response())
}
