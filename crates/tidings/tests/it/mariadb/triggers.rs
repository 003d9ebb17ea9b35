//! Triggers and the table that they fill.

use super::{Database, capture, events, keys, names, read, settings_file, source, until_state};
use crate::harness::{Server, until};
use serde_json::json;

const MODE: &str = "mode = \"triggers\"\npoll_ms = 20";

#[tokio::test]
async fn a_write_never_fails_because_of_us() {
    let db =
        Database::start_with(&["max-allowed-packet=16M", "sql-mode=STRICT_ALL_TABLES,ANSI_QUOTES"]).await;
    db.run("create table items (id int primary key, body longtext, bytes longblob)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], MODE)).await;
    // 5 MB pass; what no JSON text may hold is told by its key alone.
    db.run("insert into items values (1, repeat('é', 2500000), null)").await;
    db.run("insert into items values (2, null, repeat(x'ff', 14000000))").await;
    db.run("update items set body = 'short' where id = 1").await;
    let all = events(&server, "items", 3).await;
    assert_eq!(all[0]["data"]["body"].as_str().unwrap().len(), 5_000_000);
    assert_eq!((&all[1]["key"], &all[1]["data"]), (&json!("2"), &json!({"id": 2})));
    assert_eq!(all[1]["context"]["incomplete"], true);
    assert_eq!(all[2]["data"]["body"], "short");
    // Also when somebody has taken the table away.
    db.run("drop table pub_events").await;
    db.run("insert into items values (3, 'a', null); update items set body = 'b' where id = 3; delete from items where id = 3").await;
    until_state(&server, "streaming").await;
    until("the table is back", async || !db.texts("show tables like 'pub_events'").await.is_empty()).await;
    // Numbers begin anew there, and the rows under them are others.
    for id in 4..10 {
        db.run(&format!("insert into items values ({id}, 'c', null)")).await;
    }
    until("the next changes", async || keys(&read(&server, "items").await).contains(&"9")).await;
    let all = read(&server, "items").await;
    assert_eq!(keys(&all)[all.len() - 6..], ["4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn a_table_that_changes_fails_no_write_and_new_columns_follow() {
    let db = Database::start_with(&[]).await;
    db.run("create table items (id int primary key, gone int)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], MODE)).await;
    db.run("alter table items add column more int default 5").await;
    let statement =
        "select action_statement from information_schema.triggers where action_statement like '%more%'";
    until("triggers with the new column", async || db.texts(statement).await.len() == 3).await;
    db.run("insert into items values (1, 2, 3)").await;
    assert_eq!(events(&server, "items", 1).await[0]["data"], json!({"id": 1, "gone": 2, "more": 3}));
    // A column that a trigger names is gone: the row is told by its key until the trigger is renewed.
    db.run("alter table items drop column gone; insert into items values (2, 4)").await;
    let second = events(&server, "items", 2).await[1].clone();
    assert_eq!((&second["key"], &second["context"]["incomplete"]), (&json!("2"), &json!(true)));
    until("triggers without the column", async || {
        db.texts(
            "select action_statement from information_schema.triggers where action_statement like '%gone%'",
        )
        .await
        .is_empty()
    })
    .await;
    db.run("insert into items values (3, 5)").await;
    assert_eq!(events(&server, "items", 3).await[2]["data"], json!({"id": 3, "more": 5}));
}

#[tokio::test]
async fn rows_that_anybody_writes_are_published_too() {
    let db = Database::start_with(&[]).await;
    // The shape that others have made it in.
    db.run(
        "create table items (id int primary key); create table pub_events (id int auto_increment primary key, \
         data json not null, table_name varchar(128), type varchar(64), created_at timestamp default current_timestamp); \
         insert into pub_events (data, table_name, type) values ('{\"a\": 1.10}', 'news', 'INSERT')",
    )
    .await;
    db.run("create trigger theirs after delete on items for each row insert into pub_events (data) values ('[]')")
        .await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], MODE)).await;
    db.run(
        "insert into pub_events (data, table_name, type) values ('{\"id\": 7}', 'items', 'INSERT'), ('[]', '', 'x'), \
         ('[1]', 'news', 'greet'), ('1', 'news', '$bad'); insert into items values (8)",
    )
    .await;
    assert_eq!(keys(&events(&server, "items", 2).await), ["7", "8"]);
    assert!(server.log().contains("a trigger of somebody else's fills the same table"), "{}", server.log());
    let news = events(&server, "news", 2).await;
    assert_eq!(names(&news), ["insert", "greet"]);
    assert_eq!((&news[0]["data"], &news[1]["data"]), (&json!({"a": 1.10}), &json!([1])));
    // What cannot be an event is left out, and said; nothing stays behind.
    until("an empty table", async || db.texts("select count(*) from pub_events").await == ["0"]).await;
    let status = super::status(&server).await;
    assert!(status["error"]["text"].as_str().unwrap().contains("left out"), "{status}");
}

#[tokio::test]
async fn triggers_of_tables_that_are_not_captured_any_more_are_removed() {
    let db = Database::start_with(&[]).await;
    db.run("create table items (id int primary key); create table users (id int primary key)").await;
    db.run("create trigger own after insert on users for each row set @n = 1").await;
    let (_dir, path) =
        settings_file(&source(&db.url(), &["items", "users"], &format!("{MODE}\noutbox = \"esink_pubsub\"")));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    let triggers = "select trigger_name from information_schema.triggers order by 1";
    assert_eq!(
        db.texts(triggers).await,
        [
            "esink_pubsub_items_after_delete",
            "esink_pubsub_items_after_insert",
            "esink_pubsub_items_after_update",
            "esink_pubsub_users_after_delete",
            "esink_pubsub_users_after_insert",
            "esink_pubsub_users_after_update",
            "own"
        ]
    );
    server.kill().await;
    std::fs::write(&path, source(&db.url(), &["items"], &format!("{MODE}\noutbox = \"esink_pubsub\"")))
        .unwrap();
    server.launch().await;
    assert_eq!(db.texts(triggers).await.len(), 4);
    db.run("insert into items values (1)").await;
    assert_eq!(keys(&events(&server, "items", 1).await), ["1"]);
}

#[tokio::test]
async fn rows_numbered_early_and_committed_late_are_not_missed() {
    use mysql_async::prelude::Queryable as _;
    let db = Database::start_with(&[]).await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], MODE)).await;
    let mut slow = db.connect().await;
    slow.query_drop("begin; insert into items values (1)").await.unwrap();
    db.run("insert into items values (2)").await;
    assert_eq!(keys(&events(&server, "items", 1).await), ["2"]);
    slow.query_drop("insert into items values (3); commit").await.unwrap();
    assert_eq!(keys(&events(&server, "items", 3).await), ["2", "1", "3"]);
}

#[tokio::test]
async fn a_server_that_logs_statements_is_enough() {
    let db = Database::start_with(&["log-bin=bin", "server-id=1", "binlog-format=STATEMENT"]).await;
    db.run("create table items (id int primary key); insert into items values (0)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], &format!("{MODE}\nsnapshot = true"))).await;
    db.run("insert into items values (1), (2); delete from items where id = 1").await;
    assert_eq!(keys(&events(&server, "items", 4).await), ["0", "1", "2", "1"]);
    until("an empty table", async || db.texts("select count(*) from pub_events").await == ["0"]).await;
}

#[tokio::test]
async fn it_looks_four_times_a_second_unless_it_is_told_otherwise() {
    let db = Database::start_with(&["general-log=1", "log-output=TABLE"]).await;
    db.run("create table items (id int primary key)").await;
    let looks = "select timestampdiff(microsecond, min(event_time), max(event_time)) / (count(*) - 1) from \
        mysql.general_log where argument like 'select id, coalesce(%'";
    for (mode, pause) in
        [("mode = \"triggers\"", 250_000.0), ("mode = \"triggers\"\npoll_ms = 100", 100_000.0)]
    {
        let (server, _dir) = capture(&source(&db.url(), &["items"], mode)).await;
        db.run("truncate table mysql.general_log").await;
        let many = "select count(*) > 12 from mysql.general_log where argument like 'select id, coalesce(%'";
        until("some looks", async || db.texts(many).await == ["1"]).await;
        let found: f64 = db.texts(looks).await[0].parse().unwrap();
        assert!(found >= pause * 0.99, "{mode}: every {found} us");
        drop(server);
    }
}

/// What a table went through without its triggers nobody has heard: its topic begins anew with the rows that it has.
#[tokio::test]
async fn a_table_that_has_lost_its_triggers_begins_anew() {
    let db = Database::start_with(&[]).await;
    let create = "create table items (id int primary key)";
    db.run(create).await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items"], MODE));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1)").await;
    events(&server, "items", 1).await;
    db.run(&format!("drop table items; {create}; insert into items values (2)")).await;
    events(&server, "items", 3).await;
    db.run("insert into items values (3)").await;
    events(&server, "items", 4).await;
    server.kill().await;
    db.run("drop trigger pub_events_items_after_insert; insert into items values (4); delete from items where id = 2").await;
    server.launch().await;
    events(&server, "items", 8).await;
    until_state(&server, "streaming").await;
    server.crash_and_restart().await;
    db.run("insert into items values (5)").await;
    events(&server, "items", 9).await;
    // Triggers go with a table that another takes the place of.
    db.run("create table fresh like items; insert into fresh values (6); rename table items to former, fresh to items").await;
    events(&server, "items", 11).await;
    db.run("insert into former values (7); insert into items values (8)").await;
    let all = events(&server, "items", 12).await;
    let told: Vec<String> = all
        .iter()
        .map(|e| format!("{} {}", e["name"].as_str().unwrap(), e["key"].as_str().unwrap_or_default()))
        .collect();
    let expected = [
        "insert 1",
        "truncate ",
        "insert 2",
        "insert 3",
        "delete 2",
        "truncate ",
        "insert 3",
        "insert 4",
        "insert 5",
        "truncate ",
        "insert 6",
        "insert 8",
    ];
    assert_eq!(told, expected);
}
