//! Where the role may not replicate: an outbox filled by triggers.

use super::{Database, capture, events, settings_file, source, status, until_state};
use crate::harness::Server;
use serde_json::json;

const MODE: &str = "mode = \"triggers\"";

#[tokio::test]
async fn a_role_that_may_not_replicate_captures_by_triggers_by_itself() {
    let db = Database::start_with(&["wal_level=minimal", "max_wal_senders=0"]).await;
    db.run(
        "create role app login; create role tidings login; grant create on schema public to tidings; \
         create table items (id int primary key, name text, body text); grant all on items to app; \
         grant select, trigger on items to tidings",
    )
    .await;
    let (server, _dir) = capture(&source(&db.url_of("tidings"), &["items"], "")).await;
    assert_eq!(status(&server).await["mode"], "triggers");
    let app = super::connect(&db.peer, "app").await;
    app.batch_execute("insert into items values (1, 'a', repeat('x', 5000000)); update items set name = 'b'")
        .await
        .expect("it may");
    let all = events(&server, "items", 2).await;
    assert_eq!(all[0]["data"]["body"].as_str().unwrap().len(), 5_000_000);
    assert_eq!(all[1]["context"]["changed"], json!(["name"]));
    assert_eq!(all[1]["context"]["before"]["name"], "a");
    db.run("select count(*) from tidings_shop").await;
    crate::harness::until("the outbox is empty", async || {
        db.number("select count(*) from tidings_shop").await == 0
    })
    .await;
}

#[tokio::test]
async fn tables_that_are_no_longer_listed_lose_their_triggers() {
    let db = Database::start().await;
    db.run("create table a (id int primary key); create table b (id int primary key)").await;
    let (_dir, path) = settings_file(&source(&db.url(), &["a", "b"], MODE));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    let triggers = "select count(*) from pg_trigger where not tgisinternal";
    assert_eq!(db.number(triggers).await, 4);
    server.kill().await;
    // What happens while the server is away is kept.
    db.run("insert into a values (1); insert into b values (1)").await;
    std::fs::write(&path, source(&db.url(), &["a"], MODE)).unwrap();
    server.launch().await;
    assert_eq!(events(&server, "a", 1).await[0]["key"], "1");
    assert_eq!(db.number(triggers).await, 2);
    server.kill().await;
    std::fs::write(&path, source(&db.url(), &["a"], "mode = \"logical\"")).unwrap();
    server.launch().await;
    assert_eq!(db.number(triggers).await, 0);
}

#[tokio::test]
async fn a_transaction_that_takes_its_time_is_neither_missed_nor_waited_for() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], MODE)).await;
    let slow = db.connect().await;
    slow.batch_execute("begin; insert into items values (1)").await.expect("it writes");
    db.run("insert into items values (2)").await;
    assert_eq!(events(&server, "items", 1).await[0]["key"], "2");
    slow.batch_execute("commit").await.expect("it commits");
    assert_eq!(events(&server, "items", 2).await[1]["key"], "1");
}

/// What a table went through without its triggers nobody has heard: its topic begins anew with the rows that it has.
#[tokio::test]
async fn a_table_that_has_lost_its_triggers_begins_anew() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items"], "mode = \"triggers\""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1), (2)").await;
    events(&server, "items", 2).await;
    server.kill().await;
    db.run("delete from items where id = 1; alter table items disable trigger tidings_shop_row; insert into items values (3)")
        .await;
    server.launch().await;
    events(&server, "items", 5).await;
    until_state(&server, "streaming").await;
    server.crash_and_restart().await;
    db.run("insert into items values (4)").await;
    let all = events(&server, "items", 6).await;
    let told: Vec<_> = all.iter().map(|e| (e["name"].as_str().unwrap(), e["data"]["id"].as_i64())).collect();
    let expected = [
        ("insert", Some(1)),
        ("insert", Some(2)),
        ("truncate", None),
        ("insert", Some(2)),
        ("insert", Some(3)),
        ("insert", Some(4)),
    ];
    assert_eq!(told, expected);
}
