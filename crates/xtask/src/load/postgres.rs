//! Capture from PostgreSQL beside a bare replication client, PostgreSQL's own `pg_recvlogical`, one after the other.
//!
//! Owns: the database of a figure, the writers, and what each client has seen when.

use super::broker::{memory, row};
use super::row::{Row, Target};
use super::stage::{Server, Stage, end_with_us};
use anyhow::{Context, Result, bail};
use peers::Peer;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

pub const PATIENCE: Duration = Duration::from_secs(300);
const TABLE: &str = "create table items (id bigint generated always as identity primary key, body text)";
/// Begins what a row says of when it was sent; a digit for each place follows.
pub const MARK: &[u8] = b"sent-at-";
pub const DIGITS: usize = 20;
pub const FILL: usize = 150 - MARK.len() - DIGITS;

/// From the insert to the client, at 100 transactions a second.
pub fn latency(stage: &Stage) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 200 } else { 3000 };
    let db = Database::start(&[])?;
    let (bare_p50, bare_p99) = {
        let bare = Bare::start(&db)?;
        percentiles(db.shell(), &bare.seen, count)?
    };
    let server = db.server(stage, "")?;
    let client = Client::follow(&server)?;
    let (p50, p99) = percentiles(db.shell(), &client.seen, count)?;
    Ok(vec![
        above("postgres-latency p50", p50, bare_p50, 1.0),
        above("postgres-latency p99", p99, bare_p99, 3.0),
    ])
}

/// How much longer than the bare client ours takes, and how much more it may.
pub fn above(name: &str, ours: f64, bare: f64, more: f64) -> Row {
    let note = format!("bare client {bare:.2} ms");
    row(name, "ms above bare", ours - bare, Target::AtMost(more), &note)
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
                 tables = [{{name = \"items\", rows = \"*\"}}]\n"
            ),
        )?;
        stage.server_with(&["--config", settings.to_str().context("a path in UTF-8")?])
    }
}

/// What a client has seen: the nanoseconds between a row's mark and its arrival.
pub type Seen = Receiver<u64>;

/// Reads until `input` ends, and tells of each mark in it.
pub fn watch(mut input: impl Read + Send + 'static) -> (Seen, Arc<AtomicU64>) {
    let (tx, rx) = channel();
    let rows = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rows);
    std::thread::spawn(move || {
        let (mut kept, mut part) = (Vec::new(), vec![0; 256 << 10]);
        while let Ok(n @ 1..) = input.read(&mut part) {
            let now = now_ns();
            kept.extend_from_slice(&part[..n]);
            let mut from = 0;
            while let Some(at) = find(&kept[from..]) {
                let digits = from + at + MARK.len();
                let Some(text) = kept.get(digits..digits + DIGITS) else { break };
                let sent: u64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(now);
                // Whoever counts only need not take them.
                let _ = tx.send(now.saturating_sub(sent));
                counted.fetch_add(1, Ordering::Relaxed);
                from = digits + DIGITS;
            }
            let keep = kept.len().saturating_sub(MARK.len() + DIGITS).max(from);
            kept.drain(..keep);
        }
    });
    (rx, rows)
}

fn find(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == MARK[0]) {
        if bytes[from + at..].starts_with(MARK) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
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

/// A client of our own over SSE.
pub struct Client {
    pub seen: Seen,
}

impl Client {
    pub fn follow(server: &Server) -> Result<Self> {
        let mut stream = TcpStream::connect(server.process.address())?;
        write!(
            stream,
            "GET /v1/topics/items/events?from=latest HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {}\r\n\r\n",
            server.token
        )?;
        let mut first = [0; 12];
        stream.read_exact(&mut first)?;
        if !first.ends_with(b"200") {
            bail!("the stream was refused: {}", String::from_utf8_lossy(&first));
        }
        Ok(Self { seen: watch(stream).0 })
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
        let mark = String::from_utf8_lossy(MARK).into_owned();
        writeln!(
            input,
            "insert into items (body) values ('{mark}{:0DIGITS$}{}');",
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
        let (mark, zeros, fill) = (String::from_utf8_lossy(MARK), "0".repeat(DIGITS), "x".repeat(FILL));
        std::fs::write(
            &script,
            format!(
                "insert into items (body) select '{mark}{zeros}{fill}' from generate_series(1, {});\n",
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

fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
