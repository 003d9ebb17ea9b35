//! Whatever breaks, nothing is lost and nothing comes twice.

use super::{
    Database, LOG, MODES, capture, events, keys, level, read, settings_file, source, status, until_state,
};
use crate::harness::{Server, until};
use mysql_async::prelude::Queryable as _;

#[tokio::test]
async fn a_killed_connection_and_a_restarted_database_are_caught_up_with() {
    for mode in MODES {
        let mut db = Database::start().await;
        db.run("create table items (id int primary key)").await;
        let (server, _dir) = capture(&source(&db.url(), &["items"], mode)).await;
        db.run("insert into items values (1)").await;
        events(&server, "items", 1).await;
        let own = db.texts("select connection_id()").await;
        for id in db.texts("select id from information_schema.processlist where user = 'root'").await {
            if id != own[0] {
                db.run(&format!("kill {id}")).await;
            }
        }
        db.run("insert into items values (2)").await;
        assert_eq!(keys(&events(&server, "items", 2).await), ["1", "2"]);
        db.peer.kill();
        until_state(&server, "waiting").await;
        assert_eq!(server.get("/readyz").await.status(), 503);
        db.peer.start();
        *db.connection.lock().await = db.connect().await;
        db.run("insert into items values (3)").await;
        assert_eq!(keys(&events(&server, "items", 3).await), ["1", "2", "3"], "{mode}");
        assert!(status(&server).await["failures"].as_u64().unwrap() >= 2);
        until("ready", async || server.get("/readyz").await.status() == 200).await;
    }
}

#[tokio::test]
async fn what_is_written_while_the_server_is_away_comes_once() {
    for mode in MODES {
        let db = Database::start().await;
        db.run("create table items (id int primary key); create table marks (id int primary key)").await;
        let (_dir, path) = settings_file(&source(&db.url(), &["items", "marks"], mode));
        let mut server = Server::start_to_restart(&["--config", &path]).await;
        let mut writer = db.connect().await;
        let writing = tokio::spawn(async move {
            for n in 1..=1000 {
                writer.query_drop(format!("insert into items values ({n})")).await.expect("no write fails");
            }
        });
        events(&server, "items", 20).await;
        server.kill().await;
        writing.await.expect("it ends");
        server.launch().await;
        level(&server, &db, "marks", 1).await;
        let all = read(&server, "items").await;
        let ids: Vec<i64> = all.iter().map(|event| event["data"]["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, (1..=1000).collect::<Vec<i64>>(), "{mode}");
    }
}

#[tokio::test]
async fn a_server_killed_within_a_large_transaction_goes_on_within_it() {
    let db = Database::start().await;
    db.run(
        "create table items (id int primary key, body text); create table others (id int primary key, body text); \
         create table marks (id int primary key)",
    )
    .await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items", "marks", "others"], ""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run(
        "begin; insert into others select seq, repeat('x', 300) from seq_1_to_500; \
         insert into items select seq, repeat('x', 300) from seq_1_to_100000; \
         insert into others select seq, 'y' from seq_501_to_1000; commit",
    )
    .await;
    let tail = async |server: &Server| match server.get("/v1/topics/items").await {
        found if found.status() == 200 => {
            found.json::<serde_json::Value>().await.expect("JSON")["tail"].as_u64().unwrap_or(0)
        }
        _ => 0,
    };
    for _ in 0..4 {
        let before = tail(&server).await;
        if before < 90_000 {
            until("some more", async || tail(&server).await > before).await;
        }
        server.crash_and_restart().await;
        until_state(&server, "streaming").await;
    }
    level(&server, &db, "marks", 1).await;
    for (topic, count) in [("items", 100_000), ("others", 1000)] {
        let all = read(&server, topic).await;
        let ids: Vec<i64> = all.iter().map(|event| event["data"]["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, (1..=count).collect::<Vec<i64>>(), "{topic}");
    }
}

#[tokio::test]
async fn a_log_that_the_server_has_removed_is_said_and_another_name_begins_anew() {
    let db =
        Database::start_with(&[&LOG[..], &["loose-slave-connections-needed-for-purge=0"]].concat()).await;
    db.run("create table items (id int primary key); create table marks (id int primary key)").await;
    let text = source(&db.url(), &["items", "marks"], "");
    let (_dir, path) = settings_file(&text);
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1), (2)").await;
    events(&server, "items", 2).await;
    server.kill().await;
    db.run(
        "delete from items where id = 1; flush binary logs; insert into items values (3); flush binary logs",
    )
    .await;
    until("the old logs are gone", async || {
        // While a connection that has ended is not known to have, they stay.
        let mut connection = db.connection.lock().await;
        let logs: Vec<(String, u64)> = connection.query("show binary logs").await.expect("its logs");
        let newest = &logs.last().expect("a log").0;
        connection.query_drop(format!("purge binary logs to '{newest}'")).await.expect("no error");
        logs.len() == 1
    })
    .await;
    let _ = server.spawn().await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().unwrap();
    assert!(sentence.contains("snapshot = true"), "{sentence}");
    server.kill().await;
    let text = text.replace("shop", "shop2") + "snapshot = true\nprefix = \"new-\"\n";
    std::fs::write(&path, text).expect("a file");
    server.launch().await;
    db.run("insert into marks values (1)").await;
    events(&server, "new-marks", 1).await;
    assert_eq!(keys(&read(&server, "new-items").await), ["2", "3"]);
}

#[tokio::test]
async fn an_idle_database_moves_the_position_for_what_others_write() {
    let db = Database::start().await;
    db.run("create table items (id int primary key); create table busy (id int auto_increment primary key)")
        .await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "heartbeat_ms = 100")).await;
    let before = status(&server).await["position"].clone();
    db.run("insert into busy values (), ()").await;
    until("the position moves", async || status(&server).await["position"] != before).await;
    let newest = db.texts("select @@gtid_binlog_pos").await;
    until("it is the newest", async || status(&server).await["position"] == newest[0]).await;
}
