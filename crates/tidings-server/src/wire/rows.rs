//! An entity's rows as bytes, in the words of each transport.
//!
//! Owns: the encodings that a snapshot remembers: made once, the same bytes to everybody. A snapshot is one piece
//! of bytes, so rows of another change never come between.

use super::{Framing, close_json, frame_head, text_frame};
use crate::conn::Style;
use crate::refusal::Refusal;
use bytes::Bytes;
use serde_json::value::RawValue;
use tidings_engine::Format;
use tidings_engine::entities::{Snapshot, Trouble};

const SSE: Format = Format(0);
const SSE_CHUNK: Format = Format(1);
const WS: Format = Format(2);
const ENTITY_SYNC: Format = Format(3);

/// All rows, ready for the socket.
pub fn encode(snapshot: &Snapshot, style: Style) -> Bytes {
    match style {
        Style::Sse { framing, .. } => {
            let format = if framing == Framing::Chunked { SSE_CHUNK } else { SSE };
            snapshot.encoded(format, |s| framing.wrap(block("rows", &json(s, false)))).clone()
        }
        Style::Ws => snapshot.encoded(WS, |s| text_frame(&json(s, true))).clone(),
        Style::EntitySync => snapshot.encoded(ENTITY_SYNC, frames).clone(),
        Style::Phoenix(_) => Bytes::new(),
        // Nobody watches entities there.
        Style::SocketIo => Bytes::new(),
    }
}

/// One text frame for each row, as the resolver gave it.
fn frames(snapshot: &Snapshot) -> Bytes {
    let bytes: usize = snapshot.rows.iter().map(|row| row.len() + 10).sum();
    let mut out = Vec::with_capacity(bytes);
    for row in &snapshot.rows {
        frame_head(&mut out, row.len());
        out.extend_from_slice(row);
    }
    out.into()
}

/// `{"entity":"items","id":"100","rows":[...]}`, with an `op` on a WebSocket. A row that is no JSON is a text.
pub fn json(snapshot: &Snapshot, with_op: bool) -> Vec<u8> {
    let bytes: usize = snapshot.rows.iter().map(|row| row.len() + 1).sum();
    let mut out = Vec::with_capacity(bytes + 128);
    let key = &snapshot.key;
    out.extend_from_slice(if with_op { b"{\"op\":\"rows\",\"entity\":" } else { b"{\"entity\":" });
    crate::http::reply::string(&mut out, key.entity.as_str());
    out.extend_from_slice(b",\"id\":");
    crate::http::reply::string(&mut out, key.id.as_str());
    out.extend_from_slice(b",\"rows\":[");
    for (i, row) in snapshot.rows.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        match serde_json::from_slice::<&RawValue>(row) {
            Ok(json) => out.extend_from_slice(json.get().as_bytes()),
            Err(_) => crate::http::reply::string(&mut out, &String::from_utf8_lossy(row)),
        }
    }
    out.extend_from_slice(b"]}");
    out
}

/// That the rows cannot be had.
pub fn trouble(trouble: &Trouble, style: Style) -> Bytes {
    let refusal = Refusal::of_rows(&trouble.error);
    let (entity, id) = (trouble.key.entity.as_str(), trouble.key.id.as_str());
    let (code, message) = (refusal.code.as_str(), refusal.detail);
    match style {
        Style::Sse { framing, .. } => {
            let mut json = close_json(code, &message);
            (json["entity"], json["id"]) = (entity.into(), id.into());
            framing.wrap(block("$error", json.to_string().as_bytes()))
        }
        Style::Ws => super::ws_notice(&serde_json::json!({
            "op": "error", "code": code, "message": message, "entity": entity, "id": id,
        })),
        Style::Phoenix(_) => Bytes::new(),
        Style::EntitySync => super::ws_notice(&serde_json::json!({
            "action": "error",
            "body": { "code": code, "message": message, "entity": entity, "id": id },
        })),
        Style::SocketIo => Bytes::new(),
    }
}

fn block(event: &str, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + event.len() + 32);
    out.extend_from_slice(format!("event: {event}\ndata: ").as_bytes());
    // A line break within JSON is blank space: one data line each puts it back together.
    for byte in json {
        match byte {
            b'\r' => {}
            b'\n' => out.extend_from_slice(b"\ndata: "),
            byte => out.push(*byte),
        }
    }
    out.extend_from_slice(b"\n\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::EntityKey;

    fn snapshot(rows: &[&str]) -> Snapshot {
        let rows = rows.iter().map(|r| Bytes::copy_from_slice(r.as_bytes())).collect();
        Snapshot::new(EntityKey::parse("items", "1\"").unwrap(), rows)
    }

    #[test]
    fn rows_are_frames_byte_for_byte_and_nothing_is_no_frame() {
        let bytes = encode(&snapshot(&["{\"a\": 1}", "plain"]), Style::EntitySync);
        assert_eq!(&bytes[..], b"\x81\x08{\"a\": 1}\x81\x05plain");
        assert!(encode(&snapshot(&[]), Style::EntitySync).is_empty());
    }

    #[test]
    fn rows_are_one_json_text_whatever_they_hold() {
        let json: serde_json::Value =
            serde_json::from_slice(&json(&snapshot(&["{\"a\":\r\n1}", "no \"json\""]), true)).unwrap();
        let expected = serde_json::json!({
            "op": "rows", "entity": "items", "id": "1\"", "rows": [{"a": 1}, "no \"json\""],
        });
        assert_eq!(json, expected);
        let block = block("rows", b"{\"a\":\r\n1}");
        assert_eq!(block, b"event: rows\ndata: {\"a\":\ndata: 1}\n\n");
    }
}
