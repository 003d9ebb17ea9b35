//! Changes of a real MariaDB, through the real program.

mod bad_settings;
mod basics;
mod breaks;
mod snapshot;
mod torture;
mod triggers;
mod values;
mod visible;

use crate::harness::{Server, soon};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use peers::Peer;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a server needs for its binary log to be read.
const LOG: [&str; 4] = ["log-bin=bin", "server-id=1", "binlog-format=ROW", "binlog-row-metadata=FULL"];
/// The two ways to capture.
const MODES: [&str; 2] = ["mode = \"binlog\"", "mode = \"triggers\"\npoll_ms = 20"];

/// A database of one test.
pub struct Database {
    pub peer: Peer,
    /// As root.
    pub connection: Mutex<Conn>,
}

impl Database {
    pub async fn start() -> Self {
        Self::start_with(&LOG).await
    }

    pub async fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let start =
            move || peers::mariadb(&settings.iter().map(String::as_str).collect::<Vec<_>>()).started();
        let peer = tokio::task::spawn_blocking(start).await.expect("it starts");
        let connection = Mutex::new(connect(&peer).await);
        Self { peer, connection }
    }

    /// Statements, one after the other.
    pub async fn run(&self, text: &str) {
        let done = self.connection.lock().await.query_drop(text).await;
        done.unwrap_or_else(|e| panic!("{}: {e}", text.chars().take(300).collect::<String>()));
    }

    pub async fn connect(&self) -> Conn {
        connect(&self.peer).await
    }

    pub fn url(&self) -> String {
        self.url_of("root", "test")
    }

    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.peer.port())
    }

    /// The first column of what a query answers with.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        self.connection.lock().await.query(query).await.unwrap_or_else(|e| panic!("{query}: {e}"))
    }
}

/// A test that fails says what its database said last.
impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.peer.dir().join("log")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(60).collect();
            eprintln!("the database said:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

async fn connect(peer: &Peer) -> Conn {
    let url = format!("mysql://root@127.0.0.1:{}/test", peer.port());
    let mut connection = Conn::new(Opts::from_url(&url).expect("a URL")).await.expect("a connection");
    connection.query_drop("set names utf8mb4").await.expect("its character set");
    connection
}

/// Settings of one source `shop`; `more` are further lines.
pub fn source(url: &str, tables: &[&str], more: &str) -> String {
    format!("[[sources]]\nname = \"shop\"\nkind = \"mysql\"\nurl = \"{url}\"\ntables = {tables:?}\n{more}\n")
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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
            tokio::time::sleep(Duration::from_millis(20)).await;
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

/// Waits until everything that is committed now is in the log, by way of a row of its own.
pub async fn level(server: &Server, db: &Database, table: &str, n: i64) {
    db.run(&format!("insert into {table} values ({n})")).await;
    let key = n.to_string();
    soon("the marker", async {
        while !read(server, table).await.iter().any(|event| event["key"] == key.as_str()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["name"].as_str().expect("a name")).collect()
}

fn keys(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["key"].as_str().unwrap_or("-")).collect()
}
