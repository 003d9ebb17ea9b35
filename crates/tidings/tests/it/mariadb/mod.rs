//! Changes of a real MariaDB, through the real program.

mod bad_settings;
mod basics;
mod breaks;
mod snapshot;
mod torture;
mod triggers;
mod values;
mod visible;

use crate::harness::Server;
use crate::sources::{self, capture, events, read, settings_file, status, until_state};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use peers::Peer;
use serde_json::Value;
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
fn source(url: &str, tables: &[&str], more: &str) -> String {
    sources::source("mysql", url, tables, more)
}

/// Waits until everything that is committed now is in the log.
async fn level(server: &Server, db: &Database, table: &str, n: i64) {
    let statement = format!("insert into {table} values ({n})");
    sources::level(server, db.run(&statement), table, n).await;
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["name"].as_str().expect("a name")).collect()
}

fn keys(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["key"].as_str().unwrap_or("-")).collect()
}
