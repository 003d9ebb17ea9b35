//! What only shows on a real connection.

use super::*;
use crate::Server;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(super) async fn serve() -> (Site, SocketAddr) {
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let site = Site::with(config, Limits::default());
    let server = Server::bind(site.door.clone()).await.unwrap();
    let address = server.address();
    site.door.services.spawn("listen", server.run());
    (site, address)
}

fn head(site: &Site, kind: &str, framing: &str) -> String {
    let token = site.anyone();
    format!(
        "POST /v1/topics/t/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: {kind}\r\n{framing}\r\n\r\n"
    )
}

/// Everything until the server closes.
async fn rest(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_client_that_sends_50_megabytes_reads_why_they_are_refused() {
    let (site, address) = serve().await;
    for framing in ["content-length: 52428800", "transfer-encoding: chunked"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(head(&site, "application/json", framing).as_bytes()).await.unwrap();
        let is_chunked = framing.ends_with("chunked");
        for _ in 0..50 {
            if is_chunked {
                socket.write_all(b"100000\r\n").await.unwrap();
            }
            socket.write_all(&vec![b' '; 1 << 20]).await.unwrap();
            if is_chunked {
                socket.write_all(b"\r\n").await.unwrap();
            }
        }
        if is_chunked {
            socket.write_all(b"0\r\n\r\n").await.unwrap();
        }
        // The connection goes on.
        let next = head(&site, "application/json", "content-length: 2\r\nconnection: close") + "{}";
        socket.write_all(next.as_bytes()).await.unwrap();
        let answers = rest(&mut socket).await;
        assert!(answers.contains("body_too_large"), "{answers}");
        assert!(answers.contains("HTTP/1.1 201"), "{answers}");
    }
}

#[tokio::test]
async fn a_client_that_stops_in_a_line_reads_what_was_accepted() {
    let (site, address) = serve().await;
    let whole = "{\"data\":1}\n{\"data\":2}\n{\"da";
    for (framing, body) in [
        ("content-length: 1000", whole.to_owned()),
        ("transfer-encoding: chunked", format!("{:x}\r\n{whole}\r\n", whole.len())),
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(head(&site, "application/x-ndjson", framing).as_bytes()).await.unwrap();
        socket.write_all(body.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let answer = rest(&mut socket).await;
        assert!(answer.contains("body_incomplete") && answer.contains("\"accepted\":2"), "{answer}");
    }
    assert_eq!(site.data("t").await, [1, 2, 1, 2]);
}

#[tokio::test]
async fn lines_are_acknowledged_only_at_the_end_but_stored_as_they_come() {
    let (site, address) = serve().await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = head(&site, "application/x-ndjson", "transfer-encoding: chunked\r\nconnection: close");
    socket.write_all(head.as_bytes()).await.unwrap();
    for n in 1..=3 {
        let line = format!("{{\"data\":{n}}}\n");
        socket.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.unwrap();
        while site.data("t").await.len() < n {
            tokio::task::yield_now().await;
        }
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(rest(&mut socket).await.contains("\"accepted\":3"));
}

#[tokio::test]
async fn streams_pass_through_the_routes_unchanged() {
    let (site, address) = serve().await;
    site.publish("t", r#"{"data":"first"}"#).await.ok();
    let token = site.anyone();
    for uri in ["/v1/topics/t/events", "/v1/stream?topic=t"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let from = if uri.contains('?') { "&from=earliest" } else { "?from=earliest" };
        let ask = format!(
            "GET {uri}{from} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             accept: text/event-stream\r\naccept-encoding: gzip\r\n\r\n"
        );
        socket.write_all(ask.as_bytes()).await.unwrap();
        let text = until(&mut socket, "first").await;
        assert!(text.starts_with("HTTP/1.1 200") && !text.contains("content-encoding"), "{text}");
    }
    let mut socket = TcpStream::connect(address).await.unwrap();
    let ask = format!(
        "GET /v1/ws HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    socket.write_all(ask.as_bytes()).await.unwrap();
    until(&mut socket, "101 Switching Protocols").await;
    let op = br#"{"op":"subscribe","topic":"t","from":"earliest"}"#;
    let mut frame = vec![0x81, 0x80 | op.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(op);
    socket.write_all(&frame).await.unwrap();
    until(&mut socket, "first").await;
}

/// Reads until `sign` has come.
async fn until(socket: &mut TcpStream, sign: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(sign) {
        assert!(
            socket.read_buf(&mut bytes).await.unwrap() > 0,
            "closed: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
