//! What tests of every kind of source share: a server that captures, and what it has captured.

mod ledger;

pub use ledger::{Ledger, check, seed};

use crate::harness::{PATIENCE, Server, soon};
use serde_json::Value;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Settings of one source `shop`; `more` are further lines.
pub fn source(kind: &str, url: &str, tables: &[&str], more: &str) -> String {
    format!("[[sources]]\nname = \"shop\"\nkind = \"{kind}\"\nurl = \"{url}\"\ntables = {tables:?}\n{more}\n")
}

/// Writes settings where a server finds them.
pub fn settings_file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("text").to_owned();
    (dir, path)
}

/// A server that captures, ready.
pub async fn capture(text: &str) -> (Server, tempfile::TempDir) {
    let (dir, path) = settings_file(text);
    (Server::start_with(&["--config", &path]).await, dir)
}

/// The status of the only source.
pub async fn status(server: &Server) -> Value {
    server.json("/v1/sources").await["sources"][0].clone()
}

/// Waits for a source's state and answers with its status.
pub async fn until_state(server: &Server, state: &str) -> Value {
    soon(&format!("state {state}"), async {
        loop {
            let found = status(server).await;
            if found["state"] == state {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

/// Waits until a topic has at least so many events, and answers with all of them.
pub async fn events(server: &Server, topic: &str, count: usize) -> Vec<Value> {
    soon(&format!("{count} events of {topic}"), async {
        loop {
            let all = read(server, topic).await;
            if all.len() >= count {
                return all;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

/// All events of a topic, which may not exist yet.
pub async fn read(server: &Server, topic: &str) -> Vec<Value> {
    let topic = encode(topic);
    if server.get(&format!("/v1/topics/{topic}")).await.status() == 404 {
        return Vec::new();
    }
    server.read_all(&topic).await
}

/// Waits until everything that is committed now is in the log, by way of a row of its own that `insert` writes: for as
/// long as more and more is.
pub async fn level(server: &Server, insert: impl Future<Output = ()>, topic: &str, key: i64) {
    insert.await;
    let (mut since, mut captured, key) = (Instant::now(), None, key.to_string());
    while !read(server, topic).await.iter().any(|event| event["key"] == *key) {
        let status = status(server).await;
        assert!(since.elapsed() < 2 * PATIENCE, "not level: {status}");
        let now = status["events"].as_u64();
        if captured != now {
            (since, captured) = (Instant::now(), now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
