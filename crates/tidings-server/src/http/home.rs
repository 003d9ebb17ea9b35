//! `GET /`: says to a person with a browser what this is.

use axum::response::{IntoResponse, Response};
use http::header;

const PAGE: &str = concat!(
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tidings</title>",
    "<h1>Tidings</h1><p>A real-time event hub, version ",
    env!("CARGO_PKG_VERSION"),
    ".</p><p><a href=\"/openapi.json\">The HTTP interface</a>, <a href=\"/readyz\">is it ready</a>.</p></html>\n"
);

pub async fn get() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    (headers, PAGE).into_response()
}
