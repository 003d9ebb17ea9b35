//! The tables of names and values that a header block refers to (RFC 7541, section 2.3 and appendix A).
//!
//! Owns: the bound on the memory of a connection's own table.

use super::Broken;
use bytes::Bytes;
use std::collections::VecDeque;

/// What everybody knows, from index 1 on.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What a connection's table holds at most, in bytes as [`cost`] counts them: what every client may count on.
pub const TABLE_BYTES: usize = 4096;
/// What an entry costs beside its bytes (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;

/// What a field counts in a table and in a list of headers.
pub fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + ENTRY_BYTES
}

/// The fields that a connection's client has put there, the newest first.
pub struct Table {
    fields: VecDeque<(Bytes, Bytes)>,
    bytes: usize,
    max: usize,
}

impl Table {
    pub fn new() -> Self {
        Self { fields: VecDeque::new(), bytes: 0, max: TABLE_BYTES }
    }

    /// Name and value at an index.
    pub fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        let at = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        self.fields.get(at - STATIC.len()).map(|(name, value)| (&**name, &**value)).ok_or(Broken)
    }

    /// Puts a field before the others; the oldest make room. One that is too large empties the table.
    pub fn insert(&mut self, name: &[u8], value: &[u8]) {
        let cost = cost(name, value);
        // Copied first: the name may be that of a field that goes.
        let field = (cost <= self.max).then(|| (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        self.shrink(self.max.saturating_sub(cost));
        if let Some(field) = field {
            self.bytes += cost;
            self.fields.push_front(field);
        }
    }

    /// Bounds the table from now on.
    pub fn resize(&mut self, max: usize) -> Result<(), Broken> {
        if max > TABLE_BYTES {
            return Err(Broken);
        }
        self.max = max;
        self.shrink(max);
        Ok(())
    }

    fn shrink(&mut self, max: usize) {
        while self.bytes > max {
            let Some((name, value)) = self.fields.pop_back() else { break };
            self.bytes -= cost(&name, &value);
        }
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
