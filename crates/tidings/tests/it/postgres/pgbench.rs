//! PostgreSQL's own benchmark as the application: its tables and its workload, captured while it runs.

use super::snapshot::{folded, table_by};
use super::{Database, level, read, settings_file, source};
use crate::harness::Server;
use std::process::Stdio;
use tokio::process::{Child, Command};

const CLIENTS: u32 = 8;

fn pgbench(db: &Database, args: &[String]) -> Child {
    let program = peers::find("pgbench").expect("installed with the peers");
    let port = db.peer.port().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port]).args(args).arg("postgres");
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("it starts")
}

async fn ends(mut child: Child) {
    assert!(child.wait().await.expect("it ends").success());
}

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

async fn everything_is_captured(mode: &str) {
    let transactions = if std::env::var_os("IT_LONG").is_some() { 20_000 } else { 500 };
    let db = Database::start().await;
    ends(pgbench(&db, &args("-i -q -s 1"))).await;
    // Its history has no key, and is told apart by nothing.
    db.run("alter table pgbench_history replica identity full; create table marks (id int primary key)")
        .await;
    let tables = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history", "marks"];
    let (_dir, path) = settings_file(&source(&db.url(), &tables, &format!("snapshot = true\n{mode}")));
    // It runs before the first start, through the snapshot, a kill and a broken connection.
    let work = format!("-n -c {CLIENTS} -t {transactions}");
    let working = pgbench(&db, &args(&work));
    let mut server = Server::start_to_restart(&["--config", &path]).await;
    let more = pgbench(&db, &args(&work));
    server.kill().await;
    server.launch().await;
    db.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidings'").await;
    ends(working).await;
    ends(more).await;
    level(&server, &db, "marks", 1).await;
    for (topic, key) in [("accounts", "aid"), ("branches", "bid"), ("tellers", "tid")] {
        let topic = format!("pgbench_{topic}");
        assert!(folded(&read(&server, &topic).await) == table_by(&db, &topic, key).await, "{topic}");
    }
    // What was there when the first snapshot was taken and not finished is told again, after a truncate.
    let history = read(&server, "pgbench_history").await;
    let after = history.iter().rposition(|e| e["name"] == "truncate").map_or(0, |at| at + 1);
    let deltas = history[after..].iter().map(|e| e["data"]["delta"].as_i64().expect("a number"));
    let (count, sum) = deltas.fold((0, 0), |(count, sum), delta| (count + 1, sum + delta));
    assert_eq!(count, i64::from(2 * CLIENTS * transactions));
    assert_eq!(sum, db.number("select sum(delta)::int8 from pgbench_history").await);
    let balance = db.number("select sum(bbalance)::int8 from pgbench_branches").await;
    assert_eq!(sum, balance, "the workload itself adds up");
}

#[tokio::test]
async fn its_workload_arrives_whole_by_logical_replication() {
    everything_is_captured("").await;
}

#[tokio::test]
async fn its_workload_arrives_whole_by_triggers() {
    everything_is_captured("mode = \"triggers\"").await;
}
