//! Capture from PostgreSQL beside PostgreSQL's own `pg_recvlogical`, and what only PostgreSQL is asked.
//!
//! Owns: the database of a figure, and the writers.

use super::broker::{memory, row};
use super::capture::{self, Bare, Database as _, Load, NO_PINGS, PATIENCE, Writing};
use super::row::{Row, Target};
use super::stage::{Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use peers::Peer;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A commit is on the disk when it is answered, as it is unless somebody sets it otherwise.
const SETTINGS: [&str; 6] = [
    "fsync=on",
    "full_page_writes=on",
    "wal_level=logical",
    "max_connections=40",
    "shared_buffers=128MB",
    "max_wal_size=4GB",
];
const TABLE: &str = "create table items (id bigint generated always as identity primary key, body text)";

pub fn latency(stage: &Stage) -> Result<Vec<Row>> {
    capture::latency(stage, "postgres-latency", |db: &Database| db.server(stage))
}

pub fn rate(stage: &Stage) -> Result<Vec<Row>> {
    capture::rate::<Database>(stage, "postgres-rate")
}

/// The most memory that one transaction of a million rows takes.
pub fn large(stage: &Stage) -> Result<Vec<Row>> {
    let count: u64 = if stage.is_quick { 100_000 } else { 1_000_000 };
    let db = Database::start()?;
    let server = db.server(stage)?;
    db.run(&format!("insert into items (body) select repeat('x', 150) from generate_series(1, {count})"))?;
    let (begun, mut most) = (Instant::now(), 0);
    while server.tail("items").unwrap_or(0) < count {
        if begun.elapsed() > PATIENCE {
            bail!("{} of {count} rows came", server.tail("items")?);
        }
        most = most.max(memory(&server)?);
        std::thread::sleep(Duration::from_millis(20));
    }
    let note = format!("{:.0} rows/s", count as f64 / begun.elapsed().as_secs_f64());
    Ok(vec![row("postgres-large", "MB", most as f64 / 1e6, Target::AtMost(150.0), &note)])
}

/// What a write costs the application with our triggers, against one with nothing but NOTIFY.
pub fn triggers(stage: &Stage) -> Result<Vec<Row>> {
    let transactions = if stage.is_quick { 200 } else { 3000 };
    let load = Load { clients: 8, transactions, rows: 1 };
    let db = Database::start()?;
    let timed = || {
        let begun = Instant::now();
        db.write(&load)?()?;
        anyhow::Ok(begun.elapsed())
    };
    let plain = timed()?;
    db.run(
        "create function ring() returns trigger language plpgsql as $$ begin \
         perform pg_notify('changes', row_to_json(new)::text); return null; end $$; \
         create trigger ring after insert on items for each row execute function ring()",
    )?;
    let notify = timed()?;
    db.run("drop trigger ring on items")?;
    let _server = db.server_with(stage, "mode = \"triggers\"\n")?;
    let ours = timed()?;
    let cost = |elapsed: Duration| elapsed.as_secs_f64() * 1e6 / transactions as f64;
    let figure = row("postgres-triggers", "us/write", cost(ours), Target::RatioAtMost(2.0), "");
    let note = format!("{:.0} without any trigger", cost(plain));
    Ok(vec![Row { yardstick: Some(cost(notify)), ratio: Some(cost(ours) / cost(notify)), note, ..figure }])
}

/// A cluster with one empty table.
struct Database {
    peer: Peer,
}

impl Database {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(peers::find(program).unwrap_or_else(|| program.into()));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.peer.port().to_string()]);
        end_with_us(&mut command);
        command
    }

    /// Runs statements, and answers with what the last of them says.
    fn run(&self, text: &str) -> Result<String> {
        let done = self
            .command("psql")
            .args(["-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", text])
            .output()?;
        if !done.status.success() {
            bail!("{text}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// A server that captures the table; `more` are further settings of the source.
    fn server_with(&self, stage: &Stage, more: &str) -> Result<Server> {
        let settings = stage.fresh_path("tidings.toml");
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.peer.port());
        std::fs::write(
            &settings,
            format!(
                "[[sources]]\nname = \"load\"\nkind = \"postgres\"\nurl = \"{url}\"\n{more}\
                 tables = [{{name = \"items\", rows = \"*\"}}]\n{NO_PINGS}"
            ),
        )?;
        stage.server_with(&["--config", settings.to_str().context("a path in UTF-8")?])
    }
}

impl capture::Database for Database {
    fn start() -> Result<Self> {
        for program in ["postgres", "psql", "pgbench", "pg_recvlogical"] {
            peers::find(program)
                .with_context(|| format!("{program} is missing; `cargo xtask test` installs it"))?;
        }
        let db = Self { peer: peers::postgres(&SETTINGS).started() };
        db.run(TABLE)?;
        Ok(db)
    }

    fn shell(&self) -> Command {
        let mut shell = self.command("psql");
        shell.args(["-q", "-d", "postgres"]);
        shell
    }

    fn bare(&self, _: &Stage) -> Result<Bare> {
        self.run("create publication bare for table items")?;
        self.run("select pg_create_logical_replication_slot('bare', 'pgoutput')")?;
        let mut command = self.command("pg_recvlogical");
        command.args(["-d", "postgres", "--slot", "bare", "--start", "-f", "-"]);
        command.args(["-o", "proto_version=1", "-o", "publication_names=bare"]);
        Bare::start(command.stderr(Stdio::null()), 0)
    }

    fn server(&self, stage: &Stage) -> Result<Server> {
        self.server_with(stage, "")
    }

    fn forget(&self) -> Result<()> {
        let begun = Instant::now();
        // One that is still active has a client that has just ended.
        while self.run("select count(*) from pg_replication_slots")? != "0" {
            if begun.elapsed() > PATIENCE {
                bail!("a replication slot stays in use");
            }
            self.run(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active",
            )?;
            std::thread::sleep(Duration::from_millis(20));
        }
        self.run(
            "do $$ declare name text; begin for name in select pubname from pg_publication loop \
             execute format('drop publication %I', name); end loop; end $$",
        )?;
        Ok(())
    }

    fn write(&self, load: &Load) -> Result<Writing> {
        let script = self.peer.dir().join("script.sql");
        let insert = "insert into items (body) select";
        let (body, rows) = (capture::body(), load.rows);
        std::fs::write(&script, format!("{insert} '{body}' from generate_series(1, {rows});\n"))?;
        let mut command = self.command("pgbench");
        command.args(["-n", "-M", "prepared", "-c", &load.clients.to_string()]);
        command.args(["-t", &load.transactions.to_string(), "-f"]).arg(&script).arg("postgres");
        let mut writing = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Box::new(move || match writing.wait()?.success() {
            true => Ok(()),
            false => bail!("pgbench failed"),
        }))
    }
}
