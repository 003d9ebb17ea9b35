//! Capture from MariaDB's binary log beside a bare replication client, one after the other.
//!
//! Owns: the database of a figure and its writers. How it is watched is the same as for PostgreSQL.

use super::broker::row;
use super::marks::{DIGITS, MARK, Seen, watch};
use super::postgres::{FILL, NO_PINGS, PATIENCE, doors, percentiles};
use super::row::{Row, Target};
use super::stage::{Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use peers::Peer;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SETTINGS: [&str; 5] = [
    "log-bin=bin",
    "server-id=1",
    "binlog-format=ROW",
    "binlog-row-metadata=FULL",
    "innodb-buffer-pool-size=128M",
];
const TABLE: &str = "create table items (id bigint auto_increment primary key, body text)";

/// From the insert to the client, at 100 transactions a second.
pub fn latency(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 200 } else { 3000 };
    let db = Database::start()?;
    let (bare_p50, bare_p99) = {
        let bare = Bare::start(stage, &db)?;
        percentiles(db.shell(), &bare.seen, count)?
    };
    let server = db.server(stage)?;
    doors("mariadb-latency", &server, || db.shell(), [bare_p50, bare_p99], count)
}

/// Rows a second that arrive while as many are written as go: in transactions of one, and of 200.
pub fn rate(stage: &Stage) -> Result<Vec<Row>> {
    let scale = if stage.is_quick { 10 } else { 1 };
    let one = Load { clients: 8, transactions: 5000 / scale, rows: 1 };
    let many = Load { clients: 1, transactions: 2500 / scale, rows: 200 };
    let mut rows = Vec::new();
    for (name, load, target) in [("mariadb-rate-1", one, 0.9), ("mariadb-rate-200", many, 0.5)] {
        let db = Database::start()?;
        let bare = {
            let bare = Bare::start(stage, &db)?;
            load.run(&db, || Ok(bare.rows.load(Ordering::Relaxed)))?
        };
        let server = db.server(stage)?;
        let tidings = load.run(&db, || Ok(server.tail("items").unwrap_or(0)))?;
        let figure = row(name, "rows/s", tidings, Target::RatioAtLeast(target), "");
        rows.push(Row { yardstick: Some(bare), ratio: Some(tidings / bare), ..figure });
    }
    Ok(rows)
}

/// A server with one empty table.
struct Database {
    peer: Peer,
}

impl Database {
    fn start() -> Result<Self> {
        for program in ["mariadbd", "mariadb"] {
            peers::find(program)
                .with_context(|| format!("{program} is missing; `cargo xtask test` installs it"))?;
        }
        let db = Self { peer: peers::mariadb(&SETTINGS).started() };
        let done = db.shell().args(["-e", TABLE]).output()?;
        if !done.status.success() {
            bail!("{TABLE}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(db)
    }

    fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/test", self.peer.port())
    }

    /// What takes statements from its input.
    fn shell(&self) -> Command {
        let mut shell = Command::new(peers::find("mariadb").unwrap_or_else(|| "mariadb".into()));
        shell.args([
            "--no-defaults",
            "-h",
            "127.0.0.1",
            "-u",
            "root",
            "-P",
            &self.peer.port().to_string(),
            "test",
        ]);
        end_with_us(&mut shell);
        shell
    }

    /// A server that captures the table.
    fn server(&self, stage: &Stage) -> Result<Server> {
        let settings = stage.fresh_path("tidings.toml");
        let url = self.url();
        std::fs::write(
            &settings,
            format!(
                "{NO_PINGS}[[sources]]\nname = \"load\"\nkind = \"mysql\"\nurl = \"{url}\"\n\
                 tables = [{{name = \"items\", rows = \"*\"}}]\n"
            ),
        )?;
        let server = stage.server_with(&["--config", settings.to_str().context("a path in UTF-8")?])?;
        // What was written before it knew where it stands would never come.
        let begun = Instant::now();
        while !server.text("/v1/sources")?.contains("\"streaming\"") {
            if begun.elapsed() > PATIENCE {
                bail!("it does not capture: {}", server.text("/v1/sources")?);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

/// The bare client: it writes what arrives to us.
struct Bare {
    child: Child,
    seen: Seen,
    rows: Arc<AtomicU64>,
}

impl Bare {
    fn start(stage: &Stage, db: &Database) -> Result<Self> {
        let mut command = Command::new(&stage.bare_binlog);
        end_with_us(&mut command).arg(db.url()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the bare client")?;
        let mut output = child.stdout.take().context("its output")?;
        let mut first = [0; 6];
        output.read_exact(&mut first).context("the bare client has ended")?;
        let (seen, rows) = watch(output);
        Ok(Self { child, seen, rows })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let (mark, zeros, fill) = (MARK, "0".repeat(DIGITS), "x".repeat(FILL));
        let statement =
            format!("insert into items (body) select '{mark}{zeros}{fill}' from seq_1_to_{};\n", self.rows);
        let script = Arc::new(statement.repeat(self.transactions as usize));
        let (count, before) = (self.clients * self.transactions * self.rows, seen()?);
        let begun = Instant::now();
        let mut writers = Vec::new();
        for _ in 0..self.clients {
            let mut shell = db.shell().stdin(Stdio::piped()).spawn()?;
            let (mut input, script) = (shell.stdin.take().context("its input")?, Arc::clone(&script));
            let feeding = std::thread::spawn(move || input.write_all(script.as_bytes()));
            writers.push((shell, feeding));
        }
        while seen()? < before + count {
            if begun.elapsed() > PATIENCE {
                bail!("{} of {count} rows came", seen()? - before);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let elapsed = begun.elapsed();
        for (mut shell, feeding) in writers {
            let is_fed = feeding.join().is_ok_and(|done| done.is_ok());
            if !shell.wait()?.success() || !is_fed {
                bail!("a writer failed");
            }
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}
