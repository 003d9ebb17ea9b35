//! The rows that are there and those that follow: no gap, no duplicate, whatever is written meanwhile.

use super::{Database, MODES, capture, level, names, read, settings_file, source, until_state};
use crate::harness::{Server, until};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a topic's events say the table holds now. Each must fit what was there before it.
pub fn folded(events: &[Value]) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for event in events {
        let key = || event["key"].as_str().expect("a key").to_owned();
        match event["name"].as_str().expect("a name") {
            "truncate" => rows.clear(),
            "delete" => assert!(rows.remove(&key()).is_some(), "deleted twice: {event}"),
            name => {
                let old = rows.insert(key(), event["data"].clone());
                assert_eq!(old.is_some(), name == "update", "{event}");
                if name == "update" {
                    assert_eq!(old.as_ref(), Some(&event["context"]["before"]), "out of order: {event}");
                }
            }
        }
    }
    rows
}

/// The rows of a table as JSON by their `id`.
pub async fn table(db: &Database, columns: &[&str], name: &str) -> BTreeMap<String, Value> {
    let pairs: Vec<String> = columns.iter().map(|column| format!("'{column}', {column}")).collect();
    let rows = db.texts(&format!("select json_object({}) from {name}", pairs.join(", "))).await;
    let row = |text: String| {
        let row: Value = serde_json::from_str(&text).expect("JSON");
        (row["id"].to_string(), row)
    };
    rows.into_iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_and_what_is_written_meanwhile_join() {
    for mode in MODES {
        let db = Database::start().await;
        db.run(
            "create table items (id int primary key, n int); create table marks (id int primary key); \
             insert into items select seq, 0 from seq_1_to_20000",
        )
        .await;
        let mut writer = db.connect().await;
        let (tx, mut stop) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut n = 20_000;
            while stop.try_recv().is_err() {
                n += 1;
                let text = format!(
                    "begin; insert into items values ({n}, 0); update items set n = n + 1 where id % 977 = {}; \
                     delete from items where id = {}; commit",
                    n % 977,
                    n - 20_000
                );
                writer.query_drop(text).await.expect("writes");
            }
        });
        let text = source(&db.url(), &["items", "marks"], &format!("snapshot = true\n{mode}"));
        let (server, _dir) = capture(&text).await;
        until_state(&server, "streaming").await;
        let before = read(&server, "items").await.len();
        until("changes to follow", async || read(&server, "items").await.len() > before + 500).await;
        tx.send(()).expect("it writes");
        writing.await.expect("it ends");
        level(&server, &db, "marks", 1).await;
        let all = read(&server, "items").await;
        let old = all.iter().filter(|event| event["context"]["snapshot"] == true).count();
        assert!(old > 19_000, "{old}");
        assert_eq!(folded(&all), table(&db, &["id", "n"], "items").await, "{mode}");
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_short_begins_anew_and_says_so() {
    for mode in MODES {
        let db = Database::start().await;
        db.run(
            "create table items (id int primary key, body text); create table marks (id int primary key); \
             insert into items select seq, repeat('x', 300) from seq_1_to_60000",
        )
        .await;
        let text = source(&db.url(), &["items", "marks"], &format!("snapshot = true\n{mode}"));
        let (_dir, path) = settings_file(&text);
        let mut server = Server::start_to_restart(&["--config", &path]).await;
        // Killed with part of it in the log; without luck it was quicker, which the next lines bear as well.
        let begun = async || server.json("/v1/topics").await["topics"].to_string().contains("items");
        crate::harness::until("some rows", begun).await;
        server.kill().await;
        server.launch().await;
        level(&server, &db, "marks", 1).await;
        let all = read(&server, "items").await;
        if all.len() > 60_000 {
            assert!(names(&all).contains(&"truncate"), "{mode}");
        }
        let rows = folded(&all);
        assert_eq!(rows.len(), 60_000);
    }
}

/// A table that is named later begins with its rows too, and joins what is said of it from before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_named_later_joins() {
    for mode in MODES {
        let db = Database::start().await;
        db.run(
            "create table marks (id int primary key); create table items (id int primary key, n int); \
             insert into items select seq, 0 from seq_1_to_20000; insert into marks values (0)",
        )
        .await;
        let more = format!("snapshot = true\n{mode}");
        let (_dir, path) = settings_file(&source(&db.url(), &["marks"], &more));
        let mut server = Server::start_to_restart(&["--config", &path]).await;
        level(&server, &db, "marks", 1).await;
        server.kill().await;
        // In what is still to be read, and among the rows; the columns of then are not those of now.
        db.run(
            "insert into items select seq, 1 from seq_20001_to_21000; delete from items where id % 7 = 1; \
             alter table items add m int default 3",
        )
        .await;
        std::fs::write(&path, source(&db.url(), &["marks", "items"], &more)).expect("settings");
        let mut writer = db.connect().await;
        let (tx, mut stop) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut n = 30_000;
            while stop.try_recv().is_err() {
                n += 1;
                let text = format!(
                    "begin; insert into items (id, n) values ({n}, 0); \
                     update items set n = n + 1 where id % 977 = {}; commit",
                    n % 977
                );
                writer.query_drop(text).await.expect("writes");
            }
        });
        server.launch().await;
        until_state(&server, "streaming").await;
        server.crash_and_restart().await;
        level(&server, &db, "marks", 2).await;
        tx.send(()).expect("it writes");
        writing.await.expect("it ends");
        level(&server, &db, "marks", 3).await;
        let all = read(&server, "items").await;
        assert!(!names(&all).contains(&"truncate"), "{mode}");
        assert_eq!(folded(&all), table(&db, &["id", "n", "m"], "items").await, "{mode}");
    }
}
