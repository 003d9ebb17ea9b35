//! What no client may do: frames written by hand.

use crate::harness::{Server, soon};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const CALM: u32 = 11;

/// `GET /livez`.
const LIVEZ: &[u8] = b"\x82\x86\x04\x06/livez\x01\x01h";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that no table keeps.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.extend(length(text));
        field.extend(text.as_bytes());
    }
    field
}

fn length(text: &str) -> Vec<u8> {
    match text.len() {
        len @ ..127 => vec![len as u8],
        len => {
            let mut out = vec![127];
            let mut left = len - 127;
            while left >= 128 {
                out.push(left as u8 | 128);
                left >>= 7;
            }
            out.push(left as u8);
            out
        }
    }
}

/// A header block in as many frames as it takes.
fn head(stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    let mut parts = block.chunks(16 << 10).peekable();
    let (mut out, mut kind, mut flags) = (Vec::new(), HEADERS, flags);
    while let Some(part) = parts.next() {
        let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
        out.extend(frame(kind, flags | end, stream, part));
        (kind, flags) = (CONTINUATION, 0);
    }
    out
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

struct Raw {
    tcp: TcpStream,
}

impl Raw {
    async fn to(server: &Server) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut raw = Self { tcp };
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    /// The next frame; none when the connection has ended.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon("a frame", self.tcp.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon("its payload", self.tcp.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of that kind.
    async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.kind == kind && !(kind == SETTINGS && frame.flags & ACK > 0) {
                return frame;
            }
        }
    }

    /// Why the server ends the connection.
    async fn end(mut self) -> u32 {
        let code = self.until(GOAWAY).await.code();
        while self.next().await.is_some() {}
        code
    }
}

#[tokio::test]
async fn who_begins_and_ends_streams_for_nothing_is_cut_off() {
    let server = Server::start().await;
    let mut raw = Raw::to(&server).await;
    // Streams that go on, each ended before anything came of it.
    let block = [
        &b"\x82\x86\x41\x01h"[..],
        b"\x04",
        &length("/v1/topics/t/events"),
        b"/v1/topics/t/events",
        &field("accept", "text/event-stream"),
        &field("authorization", &format!("Bearer {}", server.admin)),
    ]
    .concat();
    let mut sent = Vec::new();
    for i in 0..1_500 {
        sent.extend(head(2 * i + 1, &block, END_STREAM));
        sent.extend(frame(RST_STREAM, 0, 2 * i + 1, &8_u32.to_be_bytes()));
    }
    // The server may have ended the connection before everything was sent.
    let _ = raw.tcp.write_all(&sent).await;
    assert_eq!(raw.end().await, CALM);
    // Whoever takes the answers may begin as many as it likes.
    let mut raw = Raw::to(&server).await;
    for i in 0..1_500 {
        raw.send(&head(2 * i + 1, LIVEZ, END_STREAM)).await;
        let answer = raw.until(HEADERS).await;
        assert_eq!((answer.stream, answer.payload[0]), (2 * i + 1, 0x88));
        if i % 2 == 0 {
            raw.send(&frame(RST_STREAM, 0, 2 * i + 1, &8_u32.to_be_bytes())).await;
        }
    }
    server.assert_unaffected("after").await;
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let server = Server::start().await;
    for part in [0, 1, 10_000] {
        let mut raw = Raw::to(&server).await;
        let mut sent = frame(HEADERS, END_STREAM, 1, LIVEZ);
        for _ in 0..100 {
            sent.extend(frame(CONTINUATION, 0, 1, &field("x", "y").repeat(part / 4 + part % 2)));
        }
        let _ = raw.tcp.write_all(&sent).await;
        assert_eq!(raw.end().await, CALM, "{part}");
    }
    server.assert_unaffected("after").await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_however_small_it_was_made() {
    let server = Server::start().await;
    let mut raw = Raw::to(&server).await;
    let status = |frame: &Frame| String::from_utf8_lossy(&frame.payload[..5]).into_owned();
    // As it is.
    raw.send(&head(1, &[LIVEZ, &field("x", &"y".repeat(65_450))].concat(), END_STREAM)).await;
    let refused = raw.until(HEADERS).await;
    assert_eq!((refused.stream, status(&refused)), (1, "\x08\x03431".into()));
    // One field in the table, and thousands of bytes that refer to it.
    let stored = [&[0x40, 1, b'x'][..], &length(&"y".repeat(4_000)), "y".repeat(4_000).as_bytes()].concat();
    let bomb = [LIVEZ, &stored, &[0xbe; 50_000]].concat();
    raw.send(&head(3, &bomb, END_STREAM)).await;
    let refused = raw.until(HEADERS).await;
    assert_eq!((refused.stream, status(&refused)), (3, "\x08\x03431".into()));
    // The connection and its table go on.
    raw.send(&head(5, &[LIVEZ, b"\xbe"].concat(), END_STREAM)).await;
    let answer = raw.until(HEADERS).await;
    assert_eq!((answer.stream, answer.payload[0]), (5, 0x88));
}

/// A client that asks and asks and takes no answer is not read any more, and ended at last.
#[tokio::test]
async fn who_takes_nothing_makes_the_server_keep_little_and_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, "[limits]\nwrite_timeout_ms = 1500\nread_timeout_ms = 1000\n").unwrap();
    let server = Server::start_with(&["--config", &file.display().to_string()]).await;
    server.publish("t", &[json!("x".repeat(60_000))]).await;
    let before = server.rss_kib();
    let path = "/v1/topics/t/events?from=earliest";
    let page = [&b"\x82\x86\x41\x01h\x04"[..], &length(path), path.as_bytes()].concat();
    let page = [page, field("authorization", &format!("Bearer {}", server.admin))].concat();
    let mut ping = Vec::new();
    (0..1_000).for_each(|_| ping.extend(frame(PING, 0, 0, b"whatever")));
    let mut pages = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    pages.extend(frame(SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]));
    (0..200).for_each(|i| pages.extend(head(2 * i + 1, &page, END_STREAM)));
    for what in [ping.repeat(2_000), [pages, ping].concat()] {
        let mut raw = Raw::to(&server).await;
        // Until the server reads no more, or has ended it.
        let _ = tokio::time::timeout(Duration::from_millis(800), raw.tcp.write_all(&what)).await;
        assert!(server.rss_kib() < before + 40_000, "{} KiB beyond {before}", server.rss_kib());
        // What was sent already is not taken here: only an error tells that it is over.
        soon("the end of the connection", async {
            let end = |sent| matches!(sent, Ok(Err(_)));
            while !end(tokio::time::timeout(Duration::from_millis(50), raw.tcp.write_all(b"x")).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    server.assert_unaffected("after").await;
}

#[tokio::test]
async fn half_a_frame_is_not_waited_for_and_a_silent_client_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, "[limits]\nread_timeout_ms = 400\n[http]\nping_ms = 500\n").unwrap();
    let server = Server::start_with(&["--config", &file.display().to_string()]).await;
    let whole = head(1, LIVEZ, END_STREAM);
    for part in [&b""[..], &whole[..4], &whole[..whole.len() - 1], &frame(HEADERS, 0, 1, LIVEZ)] {
        let mut raw = Raw::to(&server).await;
        raw.send(part).await;
        if part.is_empty() {
            // Nothing is owed: it is asked whether it is there, and stays.
            let ping = raw.until(PING).await;
            raw.send(&frame(PING, ACK, 0, &ping.payload)).await;
            raw.until(PING).await;
            raw.send(&whole).await;
            assert_eq!(raw.until(HEADERS).await.payload[0], 0x88);
            continue;
        }
        while raw.next().await.is_some() {}
    }
    for begin in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        tcp.write_all(begin).await.unwrap();
        let mut rest = Vec::new();
        soon("the end", tcp.read_to_end(&mut rest)).await.unwrap();
    }
}
