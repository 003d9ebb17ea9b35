//! Whatever breaks, nothing is lost and nothing comes twice.

use super::snapshot::{folded, table};
use super::{Database, capture, events, level, read, settings_file, source, until_state};
use crate::harness::{Server, until};
use serde_json::Value;

#[tokio::test]
async fn a_lost_connection_and_a_restarted_database_are_caught_up_with() {
    let mut db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("insert into items values (1); select pg_terminate_backend(pid) from pg_stat_replication; insert into items values (2)").await;
    assert_eq!(events(&server, "items", 2).await.len(), 2);
    db.peer.kill();
    until_state(&server, "waiting").await;
    assert_eq!(server.get("/readyz").await.status(), 503);
    db.peer.start();
    db.client = db.connect().await;
    db.run("insert into items values (3)").await;
    let all = events(&server, "items", 3).await;
    assert_eq!(all.iter().map(|e| e["key"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(super::status(&server).await["failures"].as_u64().unwrap() >= 2);
    until("ready", async || server.get("/readyz").await.status() == 200).await;
}

#[tokio::test]
async fn a_server_killed_within_a_large_transaction_goes_on_within_it() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, body text); create table marks (id int primary key)")
        .await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items", "marks"], ""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items select i, repeat('x', 300) from generate_series(1, 150000) i").await;
    for _ in 0..4 {
        let before = tail(&server).await;
        until("some more", async || tail(&server).await > before).await;
        server.crash_and_restart().await;
        until_state(&server, "streaming").await;
    }
    level(&server, &db, "marks", 1).await;
    let all = read(&server, "items").await;
    let ids: Vec<i64> = all.iter().map(|e| e["data"]["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=150_000).collect::<Vec<i64>>());
}

async fn tail(server: &Server) -> u64 {
    match server.get("/v1/topics/items").await {
        found if found.status() == 200 => {
            found.json::<serde_json::Value>().await.expect("JSON")["tail"].as_u64().unwrap_or(0)
        }
        _ => 0,
    }
}

#[tokio::test]
async fn what_was_written_while_the_server_was_away_comes_and_the_slot_lets_go_of_it() {
    // A gigabyte with IT_LONG set.
    let rows = if std::env::var_os("IT_LONG").is_some() { 1_000_000 } else { 40_000 };
    let db = Database::start().await;
    db.run("create table items (id int primary key, body text); create table marks (id int primary key); create table quiet (id int primary key)").await;
    let text = source(&db.url(), &["items", "marks"], "retained_bytes_alarm = 1000000\nheartbeat_ms = 200");
    let (_dir, path) = settings_file(&text);
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    server.kill().await;
    for part in 0..10 {
        let (from, to) = (part * rows / 10 + 1, (part + 1) * rows / 10);
        db.run(&format!(
            "insert into items select i, repeat(md5(i::text), 30) from generate_series({from}, {to}) i"
        ))
        .await;
    }
    let retained = "select (pg_current_wal_lsn() - restart_lsn)::int8 from pg_replication_slots";
    assert!(db.number(retained).await > 20_000_000);
    server.launch().await;
    level(&server, &db, "marks", 1).await;
    assert_eq!(tail(&server).await, rows as u64);
    // Idle, but others write: the slot must not hold what does not concern it.
    db.run("insert into quiet select generate_series(1, 50000); checkpoint").await;
    until("the slot lets go", async || {
        db.run("select pg_switch_wal(); checkpoint").await;
        db.number(retained).await < 40_000_000
    })
    .await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("tidings_source_retained_bytes{source=\"shop\"}"), "{metrics}");
    assert!(metrics.contains("tidings_source_streaming{source=\"shop\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_the_database_keeps_too_much_of_is_an_alarm_until_it_lets_go() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, body text)").await;
    let text = source(&db.url(), &["items"], "retained_bytes_alarm = 2000000\nheartbeat_ms = 200");
    let (server, _dir) = capture(&text).await;
    let alarm = async |value: u64| {
        let line = format!("tidings_source_retained_alarm{{source=\"shop\"}} {value}");
        until(&line, async || server.get("/metrics").await.text().await.unwrap().contains(&line)).await;
    };
    alarm(0).await;
    // As long as a transaction is open, PostgreSQL keeps what it may still need of it.
    let open = db.connect().await;
    open.batch_execute("begin; insert into items values (1)").await.expect("it writes");
    db.run("insert into items select i, repeat(md5(i::text), 30) from generate_series(10, 5000) i").await;
    alarm(1).await;
    assert!(server.log().contains("PostgreSQL keeps too much for a source"), "{}", server.log());
    let status = super::status(&server).await;
    assert!(status["retained_bytes"].as_u64().unwrap() > 2_000_000, "{status}");
    open.batch_execute("commit").await.expect("it commits");
    until("it lets go", async || {
        db.run("insert into items select max(id) + 1 from items; checkpoint").await;
        server.get("/metrics").await.text().await.unwrap().contains("retained_alarm{source=\"shop\"} 0")
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_lost_what_it_needed_is_said_and_another_begins_anew() {
    let db =
        Database::start_with(&["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=64MB"]).await;
    db.run("create table items (id int primary key, body text); create table marks (id int primary key)")
        .await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items", "marks"], ""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1), (2)").await;
    events(&server, "items", 2).await;
    server.kill().await;
    db.run("delete from items where id = 1").await;
    until("the slot is lost", async || {
        db.run("insert into items select i, repeat(md5(i::text), 100) from generate_series(10, 5000) i; delete from items where id > 9; select pg_switch_wal(); checkpoint").await;
        db.number("select count(*) from pg_replication_slots where wal_status = 'lost'").await == 1
    })
    .await;
    let _ = server.spawn().await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().unwrap();
    assert!(sentence.contains("max_slot_wal_keep_size") && sentence.contains("`slot`"), "{sentence}");
    server.kill().await;
    std::fs::write(&path, source(&db.url(), &["items", "marks"], "slot = \"second\"\nsnapshot = true"))
        .unwrap();
    server.launch().await;
    level(&server, &db, "marks", 1).await;
    assert_eq!(folded(&read(&server, "items").await), table(&db, "items").await);
}

#[tokio::test]
async fn a_log_that_is_older_than_its_slot_is_said_and_loses_nothing_in_silence() {
    let db = Database::start().await;
    db.run("create table items (id int primary key); create table marks (id int primary key)").await;
    let settings =
        |more: &str| source(&db.url(), &["items", "marks"], &format!("heartbeat_ms = 200\n{more}"));
    let (_dir, path) = settings_file(&settings(""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1)").await;
    events(&server, "items", 1).await;
    server.kill().await;
    let (data, backup) = (server.data(), server.root().join("backup"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").arg("-a").args([from, to]).status();
        assert!(done.expect("cp").success());
    };
    copy(&data, &backup);
    // However often it starts from where it was, there is nothing to say.
    server.launch().await;
    server.crash_and_restart().await;
    db.run("insert into items values (2)").await;
    events(&server, "items", 2).await;
    let end: String = db.client.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let ahead = format!("select count(*) from pg_replication_slots where confirmed_flush_lsn >= '{end}'");
    until("it is confirmed", async || db.number(&ahead).await == 1).await;
    server.crash_and_restart().await;
    until_state(&server, "streaming").await;
    server.kill().await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    db.run("insert into items values (3)").await;
    let _ = server.spawn().await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().unwrap();
    assert!(sentence.contains("older copy") && sentence.contains("`slot`"), "{sentence}");
    server.kill().await;
    std::fs::write(&path, settings("slot = \"second\"\nsnapshot = true")).unwrap();
    server.launch().await;
    level(&server, &db, "marks", 1).await;
    assert_eq!(folded(&read(&server, "items").await), table(&db, "items").await);
}

/// A table that migrations drop and make again, or put another one in the place of, goes on being captured: what the old
/// one said before comes, its topic is emptied, and what the new one has follows.
async fn follows_a_table_that_is_made_anew(mode: &str) {
    let db = Database::start().await;
    let create = "create table items (id int primary key, body text)";
    db.run(&format!("{create}; create table marks (id int primary key)")).await;
    let text = source(&db.url(), &["items", "marks"], &format!("mode = \"{mode}\"\nheartbeat_ms = 200"));
    let (_dir, path) = settings_file(&text);
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1, 'a')").await;
    events(&server, "items", 1).await;
    db.run(&format!(
        "drop table items; {create}; insert into items values (2, 'b'); insert into items values (3, 'c')"
    ))
    .await;
    events(&server, "items", 4).await;
    db.run("update items set body = 'd' where id = 3").await;
    // Of a table that is gone again before its row is read, the key is known all the same.
    db.run("begin; insert into items values (4, 'e'); drop table items; commit").await;
    let all = events(&server, "items", 6).await;
    assert_eq!(told(&all), ["insert 1", "truncate ", "insert 2", "insert 3", "update 3", "insert 4"]);
    let status = until_state(&server, "failed").await;
    assert!(status["error"]["text"].as_str().unwrap().contains("there is no table items"), "{status}");
    db.run(&format!("{create}; insert into items values (5, 'f')")).await;
    events(&server, "items", 8).await;
    // One that takes the old one's name, which others hold by its number.
    db.run(
        "create table next (like items including all); insert into next values (5, 'g'), (6, 'h'); \
         begin; alter table items rename to former; alter table next rename to items; commit",
    )
    .await;
    let all = events(&server, "items", 11).await;
    assert_eq!(told(&all)[6..], ["truncate ", "insert 5", "truncate ", "insert 5", "insert 6"]);
    // The same while the server is away; and it happens once.
    server.kill().await;
    db.run(&format!(
        "insert into items values (7, 'i'); drop table items; {create}; insert into items values (8, 'j'); \
         delete from items; insert into items values (9, 'k')"
    ))
    .await;
    server.launch().await;
    events(&server, "items", 14).await;
    level(&server, &db, "marks", 1).await;
    server.crash_and_restart().await;
    level(&server, &db, "marks", 2).await;
    db.run("insert into items values (10, 'l')").await;
    let all = events(&server, "items", 15).await;
    assert_eq!(told(&all)[11..], ["insert 7", "truncate ", "insert 9", "insert 10"]);
    assert_eq!(folded(&all), table(&db, "items").await);
}

/// What the old table said has its key, also where nothing was said before and the new one has another.
async fn keeps_the_key_of_one_that_is_gone(mode: &str) {
    let db = Database::start().await;
    db.run("create table items (id int primary key, tenant int)").await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items"], &format!("mode = \"{mode}\"")));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    until_state(&server, "streaming").await;
    server.kill().await;
    db.run(
        "insert into items values (1, 5); drop table items; \
         create table items (id int, tenant int, primary key (tenant, id)); insert into items values (2, 6)",
    )
    .await;
    server.launch().await;
    let all = events(&server, "items", 3).await;
    assert_eq!(told(&all), ["insert 1", "truncate ", "insert 6,2"], "{mode}");
}

#[tokio::test]
async fn a_table_that_is_gone_keeps_its_key() {
    keeps_the_key_of_one_that_is_gone("logical").await;
    keeps_the_key_of_one_that_is_gone("triggers").await;
}

/// Each event by name and key.
fn told(events: &[Value]) -> Vec<String> {
    let key = |event: &Value| event["key"].as_str().unwrap_or_default().to_owned();
    events.iter().map(|event| format!("{} {}", event["name"].as_str().unwrap(), key(event))).collect()
}

#[tokio::test]
async fn a_table_that_is_made_anew_is_captured_by_logical_replication() {
    follows_a_table_that_is_made_anew("logical").await;
}

#[tokio::test]
async fn a_table_that_is_made_anew_is_captured_by_triggers() {
    follows_a_table_that_is_made_anew("triggers").await;
}
