//! Whoever gets an event and asks the database finds what the event says.

use super::{Database, LOG, capture, source};
use mysql_async::prelude::Queryable as _;
use std::time::{Duration, Instant};

/// A server whose commits wait between its binary log and its tables, for a replica that never comes.
async fn hesitant(wait: Duration) -> Database {
    let own = [
        "rpl-semi-sync-master-wait-point=AFTER_SYNC".to_owned(),
        "rpl-semi-sync-master-wait-no-slave=ON".to_owned(),
        format!("rpl-semi-sync-master-timeout={}", wait.as_millis()),
    ];
    let own: Vec<&str> = LOG.into_iter().chain(own.iter().map(String::as_str)).collect();
    let db = Database::start_with(&own).await;
    db.run("create table items (id int primary key, n int)").await;
    db
}

/// After one commit has waited in vain, the server waits for no other, until it is told anew.
const HESITATE: &str =
    "set global rpl_semi_sync_master_enabled = off; set global rpl_semi_sync_master_enabled = on";

#[tokio::test]
async fn an_event_of_the_binary_log_comes_when_others_see_its_row() {
    let wait = Duration::from_millis(300);
    let db = hesitant(wait).await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    let mut live = server.sse("items", "from=earliest").await;
    let (mut writer, mut other) = (db.connect().await, db.connect().await);
    for id in 1..=4 {
        db.run(HESITATE).await;
        let begun = Instant::now();
        let statement = format!("insert into items values ({id}, {id})");
        let writing = tokio::spawn(async move {
            writer.query_drop(statement).await.expect("it writes");
            writer
        });
        let event = live.event().await;
        let row: Option<i64> =
            other.query_first(format!("select n from items where id = {id}")).await.expect("an answer");
        assert_eq!((row, &event["data"]["id"]), (Some(id), &id.into()));
        assert!(begun.elapsed() >= wait, "the commit did not wait: this run shows nothing");
        writer = writing.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_commit_that_hangs_is_told_before_it_is_seen_and_delays_no_other() {
    let db = hesitant(Duration::from_secs(8)).await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    let mut live = server.sse("items", "from=earliest").await;
    // While one commit hangs, the server takes one more into its log, and describes no table.
    db.run("insert into items values (0, 0)").await;
    live.event().await;
    db.run(HESITATE).await;
    let begun = Instant::now();
    let mut writing = Vec::new();
    for id in 1..=2 {
        let mut writer = db.connect().await;
        writing.push(tokio::spawn(async move {
            writer.query_drop(format!("insert into items values ({id}, 1)")).await.expect("it writes");
        }));
    }
    for _ in 0..2 {
        live.event().await;
    }
    let told = begun.elapsed();
    let seen = db.texts("select n from items").await;
    assert!(seen == ["0"] && told >= Duration::from_secs(1), "{seen:?} after {told:?}");
    for writer in writing {
        writer.await.expect("it ends");
    }
}

#[tokio::test]
async fn where_nobody_waits_an_event_comes_before_its_row() {
    let db = hesitant(Duration::from_millis(800)).await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "wait_until_seen = false")).await;
    let mut live = server.sse("items", "from=earliest").await;
    let mut before_its_row = 0;
    for id in 1..=4 {
        db.run(HESITATE).await;
        let mut writer = db.connect().await;
        let statement = format!("insert into items values ({id}, {id})");
        let writing = tokio::spawn(async move { writer.query_drop(statement).await.expect("it writes") });
        assert_eq!(live.event().await["data"]["id"], id);
        before_its_row += usize::from(db.texts("select n from items").await.len() < id);
        writing.await.expect("it ends");
    }
    // A machine may be so busy that the row is first, but not each time.
    assert!(before_its_row > 0);
}

#[tokio::test]
async fn many_writers_events_come_when_others_see_their_rows() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, n int)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    let mut live = server.sse("items", "from=earliest").await;
    let mut other = db.connect().await;
    for writer in 0..4 {
        let mut connection = db.connect().await;
        tokio::spawn(async move {
            for n in 0..200 {
                let id = writer * 1000 + n;
                connection
                    .query_drop(format!("insert into items values ({id}, {n})"))
                    .await
                    .expect("it writes");
            }
        });
    }
    for _ in 0..800 {
        let event = live.event().await;
        let query = format!("select n from items where id = {}", event["data"]["id"]);
        let row: Option<i64> = other.query_first(query).await.expect("an answer");
        assert_eq!(row, event["data"]["n"].as_i64(), "{event}");
    }
}
