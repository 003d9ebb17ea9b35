//! Answers in JSON.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the head of each says; nothing between here and the client may keep it.
pub static HEADERS: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// `json` with a status.
pub fn json(status: StatusCode, json: impl Into<Body>) -> Response {
    let mut response = Response::new(json.into());
    *response.status_mut() = status;
    response.headers_mut().extend(HEADERS.iter().cloned());
    response
}

/// Appends `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string into memory");
}

/// Appends a number; formatting it would take several times as long.
pub fn number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a number into memory");
}

/// Shows the time, to a second, in words that are found once for each.
pub fn with_date(show: impl FnOnce(&[u8])) {
    thread_local! {
        static WORDS: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    WORDS.with_borrow_mut(|(of, words)| {
        if *of != second || words.is_empty() {
            (*of, *words) = (second, httpdate::fmt_http_date(now));
        }
        show(words.as_bytes());
    });
}
