//! Any identifier is a topic; any key is a key.

use super::{Database, capture, events, source};
use serde_json::json;

async fn every_name(mode: &str) {
    let db = Database::start().await;
    db.run(
        r#"create schema sales; create schema "Old Stuff"; create table "bankRecords" (id int primary key);
        create table sales.orders (a int, b text, primary key (b, a)); create table "Old Stuff"."an ""odd"" 'näme'" ("Id Ö" text primary key);
        create table "a.b:c" (id uuid primary key, t timestamptz default '2020-01-01 00:00:00+00')"#,
    )
    .await;
    let tables = ["bankRecords", "sales.orders", "Old Stuff.an \"odd\" 'näme'", "a.b:c"];
    let (server, _dir) = capture(&source(&db.url(), &tables, mode)).await;
    db.run(
        r#"insert into "bankRecords" values (1); insert into sales.orders values (7, 'x,y');
        insert into "Old Stuff"."an ""odd"" 'näme'" values ('k%'), (repeat('é', 200));
        insert into "a.b:c" values ('00000000-0000-0000-0000-000000000001')"#,
    )
    .await;
    assert_eq!(events(&server, "bankRecords", 1).await[0]["key"], "1");
    assert_eq!(events(&server, "sales.orders", 1).await[0]["key"], "x%2Cy,7");
    let odd = events(&server, "Old Stuff.an \"odd\" 'näme'", 2).await;
    assert_eq!((&odd[0]["key"], &odd[0]["data"]), (&json!("k%25"), &json!({"Id Ö": "k%"})));
    assert!(odd[1]["key"].as_str().unwrap().starts_with("sha256-"));
    assert_eq!(odd[1]["context"]["key"], "é".repeat(200));
    let dotted = events(&server, "a%2Eb%3Ac", 1).await;
    assert_eq!(dotted[0]["data"]["t"], "2020-01-01T00:00:00Z");
}

#[tokio::test]
async fn every_name_of_a_table_is_a_topic() {
    every_name("").await;
}

#[tokio::test]
async fn a_prefix_begins_the_names_of_all_topics() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "prefix = \"crm-\"")).await;
    db.run("insert into items values (1)").await;
    assert_eq!(events(&server, "crm-items", 1).await[0]["topic"], "crm-items:1");
}
