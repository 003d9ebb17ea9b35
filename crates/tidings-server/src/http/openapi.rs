//! `GET /openapi.json`: the description of this interface.

use axum::response::{IntoResponse, Response};
use http::header;

/// Written by hand; tests hold it against the routes and the error codes.
pub const DOCUMENT: &str = include_str!("../../../../spec/openapi.json");

pub async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
