//! Whatever is wrong, a sentence says what to do, and once it is done it works.

use super::{Database, capture, events, settings_file, source, until_state};
use crate::harness::Server;

/// Starts a server that cannot capture, and answers with why.
async fn says(text: &str) -> (Server, tempfile::TempDir, String) {
    let (dir, path) = settings_file(text);
    let server = Server::start_unready(&["--config", &path]).await;
    let status = until_state(&server, "failed").await;
    let sentence = status["error"]["text"].as_str().expect("a sentence").to_owned();
    assert!(server.log().contains("cannot be captured as it is set"), "{}", server.log());
    let listed = server.cli(&["sources"], b"").await.ok();
    assert!(listed.contains(&sentence), "{listed}");
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("source_unavailable"));
    (server, dir, sentence)
}

#[tokio::test]
async fn what_is_wrong_in_the_database_is_said_and_can_be_put_right() {
    let db = Database::start().await;
    db.run("create table keyless (a int); create role plain login; create role copier login replication; create table items (id int primary key)").await;
    let (server, _dir, sentence) = says(&source(&db.url(), &["itemz"], "")).await;
    assert!(sentence.contains("no table itemz") && sentence.contains("`tables`"), "{sentence}");
    db.run("create table itemz (id int primary key)").await;
    until_state(&server, "streaming").await;
    db.run("insert into itemz values (1)").await;
    events(&server, "itemz", 1).await;
    drop(server);
    let misspelled = source(&db.url(), &["items"], "slot = \"other\"")
        .replace("\"items\"", "{name = \"items\", filter = [\"idd\"]}");
    for text in [misspelled.clone(), misspelled.replace("slot =", "mode = \"triggers\"\noutbox =")] {
        let (server, _dir, sentence) = says(&text).await;
        assert!(sentence.contains("no column idd, which its `filter` names; it has id"), "{sentence}");
        db.run("alter table items add idd text").await;
        until_state(&server, "streaming").await;
        drop(server);
        db.run("alter table items drop idd").await;
    }
    let (.., sentence) = says(&source(&db.url(), &["keyless"], "slot = \"other\"")).await;
    assert!(sentence.contains("alter table \"public\".\"keyless\" replica identity full"), "{sentence}");
    let (.., sentence) = says(&source(&db.url_of("plain"), &["items"], "mode = \"logical\"")).await;
    assert!(sentence.contains("alter role \"plain\" replication"), "{sentence}");
    let (.., sentence) = says(&source(&db.url_of("copier"), &["items"], "publication = \"p\"")).await;
    assert!(sentence.contains("create publication \"p\" for table \"public\".\"items\""), "{sentence}");
    let (.., sentence) = says(&source(&db.url_of("nobody"), &["items"], "")).await;
    assert!(sentence.contains("nobody") && sentence.contains("`url`"), "{sentence}");
    let (.., sentence) = says(&source(&db.url().replace("/postgres", "/nowhere"), &["items"], "")).await;
    assert!(sentence.contains("nowhere") && sentence.contains("`url`"), "{sentence}");
}

#[tokio::test]
async fn a_database_that_keeps_too_little_is_said() {
    let db = Database::start_with(&["wal_level=replica"]).await;
    db.run("create table items (id int primary key)").await;
    let (.., sentence) = says(&source(&db.url(), &["items"], "mode = \"logical\"")).await;
    assert!(sentence.contains("wal_level = logical"), "{sentence}");
    // Without a mode it would be triggers, to which an application's messages do not get.
    let (.., sentence) = says(&source(&db.url(), &["items"], "messages = true")).await;
    assert!(sentence.contains("`messages`") && sentence.contains("wal_level = logical"), "{sentence}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_never_repeated() {
    let db = Database::start().await;
    db.run("create role locked login password 'open sesame'; create table items (id int primary key)").await;
    let hba = db.peer.dir().join("data/pg_hba.conf");
    std::fs::write(&hba, "host all locked all scram-sha-256\nhost all all all trust\n").expect("a file");
    db.run("select pg_reload_conf(); alter role locked superuser").await;
    let url = |password: &str| db.url_of(&format!("locked:{password}"));
    let (server, _dir, sentence) = says(&source(&url("hush"), &["items"], "")).await;
    assert!(sentence.contains("password") && !sentence.contains("hush"), "{sentence}");
    assert!(!server.log().contains("hush"), "{}", server.log());
    drop(server);
    let (server, _dir) = capture(&source(&url("open%20sesame"), &["items"], "")).await;
    db.run("insert into items values (1)").await;
    events(&server, "items", 1).await;
}

#[tokio::test]
async fn settings_that_mean_nothing_are_refused_at_the_start() {
    let url = "postgres://u:hush@127.0.0.1/d";
    for (text, why) in [
        (source(url, &[], ""), "no tables"),
        (source(url, &["a", "a"], ""), "named twice"),
        (source("mysql://h/d", &["a"], ""), "begins with postgres://"),
        (source(url, &["a"], "mode = \"binlog\""), "logical and triggers"),
        (source(url, &["a"], "snapshots = true"), "unknown field"),
        (source(url, &["a"], "").repeat(2), "two of this name"),
        (source(url, &["a"], "").replace("shop", "My Shop"), "lower-case"),
        (source(url, &["a"], "slot = \"My-Slot\""), "`slot` has 1 to 63 lower-case"),
        (source(url, &["a"], "mode = \"triggers\"\nmessages = true"), "`messages` means nothing"),
    ] {
        let (dir, path) = settings_file(&text);
        let program = crate::harness::Program::new();
        let done = program.run(dir.path(), &["serve", "--config", &path, "--port", "0"], b"").await;
        assert!(!done.status.success());
        let said = done.stderr;
        assert!(said.contains(why) && !said.contains("hush"), "{text}: {said}");
    }
}
