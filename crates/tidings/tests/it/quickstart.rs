//! The main job, on real input: the machine's own package log, with a crash in the middle.

use crate::harness::{PATIENCE, Server, Sse, Ws, finish, soon, until};
use serde_json::{Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt as _;

const REAL: &str = "/var/log/dpkg.log";

/// The machine's package log, or lines of the same shape where there is none.
fn package_log() -> String {
    if let Ok(text) = std::fs::read_to_string(REAL)
        && text.lines().count() > 500
    {
        return text;
    }
    let states = ["half-configured", "unpacked", "half-installed", "installed", "triggers-pending"];
    let line = |n: usize| {
        let (minute, second, state) = (n / 60 % 60, n % 60, states[n % states.len()]);
        format!("2026-01-02 03:{minute:02}:{second:02} status {state} package-{}:amd64 1.{n}-1\n", n % 97)
    };
    (0..5000).map(line).collect()
}

/// Follows the topic by SSE through disconnects, until `count` lines have come.
async fn read_by_sse(server: Reach, count: usize, seen: Arc<AtomicUsize>) -> Vec<String> {
    let (mut lines, mut cursor) = (Vec::new(), None::<String>);
    while lines.len() < count {
        let path = "/v1/topics/packages/events?from=earliest";
        let mut request = server.http.get(server.url(path)).bearer_auth(&server.token);
        request = request.header("accept", "text/event-stream");
        if let Some(cursor) = &cursor {
            request = request.header("last-event-id", cursor);
        }
        let Ok(response) = request.send().await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = Sse::of(response, cursor.as_deref());
        while lines.len() < count
            && let Some(event) = stream.try_event().await
        {
            lines.push(event["data"].as_str().expect("a line").to_owned());
            seen.store(lines.len(), Ordering::Relaxed);
        }
        cursor = stream.cursor;
    }
    lines
}

/// The same by WebSocket.
async fn read_by_ws(server: Reach, count: usize, seen: Arc<AtomicUsize>) -> Vec<String> {
    let (mut lines, mut from) = (Vec::new(), "earliest".to_owned());
    while lines.len() < count {
        let Ok(mut ws) = Ws::try_open_at(&server.url("/v1/ws"), Some(&server.token)).await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        ws.send(json!({"op": "subscribe", "topic": "packages", "from": from})).await;
        while lines.len() < count
            && let Some((cursor, event)) = ws.try_event().await
        {
            lines.push(event["data"].as_str().expect("a line").to_owned());
            seen.store(lines.len(), Ordering::Relaxed);
            from = cursor;
        }
    }
    lines
}

/// Where a reader finds the server, also after it was started again.
#[derive(Clone)]
struct Reach {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Reach {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

#[tokio::test]
async fn every_line_arrives_once_and_in_order_although_the_server_is_killed_in_between() {
    let text = package_log();
    let lines: Vec<&str> = text.lines().collect();
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let token = server.token(&["--subscribe", "packages"]).await;
    let reach = Reach { http: server.http.clone(), base: server.url(""), token };
    let seen = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let sse = tokio::spawn(read_by_sse(reach.clone(), lines.len(), Arc::clone(&seen[0])));
    let ws = tokio::spawn(read_by_ws(reach, lines.len(), Arc::clone(&seen[1])));

    let args = server.client_args(&["publish", "packages"]);
    let mut publisher =
        server.program.command(server.root(), &args).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = publisher.stdin.take().expect("piped");
    let (first, rest) = text.split_at(text.len() / 2);
    stdin.write_all(first.as_bytes()).await.expect("it reads");
    until("both readers have a part", || async {
        seen.iter().all(|n| n.load(Ordering::Relaxed) > lines.len() / 10)
    })
    .await;

    server.kill().await;
    let rest = rest.to_owned();
    let feed = tokio::spawn(async move {
        stdin.write_all(rest.as_bytes()).await.expect("it reads");
    });
    server.launch().await;

    let done = finish(publisher, b"").await;
    feed.await.expect("fed");
    assert!(done.stderr.contains(&format!("published {} events to packages", lines.len())), "{done:?}");
    let (by_sse, by_ws) = soon("all lines", async { (sse.await.unwrap(), ws.await.unwrap()) }).await;
    assert_eq!(by_sse, lines, "by SSE");
    assert_eq!(by_ws, lines, "by WebSocket");
    assert_eq!(server.read_all("packages").await.len(), lines.len(), "as many as `wc -l` counts");
}

#[tokio::test]
async fn the_command_line_reads_through_a_crash_too() {
    let text: String = package_log().lines().take(2000).map(|line| format!("{line}\n")).collect();
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let args = server.client_args(&["tail", "packages", "--from", "earliest", "--count", "2000"]);
    let tail = server.program.command(server.root(), &args).spawn().expect("it starts");
    let (first, second) = text.split_at(text.match_indices('\n').nth(999).unwrap().0 + 1);
    server.cli(&["publish", "packages"], first.as_bytes()).await.ok();
    server.crash_and_restart().await;
    server.cli(&["publish", "packages"], second.as_bytes()).await.ok();
    let done = tokio::time::timeout(PATIENCE, finish(tail, b"")).await.expect("it ends after 2000");
    assert_eq!(done.ok(), text);
    let topics: Value = serde_json::from_str(&server.cli(&["topics", "--json"], b"").await.ok()).unwrap();
    assert_eq!(topics["tail"], 2000);
}
