//! Entities over captured tables: whoever follows one gets its rows anew when its row changes.

use crate::harness::entities::{Es, subscriptions};
use crate::harness::{Server, Sse};
use crate::postgres::{Database, settings_file, source};
use serde_json::{Value, json};

/// An item with its parts, and things whose ids are texts.
const ENTITIES: &str = r#"
[entities.items]
database = "shop"
topic = "items"
queries = ["select id, name from items where id = $1", "select text from parts where item = $1 order by text"]
[entities.things]
database = "shop"
topic = "things"
query = "select n from things where id = $1"
"#;

async fn rows_follow_their_table(mode: &str) {
    let db = Database::start().await;
    db.run(
        "create table items (id int primary key, name text); insert into items values (1, 'é'), (2, 'other'); \
         create table parts (item int, text text); insert into parts values (1, 'a'); \
         create table things (id text primary key, n int); insert into things values ('k%,ü', 1)",
    )
    .await;
    let text = source(&db.url(), &["items", "things"], mode) + ENTITIES;
    let (_dir, path) = settings_file(&text);
    let server = Server::start_with(&["--config", &path]).await;
    let mut stream = Sse::open(&server, "/v1/entities/items/1", &server.admin, None).await;
    let mut thing = Sse::open(&server, "/v1/entities/things/k%25%2C%C3%BC", &server.admin, None).await;
    let mut client = Es::open(&server, "").await;
    client.subscribe("items", "1").await;
    let first = json!([{"id": 1, "name": "é"}, {"text": "a"}]);
    assert_eq!(stream.own("rows").await["rows"], first);
    assert_eq!(thing.own("rows").await["rows"], json!([{"n": 1}]));
    subscriptions(&server, "items", 2).await;
    // Another row is another entity; what was rolled back is no change. The rows are fetched after the commit, all of them.
    db.run(
        "update items set name = 'still other' where id = 2; begin; delete from items; rollback; \
         begin; insert into parts values (1, 'b'); update items set name = 'new' where id = 1; commit; \
         update things set n = 2",
    )
    .await;
    let second = json!([{"id": 1, "name": "new"}, {"text": "a"}, {"text": "b"}]);
    assert_eq!(stream.own("rows").await["rows"], second);
    for row in ["{\"id\":1,\"name\":\"new\"}", "{\"text\":\"a\"}", "{\"text\":\"b\"}"] {
        assert_eq!(client.frame().await, row);
    }
    assert_eq!(thing.own("rows").await["rows"], json!([{"n": 2}]));
    db.run("delete from things").await;
    assert_eq!(thing.own("rows").await["rows"], json!([]));
    // Whoever is told that a table was emptied is told of each of its rows.
    db.run("truncate items, parts").await;
    assert_eq!(stream.own("rows").await["rows"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_captured_change_brings_the_rows_of_its_entity_anew() {
    rows_follow_their_table("").await;
}

#[tokio::test]
async fn a_change_captured_by_triggers_does_too() {
    rows_follow_their_table("mode = \"triggers\"").await;
}
