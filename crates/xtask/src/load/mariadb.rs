//! Capture from MariaDB's binary log beside a bare client of it.
//!
//! Owns: the database of a figure and its writers.

use super::capture::{self, Bare, Load, NO_PINGS, PATIENCE, Writing};
use super::row::Row;
use super::stage::{Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use peers::Peer;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commits are synced as they are by default.
const SETTINGS: [&str; 6] = [
    "innodb-flush-log-at-trx-commit=1",
    "log-bin=bin",
    "server-id=1",
    "binlog-format=ROW",
    "binlog-row-metadata=FULL",
    "innodb-buffer-pool-size=128M",
];
const TABLE: &str = "create table items (id bigint auto_increment primary key, body text)";

pub fn latency(stage: &Stage) -> Result<Vec<Row>> {
    capture::latency(stage, "mariadb-latency", |db: &Database| db.server_with(stage, ""))
}

/// Told as the bare client is: by the log, whether others see it or not.
pub fn latency_unseen(stage: &Stage) -> Result<Vec<Row>> {
    let server = |db: &Database| db.server_with(stage, "wait_until_seen = false\n");
    capture::latency(stage, "mariadb-unseen", server)
}

pub fn rate(stage: &Stage) -> Result<Vec<Row>> {
    capture::rate::<Database>(stage, "mariadb-rate")
}

/// A server with one empty table.
struct Database {
    peer: Peer,
}

impl Database {
    fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/test", self.peer.port())
    }

    fn server_with(&self, stage: &Stage, more: &str) -> Result<Server> {
        let settings = stage.fresh_path("tidings.toml");
        let url = self.url();
        std::fs::write(
            &settings,
            format!(
                "{NO_PINGS}[[sources]]\nname = \"load\"\nkind = \"mysql\"\nurl = \"{url}\"\n{more}\
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

impl capture::Database for Database {
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

    fn server(&self, stage: &Stage) -> Result<Server> {
        self.server_with(stage, "")
    }

    fn bare(&self, stage: &Stage) -> Result<Bare> {
        let mut command = Command::new(&stage.bare_binlog);
        // It says that it follows in six bytes.
        Bare::start(end_with_us(&mut command).arg(self.url()), 6)
    }

    fn write(&self, load: &Load) -> Result<Writing> {
        let insert = "insert into items (body) select";
        let statement = format!("{insert} '{}' from seq_1_to_{};\n", capture::body(), load.rows);
        let script = Arc::new(statement.repeat(load.transactions as usize));
        let mut writers = Vec::new();
        for _ in 0..load.clients {
            let mut shell = self.shell().stdin(Stdio::piped()).spawn()?;
            let (mut input, script) = (shell.stdin.take().context("its input")?, Arc::clone(&script));
            let feeding = std::thread::spawn(move || input.write_all(script.as_bytes()));
            writers.push((shell, feeding));
        }
        Ok(Box::new(move || {
            for (mut shell, feeding) in writers {
                let is_fed = feeding.join().is_ok_and(|done| done.is_ok());
                if !shell.wait()?.success() || !is_fed {
                    bail!("a writer failed");
                }
            }
            Ok(())
        }))
    }
}
