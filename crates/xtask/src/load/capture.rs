//! Figures of capture, the same for each kind of database: beside a bare replication client, in turns.
//!
//! Owns: what is measured, and how it is watched. What differs is the [`Database`]'s.

use super::broker::row;
use super::marks::{DIGITS, Door, MARK, Seen, now_ns, watch};
use super::row::{Row, Target};
use super::stage::{Server, Stage};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(300);
/// A client that looks for marks answers no pings: none are due while it does.
pub const NO_PINGS: &str = "[socketio]\nping_ms = 3600000\n";
/// How often the two take turns in a rate.
const ROUNDS: usize = 4;
/// How often the server is asked how far it is. The bare client says so itself.
const ASK_EVERY: Duration = Duration::from_millis(25);
const FILL: usize = 150 - MARK.len() - DIGITS;

/// A database with one empty table, `items`, of an id and a `body`.
pub trait Database: Sized {
    fn start() -> Result<Self>;

    /// What takes statements from its input.
    fn shell(&self) -> Command;

    fn bare(&self, stage: &Stage) -> Result<Bare>;

    /// A server that captures the table.
    fn server(&self, stage: &Stage) -> Result<Server>;

    /// Removes what a client that has ended left in the database.
    fn forget(&self) -> Result<()> {
        Ok(())
    }

    /// Begins to write.
    fn write(&self, load: &Load) -> Result<Writing>;
}

/// Waits until everything is written.
pub type Writing = Box<dyn FnOnce() -> Result<()>>;

/// The body of a row that nobody waits for.
pub fn body() -> String {
    format!("{MARK}{}{}", "0".repeat(DIGITS), "x".repeat(FILL))
}

/// The bare client: it writes what arrives to us.
pub struct Bare {
    child: Child,
    seen: Seen,
    rows: Arc<AtomicU64>,
}

impl Bare {
    /// Starts `command`, whose output begins with so many bytes once it follows.
    pub fn start(command: &mut Command, greeting: usize) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the bare client")?;
        let mut output = child.stdout.take().context("its output")?;
        output.read_exact(&mut vec![0; greeting]).context("the bare client has ended")?;
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

/// From the insert to a client of each kind, at 100 transactions a second: how much longer than the bare client it
/// waits, and how much more it may. Each is alone while it is measured; they take turns, so that what the machine does
/// besides meets all. `server` captures the table.
pub fn latency<D: Database>(
    stage: &Stage,
    figure: &str,
    server: impl Fn(&D) -> Result<Server>,
) -> Result<Vec<Row>> {
    let count = if stage.is_quick { 100 } else { 1000 };
    let db = D::start()?;
    let alone = || {
        let bare = db.bare(stage)?;
        let found = percentiles(db.shell(), &bare.seen, count)?;
        drop(bare);
        db.forget()?;
        anyhow::Ok(found)
    };
    let (mut bare, mut doors) = (vec![alone()?], Door::ALL.map(|door| (door, Vec::new())));
    for _ in 0..Door::ALL.len() {
        let server = server(&db)?;
        for (door, found) in &mut doors {
            found.push(percentiles(db.shell(), &door.follow(&server, "items")?.seen, count)?);
        }
        drop(server);
        db.forget()?;
        bare.push(alone()?);
        // Each is once the first.
        doors.rotate_left(1);
    }
    let mut rows = Vec::new();
    for (door, found) in doors {
        for (at, which, more) in [(0, "p50", 1.0), (1, "p99", 3.0)] {
            let of = |all: &[[f64; 2]]| all.iter().map(|found| found[at]).collect();
            let turns = Turns { bare: of(&bare), ours: of(&found) };
            let found = turns.compared(|ours, bare| ours - bare);
            let name = format!("{figure} {} {which}", door.name());
            let note = format!("bare client {:.2} ms; {}", median(&turns.bare), span(&found));
            rows.push(row(&name, "ms above bare", median(&found), Target::AtMost(more), &note));
        }
    }
    Ok(rows)
}

/// Milliseconds from before the insert to the client, median and 99th of a hundred.
fn percentiles(mut shell: Command, seen: &Seen, count: usize) -> Result<[f64; 2]> {
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
    Ok([all[all.len() / 2], all[all.len() * 99 / 100]])
}

/// Rows a second that arrive while as many are written as go: in transactions of one, and of 200. The bare client and we
/// take turns, so that what the machine does besides meets both.
pub fn rate<D: Database>(stage: &Stage, figure: &str) -> Result<Vec<Row>> {
    let scale = if stage.is_quick { 10 } else { 1 };
    let one = Load { clients: 8, transactions: 6000 / scale, rows: 1 };
    let many = Load { clients: 1, transactions: 750 / scale, rows: 200 };
    let mut rows = Vec::new();
    for (load, target) in [(one, 0.9), (many, 0.5)] {
        let db = D::start()?;
        let mut turns = Turns { bare: vec![load.bare(&db, stage)?], ours: Vec::new() };
        for _ in 0..ROUNDS {
            turns.ours.push(load.ours(&db, stage)?);
            turns.bare.push(load.bare(&db, stage)?);
        }
        let ratios = turns.compared(|ours, bare| ours / bare);
        let name = format!("{figure}-{}", load.rows);
        let figure = row(&name, "rows/s", median(&turns.ours), Target::RatioAtLeast(target), &span(&ratios));
        rows.push(Row { yardstick: Some(median(&turns.bare)), ratio: Some(median(&ratios)), ..figure });
    }
    Ok(rows)
}

/// What each turn found; the bare client has the first and the last.
struct Turns {
    bare: Vec<f64>,
    ours: Vec<f64>,
}

impl Turns {
    /// Each turn of ours against the mean of the bare client's before and after it.
    fn compared(&self, compare: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let beside = self.bare.windows(2).map(|bare| (bare[0] + bare[1]) / 2.0);
        self.ours.iter().zip(beside).map(|(ours, bare)| compare(*ours, bare)).collect()
    }
}

fn span(found: &[f64]) -> String {
    let least = found.iter().copied().fold(f64::INFINITY, f64::min);
    let most = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{least:.2} to {most:.2} in {} turns", found.len())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[half - 1] + sorted[half]) / 2.0 } else { sorted[half] }
}

/// So many writers, each with so many transactions of so many rows.
pub struct Load {
    pub clients: u64,
    pub transactions: u64,
    pub rows: u64,
}

impl Load {
    fn bare(&self, db: &impl Database, stage: &Stage) -> Result<f64> {
        let bare = db.bare(stage)?;
        let rate = self.run(db, || Ok(bare.rows.load(Ordering::Relaxed)))?;
        drop(bare);
        db.forget()?;
        Ok(rate)
    }

    fn ours(&self, db: &impl Database, stage: &Stage) -> Result<f64> {
        let server = db.server(stage)?;
        let rate = self.run(db, || Ok(server.tail("items").unwrap_or(0)))?;
        drop(server);
        db.forget()?;
        Ok(rate)
    }

    /// Writes, and answers rows a second until the last has been seen.
    fn run(&self, db: &impl Database, seen: impl Fn() -> Result<u64>) -> Result<f64> {
        let (count, before) = (self.clients * self.transactions * self.rows, seen()?);
        let begun = Instant::now();
        let written = db.write(self)?;
        while seen()? < before + count {
            if begun.elapsed() > PATIENCE {
                bail!("{} of {count} rows came", seen()? - before);
            }
            std::thread::sleep(ASK_EVERY);
        }
        let elapsed = begun.elapsed();
        written()?;
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_compared_with_those_beside_it() {
        // A machine that gets slower and slower: the two are the same.
        let turns = Turns { bare: vec![100.0, 80.0, 60.0], ours: vec![90.0, 70.0] };
        assert_eq!(turns.compared(|ours, bare| ours / bare), [1.0, 1.0]);
        assert_eq!(turns.compared(|ours, bare| ours - bare), [0.0, 0.0]);
        let turns = Turns { bare: vec![100.0, 100.0, 300.0], ours: vec![50.0, 200.0] };
        let ratios = turns.compared(|ours, bare| ours / bare);
        assert_eq!(ratios, [0.5, 1.0]);
        assert_eq!((median(&ratios), span(&ratios).as_str()), (0.75, "0.50 to 1.00 in 2 turns"));
        assert_eq!((median(&turns.bare), median(&[3.0, 1.0, 2.0])), (100.0, 2.0));
    }
}
