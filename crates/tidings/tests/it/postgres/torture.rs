//! Eight writers, a server that is killed, a connection that is cut: every committed change arrives once and in order.

use super::snapshot::{folded, table};
use super::{Database, level, read, settings_file, source, until_state};
use crate::harness::{Random, Server};
use crate::sources::{Ledger, check, seed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::Client;

/// How much of it: kills and cuts, each; `IT_LONG` makes it ten times as much.
const BREAKS: u64 = 20;

async fn write(client: Client, writer: u64, seed: u64, stop: Arc<AtomicBool>) -> Ledger {
    let mut random = Random(seed.wrapping_mul(31).wrapping_add(writer));
    let (mut ledger, mut stamp) = (Ledger::default(), Ledger::before(writer));
    // Its own rows, so that what a statement changes is known beforehand; and a few that all fight for.
    let (mut own, mut next): (Vec<i64>, i64) = (Vec::new(), writer as i64 * 1_000_000 + 100);
    while !stop.load(Ordering::Relaxed) {
        let rows_before = own.clone();
        let (mut text, mut found) = ("begin;".to_owned(), Ledger::default());
        for _ in 0..=random.below(4) {
            stamp += 1;
            match random.below(12) {
                0..=3 => {
                    // Rarely, and once at the beginning in any case.
                    let is_large = random.below(1_500) == 0 || writer == 1 && next % 1_000_000 == 100;
                    let body = if is_large { 5_000_000 } else { random.below(3_000) };
                    text += &format!(
                        "insert into items (id, stamp, body) values ({next}, {stamp}, repeat('b', {body}));"
                    );
                    own.push(next);
                    next += 1;
                    found.stamps.push(stamp);
                }
                4..=6 if !own.is_empty() => {
                    let id = own[random.below(own.len() as u64) as usize];
                    text += &format!("update items set stamp = {stamp} where id = {id};");
                    found.stamps.push(stamp);
                }
                7 if !own.is_empty() => {
                    let at = random.below(own.len() as u64) as usize;
                    text += &format!("update items set id = {next}, stamp = {stamp} where id = {};", own[at]);
                    own[at] = next;
                    next += 1;
                    found.stamps.push(stamp);
                }
                8 if own.len() > 20 => {
                    let id = own.swap_remove(random.below(own.len() as u64) as usize);
                    text += &format!("delete from items where id = {id};");
                    found.deleted += 1;
                }
                9 => {
                    text += &format!(
                        "savepoint s; insert into items (id, stamp) values ({next}, {stamp}); rollback to s;"
                    );
                }
                10 if writer == 0 && random.below(4) == 0 => {
                    text += "alter table items add if not exists extra text default 'e';";
                }
                11 if writer == 0 && random.below(4) == 0 => {
                    text += "alter table items drop if exists extra;"
                }
                // A row that everybody writes: who comes later waits for who was first.
                _ => {
                    text += &format!("update items set stamp = {stamp} where id = {};", random.below(3));
                    found.stamps.push(stamp);
                }
            }
        }
        let is_committed = random.below(5) > 0;
        text += if is_committed { "commit" } else { "rollback" };
        match client.batch_execute(&text).await {
            Ok(()) if is_committed => ledger.extend(found),
            Ok(()) => own = rows_before,
            // Two that wait for each other: one of them is sent back.
            Err(error) => {
                assert!(error.code().is_some(), "{error:?}");
                client.batch_execute("rollback").await.expect("it goes on");
                own = rows_before;
            }
        }
        if random.below(3) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(random.below(20))).await;
        }
    }
    ledger
}

async fn torture(mode: &str) {
    let seed = seed();
    let breaks = if std::env::var_os("IT_LONG").is_some() { 10 * BREAKS } else { BREAKS };
    let db = Database::start().await;
    db.run(
        "create table items (id bigint primary key, stamp bigint, body text); \
         create table marks (id int primary key); insert into items select i, 0 from generate_series(0, 2) i",
    )
    .await;
    let (_dir, path) =
        settings_file(&source(&db.url(), &["items", "marks"], &format!("snapshot = true\n{mode}")));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    // A server is ready while it reads the rows that are there: what is written then may be among them.
    until_state(&server, "streaming").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..8 {
        writers.push(tokio::spawn(write(db.connect().await, writer, seed, Arc::clone(&stop))));
    }
    let mut random = Random(seed);
    for _ in 0..breaks {
        tokio::time::sleep(std::time::Duration::from_millis(random.below(400))).await;
        db.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidings'")
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(random.below(600))).await;
        server.kill().await;
        let _ = server.spawn().await;
    }
    until_state(&server, "streaming").await;
    stop.store(true, Ordering::Relaxed);
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.expect("it writes"));
    }
    level(&server, &db, "marks", 1).await;
    let all = read(&server, "items").await;
    assert_eq!(folded(&all).len() as i64, db.number("select count(*) from items").await, "seed {seed}");
    let (rows, expected) = (folded(&all), table(&db, "items").await);
    for (id, row) in &expected {
        assert_eq!(rows[id]["stamp"], row["stamp"], "row {id}, seed {seed}");
    }
    check(&ledgers, &all, seed);
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_by_logical_replication() {
    torture("").await;
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_by_triggers() {
    torture("mode = \"triggers\"").await;
}
