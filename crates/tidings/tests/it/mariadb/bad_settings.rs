//! Whatever is wrong, a sentence says what to do, and once it is done it works.

use super::{Database, LOG, capture, events, settings_file, source, until_state};
use crate::harness::Server;

/// Starts a server that cannot capture, and answers with why.
async fn says(text: &str) -> (Server, tempfile::TempDir, String) {
    let (dir, path) = settings_file(text);
    let server = Server::start_unready(&["--config", &path]).await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().expect("a sentence").to_owned();
    let listed = server.cli(&["sources"], b"").await.ok();
    assert!(listed.contains(&sentence), "{listed}");
    assert_eq!(server.get("/readyz").await.status(), 503);
    (server, dir, sentence)
}

#[tokio::test]
async fn what_is_wrong_in_the_database_is_said_and_can_be_put_right() {
    let db = Database::start().await;
    db.run(
        "delete from mysql.db; flush privileges; \
         create table items (id int primary key); create view seen as select * from items; \
         create user plain identified by 'open sesame'; grant select on test.* to plain; \
         create user blind identified by 'open sesame'; grant usage on *.* to blind; grant create on test.* to blind",
    )
    .await;
    let (server, _dir, sentence) = says(&source(&db.url(), &["itemz"], "")).await;
    assert!(sentence.contains("no table `itemz`") && sentence.contains("`tables`"), "{sentence}");
    db.run("create table itemz (id int primary key)").await;
    until_state(&server, "streaming").await;
    db.run("insert into itemz values (1)").await;
    events(&server, "itemz", 1).await;
    drop(server);
    let misspelled = source(&db.url(), &["items"], "")
        .replace("\"items\"", "{name = \"items\", rows = [\"id\", \"owner\"]}");
    let (.., sentence) = says(&misspelled).await;
    assert!(sentence.contains("no column owner, which its `rows` names; it has id"), "{sentence}");
    let (.., sentence) = says(&source(&db.url(), &["seen"], "")).await;
    assert!(sentence.contains("view"), "{sentence}");
    let plain = db.url_of("plain:open%20sesame", "test");
    let (.., sentence) = says(&source(&plain, &["items"], "")).await;
    assert!(sentence.contains("REPLICATION SLAVE"), "{sentence}");
    let triggers = source(&plain, &["items"], "mode = \"triggers\"");
    let (.., sentence) = says(&triggers).await;
    assert!(sentence.contains("TRIGGER") && sentence.contains("CREATE"), "{sentence}");
    db.run("grant create, alter, insert, delete, trigger on test.* to plain").await;
    let (server, _dir, sentence) = says(&triggers).await;
    assert!(sentence.contains("log_bin_trust_function_creators=ON"), "{sentence}");
    db.run("set global log_bin_trust_function_creators = ON").await;
    until_state(&server, "streaming").await;
    db.run("insert into items values (1)").await;
    events(&server, "items", 1).await;
    drop(server);
    let blind = db.url_of("blind:open%20sesame", "test");
    let (.., sentence) = says(&source(&blind, &["items"], "")).await;
    assert!(sentence.contains("grant SELECT"), "{sentence}");
    let (server, _dir, sentence) = says(&source(&db.url_of("plain:hush", "test"), &["items"], "")).await;
    assert!(sentence.contains("password") && !sentence.contains("hush"), "{sentence}");
    assert!(!server.log().contains("hush"), "{}", server.log());
    let (.., sentence) = says(&source(&db.url_of("root", "nowhere"), &["items"], "")).await;
    assert!(sentence.contains("nowhere"), "{sentence}");
}

#[tokio::test]
async fn a_server_that_logs_too_little_is_said() {
    let create = "create table items (id int primary key)";
    for (settings, word) in [
        (&[][..], "log_bin"),
        (&["log-bin=bin", "server-id=1"], "binlog_format=ROW"),
        (&[&LOG[..], &["binlog-row-image=MINIMAL"]].concat(), "binlog_row_image=FULL"),
        (&[&LOG[..], &["log-bin-compress=ON"]].concat(), "log_bin_compress=OFF"),
    ] {
        let db = Database::start_with(settings).await;
        db.run(create).await;
        let (server, _dir, sentence) = says(&source(&db.url(), &["items"], "")).await;
        assert!(sentence.contains(word), "{sentence}");
        if word.contains("image") {
            db.run("set global binlog_row_image = FULL").await;
            until_state(&server, "streaming").await;
        }
    }
}

#[tokio::test]
async fn changes_that_are_not_logged_as_rows_are_said_and_not_lost_in_silence() {
    let db = Database::start().await;
    db.run("create table items (id int primary key)").await;
    let (server, _dir) = capture(&source(&db.url(), &["items"], "")).await;
    db.run("set session binlog_format = STATEMENT; insert into items values (1)").await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().unwrap();
    assert!(sentence.contains("items") && sentence.contains("binlog_format"), "{sentence}");
}

#[tokio::test]
async fn columns_that_changed_unseen_are_never_given_wrong_names() {
    let db = Database::start_with(&LOG[..3]).await;
    db.run("create table items (id int primary key, a int, b int)").await;
    let (_dir, path) = settings_file(&source(&db.url(), &["items"], ""));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    db.run("insert into items values (1, 2, 3)").await;
    assert_eq!(events(&server, "items", 1).await[0]["data"], serde_json::json!({"id": 1, "a": 2, "b": 3}));
    db.run("alter table items change a c int; insert into items values (2, 2, 3)").await;
    assert_eq!(events(&server, "items", 2).await[1]["data"], serde_json::json!({"id": 2, "c": 2, "b": 3}));
    server.kill().await;
    db.run("insert into items values (3, 2, 3); alter table items change b d int, change c b int").await;
    let _ = server.spawn().await;
    let status = until_state(&server, "failed").await;
    assert!(status["error"]["text"].as_str().unwrap().contains("binlog_row_metadata=FULL"), "{status}");
    assert_eq!(events(&server, "items", 2).await.len(), 2);
}

#[tokio::test]
async fn settings_that_mean_nothing_are_refused_at_the_start() {
    let url = "mysql://u:hush@127.0.0.1/d";
    for (text, why) in [
        (source("mysql://u:hush@127.0.0.1", &["a"], ""), "/DATABASE"),
        (source("postgres://h/d", &["a"], ""), "begins with mysql://"),
        (source(url, &["a"], "mode = \"logical\""), "binlog and triggers"),
    ] {
        let (dir, path) = settings_file(&text);
        let program = crate::harness::Program::new();
        let done = program.run(dir.path(), &["serve", "--config", &path, "--port", "0"], b"").await;
        assert!(!done.status.success());
        let said = done.stderr;
        assert!(said.contains(why) && !said.contains("hush"), "{text}: {said}");
    }
}
