//! An answer's header blocks.

use super::hpack::{self, put_status};
use crate::http::with_date;
use http::{HeaderMap, HeaderName, header, response};

/// Fields that speak of a connection; HTTP/2 knows none of them.
const FORBIDDEN: [HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, HeaderName::from_static("keep-alive")];

/// The block of an answer's head. `length` is that of the body, where it is known.
pub fn head(head: &response::Parts, length: Option<u64>, out: &mut Vec<u8>) {
    put_status(out, head.status.as_u16());
    if !head.headers.contains_key(header::DATE) {
        date(out);
    }
    fields(&head.headers, out);
    if let Some(length) = length
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        hpack::put(out, b"content-length", length.to_string().as_bytes(), false);
    }
}

/// The time.
pub fn date(out: &mut Vec<u8>) {
    with_date(|date| hpack::put(out, b"date", date, false));
}

/// The block of what stands behind a body.
pub fn fields(headers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in headers {
        if !FORBIDDEN.contains(name) {
            let is_secret = value.is_sensitive() || name == header::SET_COOKIE;
            hpack::put(out, name.as_str().as_bytes(), value.as_bytes(), is_secret);
        }
    }
}
