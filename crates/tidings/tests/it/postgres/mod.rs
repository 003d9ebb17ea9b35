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
mod visible;

pub use crate::sources::{capture, settings_file};

use crate::harness::Server;
use crate::sources::{self, events, read, status, until_state};
use peers::Peer;
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
    sources::source("postgres", url, tables, more)
}

/// Waits until everything that is committed now is in the log.
async fn level(server: &Server, db: &Database, topic: &str, n: i64) {
    let statement = format!("insert into {topic} values ({n})");
    sources::level(server, db.run(&statement), topic, n).await;
}
