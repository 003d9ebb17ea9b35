//! What happens to a row arrives once, in order, with what is known of it.

use super::{Database, capture, events, read, source};
use serde_json::{Value, json};

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["name"].as_str().unwrap()).collect()
}

async fn changes_arrive(mode: &str) {
    let db = Database::start().await;
    db.run("create table items (id int primary key, name text, price numeric)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], mode)).await;
    let mut live = server.sse("items", "from=earliest").await;
    db.run("insert into items values (1, 'é', 1.10)").await;
    let event = live.event().await;
    assert_eq!(event["data"], json!({"id": 1, "name": "é", "price": 1.10}));
    assert_eq!(
        (&event["topic"], &event["key"], &event["name"]),
        (&json!("items:1"), &json!("1"), &json!("insert"))
    );
    assert_eq!(event["source"], "shop");
    assert!(event["context"]["transaction"].is_u64() && event["context"]["position"].is_string(), "{event}");
    assert_eq!(event["context"]["committed_at"], event["occurred_at"]);
    // What was rolled back is silent, savepoints too; statements of a transaction keep their order.
    db.run(
        "begin; insert into items values (2); rollback; \
         begin; insert into items values (3, 'a'); savepoint s; insert into items values (4); rollback to s; \
         update items set name = 'b' where id = 3; delete from items where id = 1; commit; \
         update items set id = 5 where id = 3; truncate items",
    )
    .await;
    let all = events(&server, "items", 7).await;
    assert_eq!(names(&all), ["insert", "insert", "update", "delete", "delete", "insert", "truncate"]);
    let keys: Vec<&Value> = all.iter().map(|e| &e["key"]).collect();
    assert_eq!(
        keys,
        [&json!("1"), &json!("3"), &json!("3"), &json!("1"), &json!("3"), &json!("5"), &Value::Null]
    );
    assert_eq!(all[1]["context"]["transaction"], all[3]["context"]["transaction"]);
    assert_eq!(all[3]["data"]["id"], 1);
    assert_eq!(all[4]["context"]["reason"], "key_changed");
    assert_eq!(all[5]["data"]["name"], "b");
    // Nobody else publishes there.
    let refused = server.post("items", &server.admin, "{\"data\":1}").await;
    assert_eq!(crate::harness::code(refused).await, (403, "topic_captured".into()));
    let done = server.cli(&["sources"], b"").await.ok();
    assert!(done.contains("shop") && done.contains("streaming"), "{done}");
}

#[tokio::test]
async fn a_change_is_an_event_of_its_row() {
    changes_arrive("").await;
}

#[tokio::test]
async fn with_full_identity_the_row_before_is_known_and_large_values_are_whole() {
    let db = Database::start().await;
    db.run(
        "create table docs (id int primary key, n int, body text); alter table docs alter body set storage external; \
         create table loose (a int, b text); alter table loose replica identity full",
    )
    .await;
    let (server, _dir) = capture(&source(&db.url(), &["docs", "loose"], "")).await;
    let long = "x".repeat(10_000);
    db.run(&format!("insert into docs values (1, 1, '{long}'); update docs set n = 2")).await;
    db.run("alter table docs replica identity full; update docs set n = 3; delete from docs").await;
    let all = events(&server, "docs", 4).await;
    assert_eq!(all[1]["data"], json!({"id": 1, "n": 2}));
    assert_eq!(all[1]["context"]["unchanged_toast"], json!(["body"]));
    assert_eq!(all[2]["data"], json!({"id": 1, "n": 3, "body": long}));
    assert_eq!(all[2]["context"]["changed"], json!(["n"]));
    assert_eq!(all[2]["context"]["before"]["n"], 2);
    assert_eq!(all[3]["data"], json!({"id": 1, "n": 3, "body": long}));
    db.run("insert into loose values (1, 'a'), (1, 'a'); update loose set b = 'c'; delete from loose where a = 1").await;
    let all = events(&server, "loose", 6).await;
    assert!(all.iter().all(|e| e["key"].is_null()), "{all:?}");
    assert_eq!(all[2]["context"]["before"], json!({"a": 1, "b": "a"}));
}

#[tokio::test]
async fn a_deleted_row_is_told_as_it_was_told_last_where_the_database_says_only_its_key() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, name text); insert into items values (0, 'old')").await;
    let text = source(&db.url(), &["items"], "");
    let (server, _dir) = capture(&text).await;
    db.run("insert into items values (1, 'a'); update items set name = 'b' where id = 1; delete from items where id = 1")
        .await;
    db.run(
        "begin; insert into items values (2, 'c'); delete from items where id = 2; commit; delete from items",
    )
    .await;
    // More than goes into the log at once: some are told by their key.
    db.run("insert into items select i, repeat('x', 5000000) from generate_series(10, 14) i").await;
    db.run("delete from items").await;
    let large = events(&server, "items", 16).await;
    let deleted: Vec<&Value> = large[11..].iter().map(|e| &e["key"]).collect();
    assert_eq!(deleted, ["10", "11", "12", "13", "14"]);
    assert!(large[11..].iter().all(|e| e["name"] == "delete" && e["data"]["id"].is_u64()));
    assert_eq!(large[11]["data"]["name"].as_str().map(str::len), Some(5_000_000));
    let all = &large[..6];
    let gone: Vec<&Value> = all.iter().filter(|e| e["name"] == "delete").map(|e| &e["data"]).collect();
    // Of what was there before and never told nothing else is known.
    let expected = [json!({"id": 1, "name": "b"}), json!({"id": 2, "name": "c"}), json!({"id": 0})];
    assert_eq!(gone, expected.iter().collect::<Vec<_>>());
    drop(server);
    // Unless the tables are to say it themselves.
    db.run("insert into items values (3, 'd')").await;
    let (server, _dir) =
        capture(&text.replace("shop", "full").replace("tables", "full_rows = true\ntables")).await;
    db.run("update items set name = 'e'; delete from items").await;
    let all = events(&server, "items", 2).await;
    assert_eq!(all[0]["context"]["before"], json!({"id": 3, "name": "d"}));
    assert_eq!(all[1]["data"], json!({"id": 3, "name": "e"}));
}

#[tokio::test]
async fn the_application_publishes_within_its_own_transaction() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "messages = true")).await;
    db.run(
        "begin; insert into items values (1); select pg_logical_emit_message(true, 'news', '{\"n\": 1.0}'); \
         select pg_logical_emit_message(true, 'tidings', '{\"topic\": \"mail:7\", \"name\": \"sent\", \"data\": 2}'); commit; \
         begin; select pg_logical_emit_message(true, 'news', '{\"n\": 0}'); \
         select pg_logical_emit_message(false, 'news', '{\"n\": 2}'); rollback; \
         select pg_logical_emit_message(true, 'items', '3')",
    )
    .await;
    let news = events(&server, "news", 2).await;
    assert_eq!((&news[0]["data"], &news[1]["data"]), (&json!({"n": 1.0}), &json!({"n": 2})));
    let mail = events(&server, "mail", 1).await;
    assert_eq!(
        (&mail[0]["key"], &mail[0]["name"], &mail[0]["data"]),
        (&json!("7"), &json!("sent"), &json!(2))
    );
    // A captured topic holds rows only.
    db.run("insert into items values (2)").await;
    let rows = events(&server, "items", 2).await;
    assert_eq!(names(&rows), ["insert", "insert"]);
    assert_eq!(read(&server, "news").await.len(), 2);
    let status = super::status(&server).await;
    assert_eq!(status["database"], format!("127.0.0.1:{}/postgres", db.peer.port()));
    let told = status["error"]["text"].as_str().unwrap();
    assert!(told.starts_with("a message with the prefix \"items\" was left out"), "{told}");
    assert!(server.log().contains("a message was left out"));
}

#[tokio::test]
async fn rows_of_many_megabytes_and_large_transactions_pass() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, body text)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("insert into items select 0, string_agg(md5(i::text), '') from generate_series(1, 160000) i")
        .await;
    db.run("insert into items select i, repeat('x', 200) from generate_series(1, 30000) i").await;
    db.run("insert into items values (-1, repeat('y', 30000000))").await;
    let all = events(&server, "items", 30_002).await;
    assert_eq!(all[0]["data"]["body"].as_str().unwrap().len(), 5_120_000);
    let keys: Vec<i64> = all[1..30_001].iter().map(|e| e["data"]["id"].as_i64().unwrap()).collect();
    assert_eq!(keys, (1..=30_000).collect::<Vec<i64>>());
    // What no event can hold is left out and named.
    let last = &all[30_001];
    assert_eq!((&last["data"], &last["context"]["omitted"]), (&json!({"id": -1}), &json!(["body"])));
    assert!(server.rss_kib() < 150_000, "{} KiB", server.rss_kib());
}
