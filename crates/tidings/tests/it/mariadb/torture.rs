//! Eight writers, a server that is killed, connections that are cut, tables that change: every committed change arrives
//! once and in order.

use super::{Database, LOG, level, read, settings_file, source, until_state};
use crate::harness::{Random, Server};
use crate::sources::{Ledger, check, seed};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Kills and cuts, each; with `IT_LONG` set as many as `BREAKS_LONG`.
const BREAKS: u64 = 6;
const BREAKS_LONG: u64 = 20;

/// Server errors that only ask for another try: a lock that was not let go of in time, and two that wait for each other.
const TRY_AGAIN: [u16; 2] = [1205, 1213];

/// What a transaction does to rows of its own.
struct Writer {
    number: u64,
    random: Random,
    stamp: i64,
    next: i64,
    own: Vec<i64>,
}

impl Writer {
    /// One statement, or a few that take themselves back; what it stamps and deletes goes into `ledger`.
    fn statement(&mut self, ledger: &mut Ledger) -> String {
        self.stamp += 1;
        let (stamp, next) = (self.stamp, self.next);
        let some = self.random.below(self.own.len().max(1) as u64) as usize;
        match self.random.below(12) {
            0..=3 => {
                let body = if self.random.below(400) == 0 { 5_000_000 } else { self.random.below(3_000) };
                self.own.push(next);
                self.next += 1;
                ledger.stamps.push(stamp);
                format!("insert into items (id, stamp, body) values ({next}, {stamp}, repeat('b', {body}))")
            }
            4..=6 if !self.own.is_empty() => {
                ledger.stamps.push(stamp);
                format!("update items set stamp = {stamp} where id = {}", self.own[some])
            }
            7 if !self.own.is_empty() => {
                let old = std::mem::replace(&mut self.own[some], next);
                self.next += 1;
                ledger.stamps.push(stamp);
                format!("update items set id = {next}, stamp = {stamp} where id = {old}")
            }
            8 if self.own.len() > 20 => {
                ledger.deleted += 1;
                format!("delete from items where id = {}", self.own.swap_remove(some))
            }
            9 => format!(
                "savepoint s; insert into items (id, stamp) values ({next}, {stamp}); \
                 update items set stamp = {stamp} where id = {next}; rollback to s"
            ),
            // A row that everybody writes: who comes later waits for who was first.
            _ => {
                ledger.stamps.push(stamp);
                format!("update items set stamp = {stamp} where id = {}", self.random.below(3))
            }
        }
    }

    /// Writes until it is over. What breaks off a transaction takes it back as a whole.
    async fn write(mut self, mut connection: Conn, over: Arc<AtomicBool>) -> Ledger {
        let mut ledger = Ledger::default();
        while !over.load(Ordering::Relaxed) {
            let (before, mut found) = (self.own.clone(), Ledger::default());
            let mut text = "begin; ".to_owned();
            for _ in 0..=self.random.below(4) {
                text += &self.statement(&mut found);
                text += "; ";
            }
            let is_kept = self.random.below(5) > 0;
            text += if is_kept { "commit" } else { "rollback" };
            match connection.query_drop(text).await {
                Ok(()) if is_kept => ledger.extend(found),
                Ok(()) => self.own = before,
                Err(Error::Server(error)) if TRY_AGAIN.contains(&error.code) => {
                    connection.query_drop("rollback").await.expect("it goes on");
                    self.own = before;
                }
                Err(error) => panic!("writer {}: a write failed: {error}", self.number),
            }
            if self.random.below(3) == 0 {
                tokio::time::sleep(Duration::from_millis(self.random.below(20))).await;
            }
        }
        ledger
    }
}

/// The changes of the table between two breaks. Triggers learn of a column later, so there only one is added.
async fn alter(db: &Database, round: u64, is_log: bool) {
    let change = match (is_log, round % 3) {
        (true, 0) => "add column if not exists extra text default 'e'".to_owned(),
        (true, 1) => {
            "add column if not exists other int default 7 first, drop column if exists extra".to_owned()
        }
        (true, _) => "drop column if exists other".to_owned(),
        (false, _) => format!("add column if not exists extra{} text default 'e'", round % 2),
    };
    let statement = format!("alter table items {change}, algorithm=instant");
    // Writers may hold the table for longer than it waits.
    while let Err(error) = db.connection.lock().await.query_drop(&statement).await {
        assert!(matches!(&error, Error::Server(error) if TRY_AGAIN.contains(&error.code)), "{error}");
    }
}

async fn torture(mode: &str, is_log: bool) {
    let seed = seed();
    let breaks = if std::env::var_os("IT_LONG").is_some() { BREAKS_LONG } else { BREAKS };
    let db =
        Database::start_with(&[&LOG[..], &["max-allowed-packet=64M", "innodb-lock-wait-timeout=5"]].concat())
            .await;
    db.run(
        "create table items (id bigint primary key, stamp bigint, body longtext); \
         create table marks (id int primary key); insert into items values (0, 0, ''), (1, 0, ''), (2, 0, ''); \
         create user tidings; grant all on *.* to tidings",
    )
    .await;
    let settings = format!("snapshot = true\n{mode}");
    let (_dir, path) = settings_file(&source(&db.url_of("tidings", "test"), &["items", "marks"], &settings));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    // A server is ready while it reads the rows that are there: what is written then may be among them.
    until_state(&server, "streaming").await;
    let over = Arc::new(AtomicBool::new(false));
    let (mut writers, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..8 {
        let connection = db.connect().await;
        theirs.push(connection.id().to_string());
        let writer = Writer {
            number,
            random: Random(seed.wrapping_mul(31).wrapping_add(number)),
            stamp: Ledger::before(number),
            next: number as i64 * 1_000_000 + 100,
            own: Vec::new(),
        };
        writers.push(tokio::spawn(writer.write(connection, Arc::clone(&over))));
    }
    // Within a trigger a writer's connection counts as its owner's.
    let ours = format!(
        "select id from information_schema.processlist where user = 'tidings' and id not in ({})",
        theirs.join(",")
    );
    let mut random = Random(seed);
    for round in 0..breaks {
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        for id in db.texts(&ours).await {
            // It may have gone by itself.
            let _ = db.connection.lock().await.query_drop(format!("kill {id}")).await;
        }
        alter(&db, round, is_log).await;
        tokio::time::sleep(Duration::from_millis(random.below(600))).await;
        server.kill().await;
        let _ = server.spawn().await;
    }
    until_state(&server, "streaming").await;
    over.store(true, Ordering::Relaxed);
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.expect("it writes"));
    }
    level(&server, &db, "marks", 1).await;
    let all = read(&server, "items").await;
    check_rows(&db, &all, seed).await;
    check(&ledgers, &all, seed);
}

/// Each change begins where the one before it of that row has ended, and the last ones are what the table holds.
async fn check_rows(db: &Database, all: &[Value], seed: u64) {
    let row = |data: &Value| json!([data["id"], data["stamp"], data["body"].as_str().map_or(0, str::len)]);
    let mut rows = BTreeMap::new();
    for event in all {
        let key = event["key"].as_str().expect("a key");
        let told = || format!("{} of {key}, seed {seed}: {}", event["name"], event["context"]["position"]);
        let before = match event["name"].as_str().expect("a name") {
            "truncate" => {
                rows.clear();
                continue;
            }
            "delete" => {
                assert_eq!(rows.remove(key), Some(row(&event["data"])), "{}", told());
                continue;
            }
            name => (name == "update").then(|| row(&event["context"]["before"])),
        };
        assert_eq!(rows.insert(key.to_owned(), row(&event["data"])), before, "{}", told());
    }
    let held = db.texts("select json_array(id, stamp, coalesce(length(body), 0)) from items").await;
    let held: BTreeMap<String, Value> = held
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).expect("JSON"))
        .map(|row| (row[0].to_string(), row))
        .collect();
    assert_eq!(rows, held, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_repeated_by_the_binary_log() {
    torture("mode = \"binlog\"\nheartbeat_ms = 500", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_repeated_by_triggers() {
    torture("mode = \"triggers\"\npoll_ms = 50", false).await;
}
