//! SIGTERM: no new work, a last word to everybody, nothing acknowledged lost.

use crate::harness::{Server, until};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn streams_end_with_a_reason_and_a_time_to_come_back() {
    let mut server = Server::start().await;
    server.publish("t", &[json!(1)]).await;
    let mut sse = server.sse("t", "from=earliest").await;
    let mut others = [server.sse("t", "from=earliest").await, server.sse("t", "from=earliest").await];
    let mut ws = server.ws(&server.admin).await;
    ws.subscribe("t", "earliest").await;
    assert_eq!((sse.event().await["data"].clone(), ws.event().await["data"].clone()), (json!(1), json!(1)));
    server.signal(libc::SIGTERM);

    let mut retries = Vec::new();
    for stream in [&mut sse].into_iter().chain(&mut others) {
        let mut closed = None;
        while let Some(frame) = stream.next().await {
            retries.extend(frame.retry);
            if frame.event.as_deref() == Some("$close") {
                closed = frame.data;
            }
        }
        let close: Value = serde_json::from_str(&closed.expect("a last word")).unwrap();
        assert_eq!(close["code"], "draining");
        assert!(close["reason"].as_str().is_some_and(|r| !r.is_empty()));
    }
    assert_eq!(retries.len(), 3);
    assert!(retries.iter().all(|r| (1..=10_000).contains(r)), "{retries:?}");
    retries.dedup();
    assert_eq!(retries.len(), 3, "they come back spread over time");
    let close = ws.op("close").await;
    assert_eq!(close["code"], "draining");
    assert_eq!(ws.end().await.0, 1001);
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn readiness_fails_while_requests_are_finished() {
    let mut server = Server::start().await;
    // A connection for asking, opened before, and a publish that is not through yet.
    let mut asking = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let mut publishing = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let body = "{\"data\":\"in time\"}\n";
    let head = format!(
        "POST /v1/topics/t/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        server.admin,
        body.len() * 2
    );
    publishing.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // The head has been read once the part before it shows its effect or the server says it waits.
    until("the server to be at the request", || async { server.json("/readyz").await["ready"] == true })
        .await;
    server.signal(libc::SIGTERM);
    let mut answer = vec![0; 4096];
    let mut asked = String::new();
    until("readiness to fail", || {
        let port = server.port();
        async move {
            let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", port)).await else { return true };
            let _ = tcp.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            let mut text = String::new();
            let _ = tcp.read_to_string(&mut text).await;
            !text.starts_with("HTTP/1.1 200")
        }
    })
    .await;
    // A connection from before may be closed, or told; it is not told that all is well.
    let _ = asking.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    if let Ok(n) = asking.read(&mut answer).await {
        asked.push_str(&String::from_utf8_lossy(&answer[..n]));
    }
    assert!(!asked.starts_with("HTTP/1.1 200"), "{asked}");

    publishing.write_all(body.as_bytes()).await.unwrap();
    let mut receipt = String::new();
    publishing.read_to_string(&mut receipt).await.unwrap();
    let is_stored = receipt.starts_with("HTTP/1.1 201");
    assert!(is_stored || receipt.contains("draining"), "{receipt}");
    assert!(server.ended().await.success());
    server.launch().await;
    if is_stored {
        assert_eq!(server.read_all("t").await.len(), 2, "acknowledged while shutting down");
    }
}

#[tokio::test]
async fn what_was_acknowledged_up_to_the_end_is_there_after_it() {
    let mut server = Server::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (http, url, token) = (server.http.clone(), server.url("/v1/topics/t/events"), server.admin.clone());
    let publisher = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut acknowledged = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = json!({ "data": acknowledged }).to_string();
                let request = http.post(&url).bearer_auth(&token).header("content-type", "application/json");
                match request.body(body).send().await {
                    Ok(response) if response.status() == 201 => acknowledged += 1,
                    _ => break,
                }
            }
            acknowledged
        }
    });
    until("some events", || async { server.get("/v1/topics/t/events?limit=1").await.status() == 200 }).await;
    assert!(server.end(libc::SIGTERM).await.success());
    stop.store(true, Ordering::Relaxed);
    let acknowledged: u64 = publisher.await.unwrap();
    server.launch().await;
    let events = server.read_all("t").await;
    // One more may have been stored whose acknowledgement did not get through.
    assert!(events.len() as u64 == acknowledged || events.len() as u64 == acknowledged + 1);
    assert!(events.iter().enumerate().all(|(n, e)| e["data"] == n as u64));
}

#[tokio::test]
async fn an_idle_server_ends_at_once_on_either_signal() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::start().await;
        let begun = std::time::Instant::now();
        assert!(server.end(signal).await.success());
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
