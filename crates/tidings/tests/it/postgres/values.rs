//! No type loses anything: each value against its JSON, and schema changes in between.

use super::{Database, capture, events, source};
use serde_json::{Value, json};

/// Type, literal, and what it is as JSON: the table of the README.
const VALUES: &[(&str, &str, &str)] = &[
    ("bool", "true", "true"),
    ("int2", "-32768", "-32768"),
    ("int8", "9223372036854775807", "9223372036854775807"),
    ("numeric", "123456789012345678901234567890.123456789000", "123456789012345678901234567890.123456789000"),
    ("numeric", "'NaN'", "\"NaN\""),
    ("float8", "0.1::float8 + 0.2", "0.30000000000000004"),
    ("float8", "'-Infinity'", "\"-Infinity\""),
    ("float4", "1e20", "1e+20"),
    ("text", "E'a\"\\\\\\n\\t\\x01é'", "\"a\\\"\\\\\\n\\t\\u0001é\""),
    ("char(3)", "'a'", "\"a  \""),
    ("bytea", "'\\x00ff10'", "\"AP8Q\""),
    ("timestamptz", "'2020-01-02 03:04:05.678901+02'", "\"2020-01-02T01:04:05.678901Z\""),
    ("timestamptz", "'infinity'", "\"infinity\""),
    ("timestamp", "'2020-01-02 03:04:05'", "\"2020-01-02T03:04:05\""),
    ("date", "'2020-02-29'", "\"2020-02-29\""),
    ("time", "'23:59:59.5'", "\"23:59:59.5\""),
    ("interval", "'1 day 02:00'", "\"P1DT2H\""),
    ("uuid", "'00000000-0000-0000-0000-00000000000A'", "\"00000000-0000-0000-0000-00000000000a\""),
    ("json", "'{\"b\": 1.0, \"a\":[ ]}'", "{\"b\": 1.0, \"a\":[ ]}"),
    ("jsonb", "'{\"b\": 1.0, \"a\":[ ]}'", "{\"a\": [], \"b\": 1.0}"),
    ("int4[]", "'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]"),
    ("text[]", "array['a\"b', 'c,d', null, 'NULL']", "[\"a\\\"b\",\"c,d\",null,\"NULL\"]"),
    ("bytea[]", "array['\\x00'::bytea]", "[\"AA==\"]"),
    ("timestamptz[]", "array['2020-01-01 00:00:00+00'::timestamptz]", "[\"2020-01-01T00:00:00Z\"]"),
    ("mood", "'so so'", "\"so so\""),
    ("mood[]", "'{happy,\"so so\"}'", "[\"happy\",\"so so\"]"),
    ("amount", "12.50", "12.50"),
    ("place", "row('a \"b\"', 1.5, '\\x00ff10')", "{\"name\":\"a \\\"b\\\"\",\"at\":1.5,\"raw\":\"AP8Q\"}"),
    ("int4range", "'[1,5)'", "\"[1,5)\""),
    ("bit(3)", "B'101'", "\"101\""),
    ("inet", "'10.0.0.1/8'", "\"10.0.0.1/8\""),
    ("xml", "'<a/>'", "\"<a/>\""),
    ("point", "'(1,2)'", "\"(1,2)\""),
    ("text", "null", "null"),
];

const TYPES: &str = "create type mood as enum ('happy', 'so so'); create domain amount as numeric(10, 2) check (value >= 0); \
    create type place as (name text, at numeric, raw bytea)";

async fn every_value(mode: &str) {
    let db = Database::start().await;
    db.run(TYPES).await;
    let columns: Vec<String> = VALUES.iter().enumerate().map(|(i, (ty, ..))| format!("c{i} {ty}")).collect();
    let values: Vec<&str> = VALUES.iter().map(|(_, literal, _)| *literal).collect();
    db.run(&format!("create table kinds (id int primary key, {})", columns.join(", "))).await;
    db.run(&format!("insert into kinds values (0, {})", values.join(", "))).await;
    let (server, _dir) = capture(&source(&db.url(), &["kinds"], &format!("snapshot = true\n{mode}"))).await;
    // The application's own settings must not matter.
    db.run("set datestyle = 'German'; set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'; set intervalstyle = 'sql_standard'; set extra_float_digits = 0").await;
    db.run(&format!("insert into kinds values (1, {})", values.join(", ")).replace("_678", "678")).await;
    events(&server, "kinds", 2).await;
    let page = server.get("/v1/topics/kinds/events").await.text().await.expect("text");
    let page: Page = serde_json::from_str(&page).expect("a page");
    for (event, what) in page.events.iter().zip(["of the snapshot", "live"]) {
        let row: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(event.data.get()).expect("a row");
        for (i, (ty, literal, json)) in VALUES.iter().enumerate() {
            // A timestamp without a zone in the literal means another moment under another setting; none has that.
            assert_eq!(row[&format!("c{i}")].get(), *json, "{ty} {literal}, {what}");
        }
    }
}

#[derive(serde::Deserialize)]
struct Page {
    events: Vec<Raw>,
}

#[derive(serde::Deserialize)]
struct Raw {
    data: Box<serde_json::value::RawValue>,
}

#[tokio::test]
async fn no_type_loses_anything() {
    every_value("").await;
}

#[tokio::test]
async fn schema_changes_are_followed() {
    let db = Database::start().await;
    db.run("create table items (id int primary key, a text, g int generated always as (1) stored)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run(
        "insert into items (id, a) values (1, 'x'); alter table items add b bytea; insert into items (id, a, b) values (2, 'y', '\\x01'); \
         alter table items rename a to c; alter table items alter b type text using 'text'; begin; \
         insert into items (id, c) values (3, 'z'); alter table items drop c; insert into items (id, b) values (4, '\\x02'); commit; \
         alter table items rename to things; insert into things (id) values (5)",
    )
    .await;
    let all = events(&server, "items", 5).await;
    let rows: Vec<&Value> = all.iter().map(|e| &e["data"]).collect();
    let expected = [
        json!({"id": 1, "a": "x"}),
        json!({"id": 2, "a": "y", "b": "AQ=="}),
        json!({"id": 3, "c": "z", "b": null}),
        json!({"id": 4, "b": "\\x02"}),
        json!({"id": 5, "b": null}),
    ];
    assert_eq!(rows, expected.iter().collect::<Vec<_>>());
}
