//! Where webhooks go, and where they do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tidings_drivers::webhook::Webhooks;
use tidings_engine::delivery::{Answer, Courier as _, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Answers every connection's first bytes with `answer`, and counts connections.
async fn receiver(answer: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut part = [0; 4096];
                while socket.read(&mut part).await.is_ok_and(|n| n > 0) {
                    if socket.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, count)
}

fn request(url: &str, allow_private: bool) -> Request {
    Request {
        url: url.into(),
        headers: vec![("webhook-id".into(), "1".into())],
        body: "{}".into(),
        timeout: Duration::from_millis(500),
        allow_private,
        answer_bytes: 8,
    }
}

fn webhooks() -> Webhooks {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Webhooks::new()
}

#[tokio::test]
async fn a_private_address_is_refused_also_behind_a_name_and_nothing_is_connected() {
    let (address, count) = receiver(b"HTTP/1.1 204 X\r\n\r\n").await;
    let webhooks = webhooks();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = format!("http://{host}:{}/", address.port());
        let answer = webhooks.send(request(&url, false)).await;
        assert!(
            matches!(&answer, Answer::Failed(why) if why.contains("private address")),
            "{host}: {answer:?}"
        );
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let url = format!("http://localhost:{}/", address.port());
    assert!(matches!(webhooks.send(request(&url, true)).await, Answer::Status { status: 204, .. }));
}

#[tokio::test]
async fn an_answer_is_its_status_and_beginning_and_a_connection_is_used_again() {
    let (address, count) =
        receiver(b"HTTP/1.1 503 X\r\nretry-after: 7\r\ncontent-length: 12\r\n\r\nnot today :-").await;
    let webhooks = webhooks();
    for _ in 0..3 {
        let answer = webhooks.send(request(&format!("http://{address}/"), true)).await;
        let expected = Answer::Status { status: 503, retry_after: Some("7".into()), body: "not toda".into() };
        assert_eq!(answer, expected);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_answer_that_never_ends_costs_neither_time_nor_memory_without_end() {
    let (address, _) = receiver(b"HTTP/1.1 200 X\r\ncontent-length: 1000000000\r\n\r\nbeginning").await;
    let begun = Instant::now();
    let answer = webhooks().send(request(&format!("http://{address}/"), true)).await;
    assert_eq!(answer, Answer::Status { status: 200, retry_after: None, body: "beginnin".into() });
    assert!(begun.elapsed() < Duration::from_secs(5));
    let (address, _) = receiver(b"").await;
    let answer = webhooks().send(request(&format!("http://{address}/"), true)).await;
    assert!(matches!(&answer, Answer::Failed(why) if why.contains("500 ms")), "{answer:?}");
}
