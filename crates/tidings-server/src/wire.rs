//! Events and notices as bytes: SSE blocks and WebSocket frames.
//!
//! Owns: the wire formats an entry remembers. An event is encoded once per format, and the same bytes go
//! to every subscriber. SSE: HTML standard, section 9.2; WebSocket frames: RFC 6455, section 5.2;
//! chunks: RFC 9112, section 7.1.

pub mod phoenix;
pub mod rows;
pub mod socketio;

use crate::http::reply;
use bytes::Bytes;
use std::io::Write as _;
use tidings_engine::{Entry, Fate, Format, Gap, Receipt};
use tidings_model::{Code, Cursor, Event, Position, Topic, Uuid};

/// An SSE block with the topic's own cursor, for streams of one topic.
const SSE: Format = Format(0);
/// The same as one HTTP/1.1 chunk.
const SSE_CHUNK: Format = Format(1);
/// An SSE block without its id line, for streams of several topics.
const SSE_REST: Format = Format(2);
const WS: Format = Format(3);

/// How an SSE stream is framed below SSE itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1 chunks.
    Chunked,
    /// Bytes until the connection closes (HTTP/1.0), or framed by somebody else (HTTP/2).
    Plain,
}

impl Framing {
    /// `block` ready for the socket.
    pub fn wrap(self, block: Vec<u8>) -> Bytes {
        match self {
            Self::Plain => block.into(),
            Self::Chunked => chunk(&block),
        }
    }

    /// What ends the body.
    pub fn end(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Chunked => b"0\r\n\r\n",
        }
    }
}

fn chunk(block: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(block.len() + 16);
    write!(out, "{:x}\r\n", block.len()).expect("memory");
    out.extend_from_slice(block);
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// The position after the event in its own topic.
pub fn own_cursor(event: &Event) -> Cursor {
    Cursor::of(Position {
        topic: event.topic().clone(),
        epoch: event.epoch(),
        offset: event.offset(),
        in_state: false,
    })
}

/// The event as an SSE block whose id is the topic's own cursor; the bytes are shared. One that only passes has none.
pub fn sse(entry: &Entry, framing: Framing) -> Bytes {
    let block = |event: &Event| {
        let mut out = Vec::with_capacity(event.record().as_bytes().len() + 320);
        if !event.is_passing() {
            writeln!(out, "id: {}", own_cursor(event)).expect("memory");
        }
        sse_rest(&mut out, event);
        out
    };
    match framing {
        Framing::Plain => entry.encoded(SSE, |e| block(e).into()).clone(),
        Framing::Chunked => entry.encoded(SSE_CHUNK, |e| chunk(&block(e))).clone(),
    }
}

/// The event as an SSE block with this reader's own cursor; only the id line is its own.
pub fn sse_own(entry: &Entry, cursor: &Cursor, framing: Framing, out: &mut Vec<Bytes>) {
    let id = format!("id: {cursor}\n");
    let rest = entry.encoded(SSE_REST, |event| {
        let mut rest = Vec::with_capacity(event.record().as_bytes().len() + 256);
        sse_rest(&mut rest, event);
        rest.into()
    });
    match framing {
        Framing::Plain => out.extend([id.into(), rest.clone()]),
        Framing::Chunked => out.extend([
            format!("{:x}\r\n{id}", id.len() + rest.len()).into(),
            rest.clone(),
            Bytes::from_static(b"\r\n"),
        ]),
    }
}

fn sse_rest(out: &mut Vec<u8>, event: &Event) {
    // EventSource fires these three itself, and a client could not tell the difference.
    if let Some(name) = event.name().filter(|n| !matches!(*n, "error" | "open" | "message")) {
        writeln!(out, "event: {name}").expect("memory");
    }
    out.extend_from_slice(b"data: ");
    let has_lines = |text: Option<&str>| text.is_some_and(|t| t.contains(['\n', '\r']));
    if has_lines(event.data()) || has_lines(event.record().context()) {
        // A line break within JSON is blank space: one data line each puts it back together.
        let json = event.to_json().replace("\r\n", "\n").replace(['\n', '\r'], "\ndata: ");
        out.extend_from_slice(json.as_bytes());
    } else {
        event.write_json(out);
    }
    out.extend_from_slice(b"\n\n");
}

/// A notice of our own (`$gap`, `$live`, `$close`).
pub fn sse_notice(name: &str, cursor: Option<&Cursor>, data: &serde_json::Value) -> Vec<u8> {
    let id = cursor.map_or(String::new(), |c| format!("id: {c}\n"));
    format!("{id}event: {name}\ndata: {data}\n\n").into_bytes()
}

/// An id-only block: the cursor moved although nothing was sent.
pub fn sse_cursor(cursor: &Cursor) -> Vec<u8> {
    format!("id: {cursor}\n\n").into_bytes()
}

pub fn gap_json(gap: &Gap) -> serde_json::Value {
    serde_json::json!({
        "topic": gap.topic.to_string(),
        "reason": gap.reason.as_str(),
        "asked": gap.asked.0,
        "oldest": gap.oldest.0,
        "tail": gap.tail.0,
    })
}

pub fn close_json(code: &str, reason: &str) -> serde_json::Value {
    serde_json::json!({ "code": code, "reason": reason })
}

/// A server's text frame: unmasked and whole.
pub fn text_frame(payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    frame_head(&mut out, payload.len());
    out.extend_from_slice(payload);
    out.into()
}

fn frame_head(out: &mut Vec<u8>, len: usize) {
    out.push(0x81);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The event as a WebSocket frame with its topic's cursor; the bytes are shared. One that only passes has none.
pub fn ws(entry: &Entry) -> Bytes {
    let cursor = |event: &Event| (!event.is_passing()).then(|| own_cursor(event));
    entry.encoded(WS, |event| ws_frame(event, cursor(event).as_ref())).clone()
}

/// The event as a WebSocket frame with this reader's own cursor.
pub fn ws_own(entry: &Entry, cursor: &Cursor) -> Bytes {
    ws_frame(&entry.event, Some(cursor))
}

fn ws_frame(event: &Event, cursor: Option<&Cursor>) -> Bytes {
    let mut json = Vec::with_capacity(event.record().as_bytes().len() + 384);
    json.extend_from_slice(b"{\"op\":\"event\",");
    if let Some(cursor) = cursor {
        write!(json, "\"cursor\":\"{cursor}\",").expect("memory");
    }
    json.extend_from_slice(b"\"event\":");
    event.write_json(&mut json);
    json.push(b'}');
    text_frame(&json)
}

pub fn ws_notice(value: &serde_json::Value) -> Bytes {
    text_frame(value.to_string().as_bytes())
}

pub fn ws_gap(gap: &Gap) -> Bytes {
    let mut json = gap_json(gap);
    json["op"] = "gap".into();
    ws_notice(&json)
}

pub fn ws_live(topic: &Topic, cursor: &Cursor) -> Bytes {
    ws_notice(&serde_json::json!({
        "op": "live", "topic": topic.to_string(), "cursor": cursor.to_string(),
    }))
}

pub fn ws_cursor(topic: &Topic, cursor: &Cursor) -> Bytes {
    ws_notice(&serde_json::json!({
        "op": "cursor", "topic": topic.to_string(), "cursor": cursor.to_string(),
    }))
}

pub fn ws_error(reference: Option<&str>, code: Code, message: &str) -> Bytes {
    ws_notice(&with_ref(
        reference,
        serde_json::json!({ "op": "error", "code": code.as_str(), "message": message }),
    ))
}

/// The answer to a publish over HTTP.
pub fn receipt(receipt: &Receipt) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + receipt.events.len() * 160);
    out.push(b'{');
    receipt_members(&mut out, receipt);
    out
}

/// The answer to a publish over a WebSocket.
pub fn ws_published(reference: Option<&str>, receipt: &Receipt) -> Bytes {
    let mut out = with_ref(reference, serde_json::json!({ "op": "published" })).to_string().into_bytes();
    *out.last_mut().expect("an object") = b',';
    receipt_members(&mut out, receipt);
    text_frame(&out)
}

/// What became of each event, and the end of the object that it is said in. By hand: a publish waits for it.
fn receipt_members(out: &mut Vec<u8>, receipt: &Receipt) {
    out.extend_from_slice(b"\"events\":[");
    for (i, event) in receipt.events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(event.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        out.extend_from_slice(b"\",\"topic\":");
        match &event.topic.key {
            None => reply::string(out, event.topic.name.as_str()),
            Some(_) => reply::string(out, &event.topic.to_string()),
        }
        match event.fate {
            Fate::Stored { offset, published_at, .. } => {
                out.extend_from_slice(b",\"offset\":");
                reply::number(out, offset.0);
                out.extend_from_slice(b",\"published_at\":\"");
                out.extend_from_slice(&published_at.to_ascii());
                out.push(b'"');
            }
            Fate::Scheduled { available_at } => {
                write!(out, ",\"available_at\":\"{available_at}\",\"scheduled\":true").expect("memory");
            }
        }
        out.extend_from_slice(if event.duplicate { b",\"duplicate\":true}" } else { b"}" });
    }
    out.extend_from_slice(b"],\"cursor\":\"");
    out.extend_from_slice(receipt.cursor().encode().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Puts the client's own `ref` into an answer.
pub fn with_ref(reference: Option<&str>, mut answer: serde_json::Value) -> serde_json::Value {
    if let Some(reference) = reference {
        answer["ref"] = reference.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::{Epoch, NewEvent, Offset, RecordWriter};

    fn entry(json: &str) -> Entry {
        let new = NewEvent::parse(json.as_bytes(), &Topic::parse("t").unwrap()).unwrap();
        let record = RecordWriter::encode(&new, Uuid::from_u128(1));
        Entry::new(Event::new(new.topic.name, Epoch(1), Offset(1), record.into()).unwrap())
    }

    #[test]
    fn line_breaks_in_json_become_data_lines() {
        let bytes = sse(&entry("{\"name\":\"n\",\"data\":{\n\"a\":\r\n1}}"), Framing::Plain);
        let text = std::str::from_utf8(&bytes).unwrap();
        let data: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        let json: serde_json::Value = serde_json::from_str(&data.join("\n")).unwrap();
        assert_eq!(json["data"]["a"], 1);
        assert!(text.contains("\nevent: n\n") && text.ends_with("\n\n"));
    }

    #[test]
    fn names_an_event_source_fires_itself_are_left_out() {
        let bytes = sse(&entry(r#"{"name":"error","data":1}"#), Framing::Plain);
        assert!(!std::str::from_utf8(&bytes).unwrap().contains("event:"));
    }

    #[test]
    fn a_chunk_says_its_length_in_both_ways_of_writing_the_id() {
        let entry = entry(r#"{"data":1}"#);
        let mut own = Vec::new();
        sse_own(&entry, &own_cursor(&entry.event), Framing::Chunked, &mut own);
        assert_eq!(own.concat(), sse(&entry, Framing::Chunked));
    }

    #[test]
    fn frames_say_their_length() {
        for (len, head) in [(125usize, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(text_frame(&vec![b'x'; len]).len(), len + head);
        }
    }
}
