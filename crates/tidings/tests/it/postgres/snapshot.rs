//! The rows that are there and those that follow: no gap, no duplicate, whatever is written meanwhile.

use super::{Database, capture, events, level, read, source};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a topic's events say the table holds now.
pub fn folded(events: &[Value]) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for event in events {
        match event["name"].as_str().unwrap() {
            "truncate" => rows.clear(),
            "delete" => {
                let gone = rows.remove(event["key"].as_str().unwrap());
                assert!(gone.is_some(), "deleted twice: {event}");
            }
            name => {
                let old = rows.insert(event["key"].as_str().unwrap().to_owned(), event["data"].clone());
                assert_eq!(old.is_some(), name == "update", "{event}");
            }
        }
    }
    rows
}

/// The rows of a table as JSON by their `id`.
pub async fn table(db: &Database, name: &str) -> BTreeMap<String, Value> {
    table_by(db, name, "id").await
}

/// The same by the column that is the key.
pub async fn table_by(db: &Database, name: &str, key: &str) -> BTreeMap<String, Value> {
    let query = format!("select {key}::text, row_to_json(t)::text from {name} t");
    let rows = db.client.query(&query, &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), serde_json::from_str(row.get(1)).expect("JSON"))).collect()
}

async fn joins_the_stream(mode: &str) {
    let db = Database::start().await;
    db.run(
        "create table items (id int primary key, n int); create table marks (id int primary key); \
        insert into items select i, 0 from generate_series(1, 20000) i",
    )
    .await;
    let writer = db.connect().await;
    let (tx, mut stop) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut n = 20_000;
        while stop.try_recv().is_err() {
            n += 1;
            let text = format!(
                "insert into items values ({n}, 0); update items set n = n + 1 where id % 977 = {0}; \
                 delete from items where id = {1}",
                n % 977,
                n - 20_000
            );
            writer.batch_execute(&text).await.expect("writes");
        }
    });
    let (server, _dir) =
        capture(&source(&db.url(), &["items", "marks"], &format!("snapshot = true\n{mode}"))).await;
    super::until_state(&server, "streaming").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    tx.send(()).expect("it writes");
    writing.await.expect("it ends");
    level(&server, &db, "marks", 1).await;
    let all = read(&server, "items").await;
    assert!(all.iter().filter(|e| e["context"]["snapshot"] == true).count() > 19_000);
    assert_eq!(folded(&all), table(&db, "items").await);
}

#[tokio::test]
async fn a_snapshot_joins_the_stream_while_everybody_writes() {
    joins_the_stream("").await;
}

/// A table that is named later begins with its rows too, and joins what the stream says of it from before and after.
async fn joins_later(mode: &str) {
    let db = Database::start().await;
    db.run(
        "create table marks (id int primary key); create table items (id int primary key, n int); \
         insert into items select i, 0 from generate_series(1, 20000) i; insert into marks values (0); \
         create publication everything for all tables",
    )
    .await;
    let more = format!("snapshot = true\nheartbeat_ms = 200\n{mode}");
    let (_dir, path) = super::settings_file(&source(&db.url(), &["marks"], &more));
    let mut server = crate::harness::Server::start_to_restart(&["--config", &path]).await;
    events(&server, "marks", 1).await;
    server.kill().await;
    // In what is still to be read, and among the rows.
    db.run("insert into items select i, 1 from generate_series(20001, 21000) i; delete from items where id % 7 = 1").await;
    std::fs::write(&path, source(&db.url(), &["marks", "items"], &more)).expect("settings");
    let writer = db.connect().await;
    let (tx, mut stop) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut n = 30_000;
        while stop.try_recv().is_err() {
            n += 1;
            let text = format!(
                "insert into items values ({n}, 0); update items set n = n + 1 where id % 977 = {}",
                n % 977
            );
            writer.batch_execute(&text).await.expect("writes");
        }
    });
    server.launch().await;
    super::until_state(&server, "streaming").await;
    server.crash_and_restart().await;
    level(&server, &db, "marks", 1).await;
    tx.send(()).expect("it writes");
    writing.await.expect("it ends");
    level(&server, &db, "marks", 2).await;
    let all = read(&server, "items").await;
    assert_eq!(all.iter().filter(|e| e["name"] == "truncate").count(), 0);
    assert_eq!(folded(&all), table(&db, "items").await);
}

/// Also when the stream is broken off before it has come to where the rows belong, and another table is made anew then.
#[tokio::test]
async fn rows_that_came_first_do_not_come_again_after_a_break() {
    let db = Database::start().await;
    db.run(
        "create table noise (id int primary key); create table items (id int primary key); \
         create table later (id int primary key); create publication everything for all tables",
    )
    .await;
    let more = "snapshot = true\npublication = \"everything\"";
    let (_dir, path) = super::settings_file(&source(&db.url(), &["noise", "items"], more));
    let mut server = crate::harness::Server::start_to_restart(&["--config", &path]).await;
    level(&server, &db, "noise", 0).await;
    server.kill().await;
    db.run(
        "insert into noise select i from generate_series(1, 150000) i; \
         insert into later select i from generate_series(1, 1000) i",
    )
    .await;
    std::fs::write(&path, source(&db.url(), &["noise", "items", "later"], more)).expect("settings");
    server.launch().await;
    super::until_state(&server, "streaming").await;
    server.kill().await;
    db.run("drop table items; create table items (id int primary key); insert into items values (1)").await;
    server.launch().await;
    assert_eq!(events(&server, "items", 1).await[0]["key"], "1");
    level(&server, &db, "noise", 150_001).await;
    let all = read(&server, "later").await;
    assert_eq!((all.len(), folded(&all).len()), (1000, 1000));
}

#[tokio::test]
async fn a_table_that_is_named_later_joins_the_stream() {
    joins_later("publication = \"everything\"").await;
}

#[tokio::test]
async fn a_table_that_is_named_later_joins_what_triggers_say() {
    joins_later("mode = \"triggers\"").await;
}

#[tokio::test]
async fn a_snapshot_that_was_broken_off_is_begun_anew() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, body text); insert into items select i, repeat('x', 1000) from generate_series(1, 60000) i").await;
    let (_dir, path) = super::settings_file(&source(&db.url(), &["items"], "snapshot = true"));
    let mut server = crate::harness::Server::start_to_restart(&["--config", &path]).await;
    // Killed with part of it in the log; without luck it was quicker, which the next lines bear as well.
    crate::harness::until("some rows", async || !read_some(&server).await.is_empty()).await;
    server.kill().await;
    db.run("delete from items where id > 59990").await;
    server.launch().await;
    super::until_state(&server, "streaming").await;
    let all = events(&server, "items", 59_990).await;
    let truncated = all.iter().rposition(|e| e["name"] == "truncate");
    let after = &all[truncated.map_or(0, |at| at + 1)..];
    assert_eq!(folded(&all).len(), 59_990);
    assert!(truncated.is_none() || after.len() == 59_990);
}

async fn read_some(server: &crate::harness::Server) -> Vec<Value> {
    match server.get("/v1/topics/items/events?limit=1").await {
        page if page.status() == 200 => {
            page.json::<Value>().await.expect("JSON")["events"].as_array().expect("a list").clone()
        }
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn without_a_snapshot_only_what_changes_from_now_on_comes() {
    let db = Database::start().await;
    db.run("create table items (id int primary key); insert into items values (1)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("insert into items values (2)").await;
    assert_eq!(events(&server, "items", 1).await[0]["data"], json!({"id": 2}));
}
