//! Small publishes over HTTP/1.1, which the server answers without its HTTP library: nobody can tell.

use crate::harness::{Server, soon};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A client that writes its requests by hand.
struct Raw {
    tcp: TcpStream,
    read: Vec<u8>,
}

/// What it is answered with; ids and times are the server's own.
#[derive(Debug, PartialEq)]
struct Answer {
    status: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Raw {
    async fn to(server: &Server) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { tcp, read: Vec::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.tcp.write_all(bytes).await.unwrap();
    }

    /// Reads on until `found` finds what it looks for in what has come.
    async fn until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> T {
        loop {
            if let Some(found) = found(&self.read) {
                return found;
            }
            let count = soon("an answer", self.tcp.read_buf(&mut self.read)).await.unwrap();
            assert!(count > 0, "ended after {}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn answer(&mut self) -> Answer {
        let end = |read: &[u8]| read.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4);
        let head = self.until(end).await;
        let text = String::from_utf8(self.read[..head].to_vec()).unwrap();
        let mut lines = text.trim_end().lines();
        let status = lines.next().unwrap().to_owned();
        let mut headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let len: usize = headers["content-length"].parse().unwrap();
        self.until(|read| (read.len() >= head + len).then_some(())).await;
        let mut body: Value = serde_json::from_slice(&self.read[head..head + len]).unwrap();
        self.read.drain(..head + len);
        httpdate::parse_http_date(&headers.remove("date").unwrap()).unwrap();
        for event in body.get_mut("events").and_then(Value::as_array_mut).into_iter().flatten() {
            for own in ["offset", "published_at", "id"] {
                event[own] = Value::Null;
            }
        }
        if let Some(cursor) = body.get_mut("cursor") {
            *cursor = Value::Null;
        }
        headers.remove("content-length");
        Answer { status, headers, body }
    }

    /// The connection ends without another word.
    async fn end(mut self) {
        soon("the end", self.tcp.read_to_end(&mut self.read)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&self.read), "");
    }
}

fn request(topic: &str, token: &str, extra: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/topics/{topic}/events HTTP/1.1\r\nHost: t\r\nAuthorization: {token}\r\n\
         Content-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn the_library_would_have_said_the_same() {
    let server = Server::start().await;
    let own = server.token(&["--publish", "mine"]).await;
    let bearer = format!("Bearer {}", server.admin);
    let (mut plain, mut library) = (Raw::to(&server).await, Raw::to(&server).await);
    let mut both = async |topic: &str, token: &str, body: &[u8]| {
        plain.send(&request(topic, token, "", body)).await;
        // This header leads past the lane.
        library.send(&request(topic, token, "te: trailers\r\n", body)).await;
        let (plain, library) = (plain.answer().await, library.answer().await);
        assert_eq!(plain, library, "{topic} {}", String::from_utf8_lossy(body));
        plain.status.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let later = tidings::Clock::now(&tidings::SystemClock).plus_millis(3_600_000);
    let later = json!({"available_at": later.to_string(), "data": "later"}).to_string();
    let known = r#"{"id":"0190a5b0-0000-7000-8000-000000000001"}"#;
    assert_eq!(server.post("t", &server.admin, known).await.status(), 201);
    let good: [&[u8]; 5] = [
        br#"{"name":"x","data":{"a":[1,2]}}"#,
        br#" [{"data":1},{"data":2,"key":"k"}]"#,
        later.as_bytes(),
        known.as_bytes(),
        b"{}",
    ];
    for body in good {
        assert_eq!(both("t", &bearer, body).await, 201, "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(both("t:key", &bearer, b"{}").await, 201);
    assert_eq!(both("t:k%20ey", &bearer, b"{}").await, 201);
    assert_eq!(both("t", &format!("bearer   {} ", server.admin), b"{}").await, 201);
    let bad: [&[u8]; 8] = [
        b"",
        b"{",
        b"[1]",
        b"{\"data\":1}x",
        b"{\"what\":1}",
        b"\"\xff\"",
        b"{\"name\":7}",
        b"{\"name\":\"$x\"}",
    ];
    for body in bad {
        assert_eq!(both("t", &bearer, body).await / 100, 4, "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(both("t", "Bearer nonsense", b"{}").await, 401);
    assert_eq!(both("t", "Basic abc", b"{}").await, 401);
    assert_eq!(both("t", &format!("Bearer {own}"), b"{}").await, 403);
    assert_eq!(both("mine", &format!("Bearer {own}"), b"{}").await, 201);
    assert_eq!(both("$dead", &bearer, b"{}").await, 403);
    assert_eq!(both(&"x".repeat(300), &bearer, b"{}").await, 400);
    assert_eq!(both("%ff", &bearer, b"{}").await, 400);
    let many = format!("[{}]", vec!["{}"; 2000].join(","));
    assert_eq!(both("t", &bearer, many.as_bytes()).await, 201);
}

#[tokio::test]
async fn requests_come_in_any_pieces_and_whatever_else_comes_is_answered_too() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.admin);
    let one = request("t", &bearer, "", br#"{"data":"one"}"#);
    let head = one.len() - br#"{"data":"one"}"#.len();
    let mut raw = Raw::to(&server).await;
    for at in [1, 20, head - 2, head, head + 1, one.len() - 1] {
        raw.send(&one[..at]).await;
        server.publish("other", &[json!("goes on meanwhile")]).await;
        raw.send(&one[at..]).await;
        assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created", "cut at {at}");
    }
    // Several at once, and something else behind them.
    let health = b"GET /openapi.json HTTP/1.1\r\nhost: t\r\n\r\n";
    raw.send(&[&one[..], &one, health, &one, &one[..head + 3]].concat()).await;
    for _ in 0..2 {
        assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    }
    assert_eq!(raw.answer().await.body["openapi"], "3.1.0");
    assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    raw.send(&one[head + 3..]).await;
    assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    // A client that asks first, and one whose event is too large for the lane.
    let mut raw = Raw::to(&server).await;
    let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(50_000));
    let large = request("t", &bearer, "Expect: 100-continue\r\n", body.as_bytes());
    raw.send(&large[..large.len() - body.len()]).await;
    let told = b"HTTP/1.1 100 Continue\r\n\r\n";
    raw.until(|read| read.starts_with(told).then_some(())).await;
    raw.read.drain(..told.len());
    raw.send(body.as_bytes()).await;
    assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    let mut raw = Raw::to(&server).await;
    raw.send(&[&one[..], &request("t", &bearer, "", body.as_bytes())].concat()).await;
    for _ in 0..2 {
        assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    }
    let events = server.read_all("t").await;
    let texts: Vec<usize> = events.iter().map(|e| e["data"].as_str().unwrap().len()).collect();
    assert_eq!(texts, [&[3; 10][..], &[50_000, 3, 50_000]].concat());
    // Counted like any other.
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let line =
        r#"tidings_http_requests_total{method="POST",route="/v1/topics/{topic}/events",status="2xx"} 19"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn who_is_slow_is_told_and_who_is_silent_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, "[limits]\nread_timeout_ms = 400\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]).await;
    let one = request("t", &format!("Bearer {}", server.admin), "", b"{}");
    let mut slow = Raw::to(&server).await;
    slow.send(&one[..one.len() - 1]).await;
    let answer = slow.answer().await;
    assert_eq!(
        (answer.status.as_str(), &answer.body["code"]),
        ("HTTP/1.1 408 Request Timeout", &json!("timeout"))
    );
    let mut endless = Raw::to(&server).await;
    endless.send(&one[..one.len() - 5]).await;
    endless.end().await;
    let mut silent = Raw::to(&server).await;
    silent.send(&one).await;
    assert_eq!(silent.answer().await.status, "HTTP/1.1 201 Created");
    silent.end().await;
    // One who leaves in the middle leaves nothing behind.
    let mut gone = Raw::to(&server).await;
    gone.send(&one[..one.len() - 1]).await;
    drop(gone);
    assert_eq!(server.read_all("t").await.len(), 1);
}

#[tokio::test]
async fn settings_that_bound_publishes_bound_these_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    let settings = ["[limits]\nbody_bytes = 1024\n", "[rates]\npublish = \"1/60s\"\n"];
    for (settings, status) in settings.into_iter().zip([413, 429]) {
        std::fs::write(&file, settings).unwrap();
        let server = Server::start_with(&["--config", file.to_str().unwrap()]).await;
        let bearer = format!("Bearer {}", server.admin);
        let mut raw = Raw::to(&server).await;
        raw.send(&request("t", &bearer, "", b"{}")).await;
        assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
        let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(1024));
        raw.send(&request("t", &bearer, "", body.as_bytes())).await;
        assert!(raw.answer().await.status.starts_with(&format!("HTTP/1.1 {status}")));
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_first_and_waits_for_nobody_who_is_silent() {
    let mut server = Server::start().await;
    let one = request("t", &format!("Bearer {}", server.admin), "", b"{}");
    let mut idle = Raw::to(&server).await;
    idle.send(&one).await;
    assert_eq!(idle.answer().await.status, "HTTP/1.1 201 Created");
    let mut silent = Raw::to(&server).await;
    silent.send(&one[..1]).await;
    assert!(server.end(libc::SIGTERM).await.success());
    idle.end().await;
}

#[tokio::test]
async fn rights_that_are_taken_away_are_gone_on_connections_that_have_used_them() {
    let server = Server::start().await;
    let key = server.cli(&["keys", "add", "app", "--kind", "producer", "--publish", "t"], b"").await.ok();
    let one = request("t", &format!("Bearer {}", key.trim()), "", b"{}");
    let short = server.token(&["--publish", "t", "--ttl", "2s"]).await;
    let other = request("t", &format!("Bearer {short}"), "", b"{}");
    let (mut raw, mut late) = (Raw::to(&server).await, Raw::to(&server).await);
    for _ in 0..2 {
        raw.send(&one).await;
        assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
        late.send(&other).await;
        assert_eq!(late.answer().await.status, "HTTP/1.1 201 Created");
    }
    server.cli(&["keys", "grant", "app", "--publish", "elsewhere"], b"").await.ok();
    raw.send(&one).await;
    assert_eq!(raw.answer().await.status, "HTTP/1.1 403 Forbidden");
    server.cli(&["keys", "grant", "app", "--publish", "t"], b"").await.ok();
    raw.send(&one).await;
    assert_eq!(raw.answer().await.status, "HTTP/1.1 201 Created");
    server.cli(&["keys", "revoke", "app"], b"").await.ok();
    raw.send(&one).await;
    assert_eq!(raw.answer().await.status, "HTTP/1.1 401 Unauthorized");
    soon("the end of the token", async {
        loop {
            late.send(&other).await;
            let answer = late.answer().await;
            if answer.status != "HTTP/1.1 201 Created" {
                assert_eq!(answer.body["code"], "token_expired");
                break;
            }
        }
    })
    .await;
}
