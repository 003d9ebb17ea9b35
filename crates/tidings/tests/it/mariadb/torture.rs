//! Random transactions of eight writers while the server is killed and its connections are cut: at the end what was
//! captured is what the tables hold, and every change came once and in order.
//!
//! `TIDINGS_TORTURE=N` kills and cuts N times instead of 20; `TIDINGS_SEED=N` repeats a run's moments.

use super::snapshot::{folded, table};
use super::{Database, level, read, settings_file, source, status};
use crate::harness::{Random, Server, until};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const ROWS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What writers share.
#[derive(Default)]
struct Witness {
    committed: AtomicU64,
    over: AtomicBool,
}

/// One statement on a table of rows `id, n, tag, body`; each change gives the row a number that is never used again.
fn statement(random: &mut Random, writer: u64, count: &mut u64) -> String {
    *count += 1;
    let (id, tag) = (random.below(ROWS), writer << 40 | *count);
    match random.below(10) {
        0..=3 => format!(
            "insert into items (id, n, tag, body) values ({id}, 0, {tag}, repeat('é', {})) \
             on duplicate key update n = n + 1, tag = {tag}",
            if random.below(120) == 0 { 2_500_000 } else { random.below(300) }
        ),
        4..=6 => format!("update items set n = n + 1, tag = {tag} where id = {id}"),
        7 => format!("update ignore items set id = {}, tag = {tag} where id = {id}", random.below(ROWS)),
        _ => format!("delete from items where id = {id}"),
    }
}

/// Writes transactions until it is over. A deadlock rolls one back, as it may.
async fn write(mut connection: Conn, writer: u64, seed: u64, witness: Arc<Witness>) {
    let (mut random, mut count) = (Random(seed), 0);
    while !witness.over.load(Ordering::Relaxed) {
        let mut words = vec!["begin".to_owned()];
        for _ in 0..=random.below(6) {
            words.push(statement(&mut random, writer, &mut count));
            if random.below(5) == 0 {
                words.push("savepoint s".into());
                words.push(statement(&mut random, writer, &mut count));
                words.push(if random.below(2) == 0 { "rollback to s" } else { "release savepoint s" }.into());
            }
        }
        let is_kept = random.below(5) > 0;
        words.push(if is_kept { "commit" } else { "rollback" }.into());
        match connection.query_drop(words.join("; ")).await {
            Ok(()) => _ = witness.committed.fetch_add(u64::from(is_kept), Ordering::Relaxed),
            Err(Error::Server(error)) if [1205, 1213, 1305].contains(&error.code) => {
                connection.query_drop("rollback").await.expect("a rollback");
            }
            Err(error) => panic!("a write failed: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(random.below(10))).await;
    }
}

async fn survives(mode: &str, has_changes_of_tables: bool) {
    let kills = number("TIDINGS_TORTURE").unwrap_or(20);
    let seed = number("TIDINGS_SEED").unwrap_or(u64::from(std::process::id()));
    eprintln!("{mode}: seed {seed}");
    let mut random = Random(seed);
    let settings = [&super::LOG[..], &["max-allowed-packet=64M", "innodb-lock-wait-timeout=2"]].concat();
    let db = Database::start_with(&settings).await;
    db.run(
        "create table items (id int primary key, n int, tag bigint, body longtext); \
         create table marks (id int primary key); create user tidings; grant all on *.* to tidings",
    )
    .await;
    let (_dir, path) = settings_file(&source(&db.url_of("tidings", "test"), &["items", "marks"], mode));
    let mut server = Server::start_to_restart(&["--config", &path, "--log-level", "warn"]).await;
    let witness = Arc::new(Witness::default());
    let mut tasks = Vec::new();
    for writer in 0..8 {
        let connection = db.connect().await;
        tasks.push(tokio::spawn(write(connection, writer, seed ^ writer, Arc::clone(&witness))));
    }
    for round in 0..kills {
        let before = witness.committed.load(Ordering::Relaxed);
        until("writing to go on", async || witness.committed.load(Ordering::Relaxed) > before + 10).await;
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        cut(&db).await;
        if has_changes_of_tables && round % 4 == 1 {
            db.run(&format!(
                "alter table items add column extra{round} int default {round}, algorithm=instant"
            ))
            .await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        server.kill().await;
        server.launch().await;
        if let Some(task) = tasks.iter().position(tokio::task::JoinHandle::is_finished) {
            panic!("after {round}: {:?}", tasks.swap_remove(task).await);
        }
    }
    witness.over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no write failed");
    }
    until("streaming", async || status(&server).await["state"] == "streaming").await;
    level(&server, &db, "marks", 1).await;
    let all = read(&server, "items").await;
    let mut columns = vec!["id", "n", "tag", "body"];
    let added = "select column_name from information_schema.columns where table_name = 'items' and \
        column_name like 'extra%'";
    let extra = db.texts(added).await;
    columns.extend(extra.iter().map(String::as_str));
    let (mut found, expected) = (folded_with(&all), table(&db, &columns, "items").await);
    // A column that came later is not in what was said before.
    for (key, row) in &mut found {
        for name in &extra {
            if row.get(name).is_none() {
                row[name] = expected[key][name].clone();
            }
        }
    }
    assert_eq!(found, expected);
    let mut seen = HashSet::new();
    for event in all.iter().filter(|event| event["name"] != "delete") {
        let told =
            (event["data"]["tag"].to_string(), event["key"].to_string(), event["data"]["n"].to_string());
        assert!(seen.insert(told), "twice: {event}");
    }
    let committed = witness.committed.load(Ordering::Relaxed);
    eprintln!("{mode}: {committed} transactions, {} events", all.len());
    assert!(committed > 200 && all.len() > 200, "hardly anything was written: this run shows nothing");
}

/// As [`folded`], for rows whose table changes: an update's row before may lack what came later.
fn folded_with(events: &[serde_json::Value]) -> std::collections::BTreeMap<String, serde_json::Value> {
    let is_plain = events.iter().all(|event| event["data"].as_object().is_none_or(|row| row.len() == 4));
    if is_plain {
        return folded(events);
    }
    let mut events = events.to_vec();
    let mut rows = std::collections::HashMap::new();
    for event in &mut events {
        let key = event["key"].to_string();
        if event["name"] == "update"
            && let Some(serde_json::Value::Object(old)) = rows.get(&key)
        {
            // Compared without the new columns, then taken as it is.
            let before = event["context"]["before"].as_object_mut().expect("the row before");
            before.retain(|name, _| old.contains_key(name));
        }
        rows.insert(key, event["data"].clone());
    }
    folded(&events)
}

/// Ends every connection of the server under test.
async fn cut(db: &Database) {
    for id in db.texts("select id from information_schema.processlist where user = 'tidings'").await {
        // It may be gone by now.
        let _ = db.connection.lock().await.query_drop(format!("kill {id}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_log_survives_everything() {
    survives("mode = \"binlog\"\nheartbeat_ms = 500", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_survive_everything() {
    survives("mode = \"triggers\"\npoll_ms = 20", false).await;
}
