//! What happens to a row arrives once, in order, with what is known of it.

use super::{Database, MODES, capture, events, keys, names, read, source};
use crate::harness::code;
use serde_json::json;

#[tokio::test]
async fn a_change_is_an_event_of_its_row_in_both_modes() {
    for mode in MODES {
        let db = Database::start().await;
        db.run("create table items (id int primary key, name text, price decimal(10,2), doc json)").await;
        let (server, _dir) = capture(&source(&db.url(), &["items"], mode)).await;
        let mut live = server.sse("items", "from=earliest").await;
        db.run("insert into items values (1, 'é', 1.10, '{\"a\":\n\n1}')").await;
        let event = live.event().await;
        assert_eq!(event["data"], json!({"id": 1, "name": "é", "price": 1.10, "doc": {"a": 1}}));
        assert_eq!((&event["topic"], &event["key"]), (&json!("items:1"), &json!("1")));
        assert_eq!((&event["name"], &event["source"]), (&json!("insert"), &json!("shop")));
        assert!(event["context"]["position"].is_string() && event["occurred_at"].is_string(), "{event}");
        // What was rolled back is silent, savepoints too; statements of a transaction keep their order.
        db.run(
            "begin; insert into items values (2, '', 0, null); rollback; \
             begin; insert into items values (3, 'a', 0, null); savepoint s; insert into items values (4, '', 0, null); \
             rollback to s; update items set name = 'b' where id = 3; delete from items where id = 1; commit; \
             update items set id = 5 where id = 3",
        )
        .await;
        let all = events(&server, "items", 6).await;
        assert_eq!(names(&all), ["insert", "insert", "update", "delete", "delete", "insert"], "{mode}");
        assert_eq!(keys(&all), ["1", "3", "3", "1", "3", "5"]);
        assert_eq!(all[2]["context"]["changed"], json!(["name"]));
        assert_eq!(all[2]["context"]["before"], json!({"id": 3, "name": "a", "price": 0.0, "doc": null}));
        assert_eq!(all[3]["data"], event["data"]);
        assert_eq!(all[4]["context"]["reason"], "key_changed");
        assert_eq!(all[5]["data"], json!({"id": 5, "name": "b", "price": 0.0, "doc": null}));
        // Nobody else publishes there.
        let refused = server.post("items", &server.admin, "{\"data\":1}").await;
        assert_eq!(code(refused).await, (403, "topic_captured".into()));
        let done = server.cli(&["sources"], b"").await.ok();
        assert!(done.contains("shop") && done.contains("streaming"), "{done}");
    }
}

#[tokio::test]
async fn the_binary_log_also_says_which_transaction_and_that_a_table_was_emptied() {
    let db = Database::start().await;
    db.run("create table items (id int primary key); create table other (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("begin; insert into items values (1), (2); insert into other values (1); insert into items values (3); commit").await;
    db.run(
        "truncate table items; insert into items values (1); alter table items add column n int default 7",
    )
    .await;
    db.run("insert into items values (2, 8); alter table items change n m int, add column k int first").await;
    db.run("update items set m = 9; create or replace table items (id int primary key, z int)").await;
    db.run("insert into items values (5, 6); drop table items").await;
    let all = events(&server, "items", 11).await;
    assert_eq!(
        names(&all),
        [
            "insert", "insert", "insert", "truncate", "insert", "insert", "update", "update", "truncate",
            "insert", "truncate"
        ]
    );
    let transactions: Vec<_> =
        all.iter().map(|event| event["context"]["transaction"].as_str().unwrap()).collect();
    assert!(transactions[0] == transactions[2] && transactions[2] != transactions[4], "{transactions:?}");
    assert_eq!(all[0]["context"]["committed_at"], all[0]["occurred_at"]);
    assert_eq!(all[5]["data"], json!({"id": 2, "n": 8}));
    assert_eq!(all[6]["context"]["before"], json!({"k": null, "id": 1, "m": 7}));
    assert_eq!(all[9]["data"], json!({"id": 5, "z": 6}));
    assert_eq!(server.json("/v1/topics/items/state").await["events"], json!([]));
}

#[tokio::test]
async fn any_identifier_and_any_key_is_an_address_in_both_modes() {
    for mode in MODES {
        let db = Database::start().await;
        db.run(
            "create database `sales x`; create table bankRecords (`the Id` int primary key, `a\"b``c'd` text, `größe` int); \
             create table `sales x`.`o'r d``e\"r.s` (a int, b varchar(300), c int, primary key (b, a)); \
             create table loose (a int, b text); create table größe (ключ int primary key)",
        )
        .await;
        let tables = ["bankRecords", "sales x.o'r d`e\"r.s", "loose", "größe"];
        let (server, _dir) = capture(&source(&db.url(), &tables, mode)).await;
        db.run("insert into bankRecords values (1, 'x', 2)").await;
        let long = "k".repeat(300);
        let values = format!("(1, 'x,y', 0), (2, '100%', 0), (3, '{long}', 0)");
        db.run(&format!("insert into `sales x`.`o'r d``e\"r.s` values {values}")).await;
        db.run("insert into loose values (1, 'a'), (1, 'a'); update loose set b = 'c'; delete from loose limit 1").await;
        let bank = events(&server, "bankRecords", 1).await;
        assert_eq!(bank[0]["data"], json!({"the Id": 1, "a\"b`c'd": "x", "größe": 2}));
        let sales = events(&server, "sales x.o'r d`e\"r%2Es", 3).await;
        assert_eq!(keys(&sales)[..2], ["x%2Cy,1", "100%25,2"]);
        assert!(keys(&sales)[2].starts_with("sha256-"));
        assert_eq!(sales[2]["context"]["key"], format!("{long},3"));
        db.run("insert into größe values (1)").await;
        assert_eq!(events(&server, "größe", 1).await[0]["data"], json!({"ключ": 1}));
        let loose = events(&server, "loose", 5).await;
        assert_eq!(names(&loose), ["insert", "insert", "update", "update", "delete"], "{mode}");
        assert!(keys(&loose).iter().all(|key| *key == "-"));
        assert_eq!(loose[2]["context"]["before"], json!({"a": 1, "b": "a"}));
    }
}

#[tokio::test]
async fn transactions_of_two_phases_count_when_they_are_decided() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("xa start 'a'; insert into items values (1), (2); xa end 'a'; xa prepare 'a'").await;
    let mut other = db.connect().await;
    use mysql_async::prelude::Queryable as _;
    other
        .query_drop("xa start 'b', 'x'; insert into items values (3); xa end 'b', 'x'; xa prepare 'b', 'x'")
        .await
        .unwrap();
    let mut third = db.connect().await;
    third.query_drop("insert into items values (4)").await.unwrap();
    assert_eq!(keys(&events(&server, "items", 1).await), ["4"]);
    db.run("xa rollback 'a'").await;
    other.query_drop("xa commit 'b', 'x'").await.unwrap();
    third
        .query_drop("xa start 'c'; insert into items values (5); xa end 'c'; xa commit 'c' one phase")
        .await
        .unwrap();
    assert_eq!(keys(&events(&server, "items", 3).await), ["4", "3", "5"]);
}

#[tokio::test]
async fn rows_of_many_megabytes_and_large_transactions_pass() {
    let db = Database::start_with(&[&super::LOG[..], &["max-allowed-packet=64M"]].concat()).await;
    db.run("create table items (id int primary key, body longtext); create table marks (id int primary key)")
        .await;
    let (server, _dir) = capture(&source(&db.url(), &["items", "marks"], "")).await;
    db.run("insert into items values (0, repeat('é', 2500000)); update items set body = concat(body, 'x')")
        .await;
    db.run("insert into items select seq, repeat('x', 200) from seq_1_to_30000").await;
    db.run("insert into items values (-1, repeat('y', 30000000))").await;
    let all = events(&server, "items", 30_003).await;
    assert_eq!(all[1]["data"]["body"].as_str().unwrap().len(), 5_000_001);
    assert_eq!(all[1]["context"]["before"]["body"].as_str().unwrap().len(), 5_000_000);
    let ids: Vec<i64> = all[2..30_002].iter().map(|event| event["data"]["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=30_000).collect::<Vec<i64>>());
    // What no event can hold is left out and named.
    let last = &all[30_002];
    assert_eq!((&last["data"], &last["context"]["omitted"]), (&json!({"id": -1}), &json!(["body"])));
    assert!(read(&server, "marks").await.is_empty());
    assert!(server.rss_kib() < 250_000, "{} KiB", server.rss_kib());
}
