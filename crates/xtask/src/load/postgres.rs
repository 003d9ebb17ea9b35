//! Capture from PostgreSQL beside a bare replication client, PostgreSQL's own `pg_recvlogical`, one after the other.
//!
//! Owns: the database of a figure, and the writers.

use super::broker::{memory, row};
use super::marks::{DIGITS, Door, MARK, Seen, now_ns, watch};
use super::row::{Row, Target};
use super::stage::{Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use peers::Peer;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(300);
const TABLE: &str = "create table items (id bigint generated always as identity primary key, body text)";
/// A client that looks for marks answers no pings: none are due while it does.
pub const NO_PINGS: &str = "[socketio]\nping_ms = 3600000\n";
pub const FILL: usize = 150 - MARK.len() - DIGITS;

/// From the insert to a client of each kind, at 100 transactions a second.
pub fn latency(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 200 } else { 3000 };
    let db = Database::start(&[])?;
    let (bare_p50, bare_p99) = {
        let bare = Bare::start(&db)?;
        percentiles(db.shell(), &bare.seen, count)?
    };
    let server = db.server(stage, "")?;
    doors("postgres-latency", &server, || db.shell(), [bare_p50, bare_p99], count)
}

/// How much longer than the bare client a client of each kind waits, and how much more it may.
pub fn doors(
    figure: &str,
    server: &Server,
    shell: impl Fn() -> Command,
    bare: [f64; 2],
    count: usize,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for door in Door::ALL {
        let (p50, p99) = percentiles(shell(), &door.follow(server, "items")?, count)?;
        for (which, ours, bare, more) in [("p50", p50, bare[0], 1.0), ("p99", p99, bare[1], 3.0)] {
            let name = format!("{figure} {} {which}", door.name());
            let note = format!("bare client {bare:.2} ms");
            rows.push(row(&name, "ms above bare", ours - bare, Target::AtMost(more), &note));
        }
    }
    Ok(rows)
}

/// Rows a second that arrive while as many are written as go: in transactions of one, and of 200.
pub fn rate(stage: &Stage) -> Result<Vec<Row>> {
    let scale = if stage.is_quick { 10 } else { 1 };
    let one = Load { clients: 8, transactions: 5000 / scale, rows: 1 };
    let many = Load { clients: 1, transactions: 2500 / scale, rows: 200 };
    let mut rows = Vec::new();
    for (name, load, target) in [("postgres-rate-1", one, 0.9), ("postgres-rate-200", many, 0.5)] {
        let db = Database::start(&[])?;
        let bare = {
            let bare = Bare::start(&db)?;
            load.run(&db, || Ok(bare.rows.load(Ordering::Relaxed)))?
        };
        let server = db.server(stage, "")?;
        let tidings = load.run(&db, || Ok(server.tail("items").unwrap_or(0)))?;
        let figure = row(name, "rows/s", tidings, Target::RatioAtLeast(target), "");
        rows.push(Row { yardstick: Some(bare), ratio: Some(tidings / bare), ..figure });
    }
    Ok(rows)
}

/// The most memory that one transaction of a million rows takes.
pub fn large(stage: &Stage) -> Result<Vec<Row>> {
    let count: u64 = if stage.is_quick { 100_000 } else { 1_000_000 };
    let db = Database::start(&[])?;
    let server = db.server(stage, "")?;
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
    let db = Database::start(&[])?;
    let plain = load.write(&db)?;
    db.run(
        "create function ring() returns trigger language plpgsql as $$ begin \
         perform pg_notify('changes', row_to_json(new)::text); return null; end $$; \
         create trigger ring after insert on items for each row execute function ring()",
    )?;
    let notify = load.write(&db)?;
    db.run("drop trigger ring on items")?;
    let _server = db.server(stage, "mode = \"triggers\"\n")?;
    let ours = load.write(&db)?;
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
    fn start(settings: &[&str]) -> Result<Self> {
        for program in ["postgres", "psql", "pgbench", "pg_recvlogical"] {
            peers::find(program)
                .with_context(|| format!("{program} is missing; `cargo xtask test` installs it"))?;
        }
        let own = ["wal_level=logical", "max_connections=40", "shared_buffers=128MB", "max_wal_size=4GB"];
        let peer = peers::postgres(&[&own[..], settings].concat()).started();
        let db = Self { peer };
        db.run(TABLE)?;
        Ok(db)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(peers::find(program).unwrap_or_else(|| program.into()));
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.peer.port().to_string()]);
        end_with_us(&mut command);
        command
    }

    /// What takes statements from its input.
    fn shell(&self) -> Command {
        let mut shell = self.command("psql");
        shell.args(["-q", "-d", "postgres"]);
        shell
    }

    fn run(&self, text: &str) -> Result<()> {
        let done = self
            .command("psql")
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", text])
            .output()?;
        if !done.status.success() {
            bail!("{text}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }

    /// A server that captures the table; `more` are further settings of the source.
    fn server(&self, stage: &Stage, more: &str) -> Result<Server> {
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

/// The bare client: it writes what arrives to us, and confirms.
struct Bare {
    child: Child,
    seen: Seen,
    rows: Arc<AtomicU64>,
}

impl Bare {
    fn start(db: &Database) -> Result<Self> {
        db.run("create publication bare for table items")?;
        db.run("select pg_create_logical_replication_slot('bare', 'pgoutput')")?;
        let mut command = db.command("pg_recvlogical");
        command.args(["-d", "postgres", "--slot", "bare", "--start", "-f", "-"]);
        command.args(["-o", "proto_version=1", "-o", "publication_names=bare"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (seen, rows) = watch(child.stdout.take().context("its output")?);
        Ok(Self { child, seen, rows })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Milliseconds from before the insert to the client, median and 99th of a hundred.
pub fn percentiles(mut shell: Command, seen: &Seen, count: usize) -> Result<(f64, f64)> {
    let mut shell = shell.stdin(Stdio::piped()).spawn()?;
    let mut input = shell.stdin.take().context("its input")?;
    let mut all = Vec::new();
    let warm = 50;
    for n in 0..count + warm {
        let due = Instant::now() + Duration::from_millis(10);
        writeln!(
            input,
            "insert into items (body) values ('{MARK}{:0DIGITS$}{}');",
            now_ns(),
            "x".repeat(FILL)
        )?;
        let took = seen.recv_timeout(PATIENCE).context("a row did not arrive")?;
        if n >= warm {
            all.push(took as f64 / 1e6);
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    drop(input);
    shell.wait()?;
    all.sort_by(f64::total_cmp);
    Ok((all[all.len() / 2], all[all.len() * 99 / 100]))
}

/// So many writers, each with so many transactions of so many rows.
struct Load {
    clients: u64,
    transactions: u64,
    rows: u64,
}

impl Load {
    /// Writes, and answers rows a second until the last has been seen.
    fn run(&self, db: &Database, seen: impl Fn() -> Result<u64>) -> Result<f64> {
        let (count, before) = (self.clients * self.transactions * self.rows, seen()?);
        let begun = Instant::now();
        let mut writing = self.start(db)?;
        while seen()? < before + count {
            if begun.elapsed() > PATIENCE {
                bail!("{} of {count} rows came", seen()? - before);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let elapsed = begun.elapsed();
        if !writing.wait()?.success() {
            bail!("pgbench failed");
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }

    /// Only writes.
    fn write(&self, db: &Database) -> Result<Duration> {
        let begun = Instant::now();
        if !self.start(db)?.wait()?.success() {
            bail!("pgbench failed");
        }
        Ok(begun.elapsed())
    }

    fn start(&self, db: &Database) -> Result<Child> {
        let script = db.peer.dir().join("script.sql");
        let (zeros, fill) = ("0".repeat(DIGITS), "x".repeat(FILL));
        std::fs::write(
            &script,
            format!(
                "insert into items (body) select '{MARK}{zeros}{fill}' from generate_series(1, {});\n",
                self.rows
            ),
        )?;
        let mut command = db.command("pgbench");
        command.args([
            "-n",
            "-M",
            "prepared",
            "-c",
            &self.clients.to_string(),
            "-t",
            &self.transactions.to_string(),
        ]);
        command.arg("-f").arg(&script).arg("postgres").stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }
}
