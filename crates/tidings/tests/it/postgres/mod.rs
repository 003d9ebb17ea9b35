//! Changes of a real PostgreSQL, through the real program.

mod bad_settings;
mod basics;
mod breaks;
mod names;
mod pgbench;
mod snapshot;
mod torture;
mod triggers;
mod values;

use crate::harness::{PATIENCE, Server, soon};
use peers::Peer;
use serde_json::Value;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// A database of one test.
pub struct Database {
    pub peer: Peer,
    /// As the superuser.
    pub client: Client,
}

impl Database {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(settings: &[&str]) -> Self {
        let own = ["wal_level=logical", "max_connections=60", "max_prepared_transactions=5"];
        let all: Vec<&str> = own.iter().chain(settings).copied().collect();
        let peer = tokio::task::spawn_blocking({
            let all: Vec<String> = all.iter().map(|s| (*s).to_owned()).collect();
            move || peers::postgres(&all.iter().map(String::as_str).collect::<Vec<_>>()).started()
        });
        let peer = peer.await.expect("it starts");
        let client = connect(&peer, "postgres").await;
        Self { peer, client }
    }

    pub async fn run(&self, text: &str) {
        self.client.batch_execute(text).await.unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }

    pub async fn connect(&self) -> Client {
        connect(&self.peer, "postgres").await
    }

    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn url_of(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.peer.port())
    }

    /// A number that a query answers with.
    pub async fn number(&self, query: &str) -> i64 {
        self.client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
    }
}

async fn connect(peer: &Peer, user: &str) -> Client {
    let text = format!("host=127.0.0.1 port={} user={user} dbname=postgres", peer.port());
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Settings of one source `shop`; `more` are further lines.
pub fn source(url: &str, tables: &[&str], more: &str) -> String {
    format!(
        "[[sources]]\nname = \"shop\"\nkind = \"postgres\"\nurl = \"{url}\"\ntables = {tables:?}\n{more}\n"
    )
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
    let path = format!("/v1/topics/{}", encode(topic));
    if server.get(&path).await.status() == 404 {
        return Vec::new();
    }
    server.read_all(&encode(topic)).await
}

pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
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

/// Waits until everything that is committed now is in the log, by way of a row of its own.
pub async fn level(server: &Server, db: &Database, topic: &str, n: i64) {
    db.run(&format!("insert into {topic} values ({n})")).await;
    let (since, key) = (std::time::Instant::now(), n.to_string());
    while !read(server, topic).await.iter().any(|e| e["key"] == *key) {
        assert!(since.elapsed() < 2 * PATIENCE, "not level: {}", status(server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
