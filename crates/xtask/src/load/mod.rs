//! The standard set of measurements: Tidings beside the yardstick, in the same run, on this machine.
//!
//! Owns: building both, the order of the figures, the report. Never: leaves loopback, or ends a process that
//! it did not start.

mod broker;
mod capture;
mod entities;
mod figures;
mod length;
mod mariadb;
mod marks;
mod meter;
mod postgres;
mod row;
mod rows;
mod rpc;
mod socketio;
mod stage;
mod webhooks;

use crate::step;
use anyhow::{Context, Result, bail};
use row::Row;
use stage::Stage;
use std::path::{Path, PathBuf};

pub const USAGE: &str = "\
  load [--quick] [--only NAME] [--json FILE] [--binary PATH] [--list]
                   the standard measurements beside the yardstick; --only takes the beginning of a name";

#[derive(Default)]
pub struct Options {
    /// Shorter and smaller: shows that everything runs, not what it costs.
    pub is_quick: bool,
    only: Option<String>,
    json: Option<PathBuf>,
    /// Another build of the server than the workspace's.
    binary: Option<PathBuf>,
    lists: bool,
}

impl Options {
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match *word {
                "--quick" => options.is_quick = true,
                "--list" => options.lists = true,
                "--only" => options.only = Some(value()?.to_string()),
                "--json" => options.json = Some(value()?.into()),
                "--binary" => options.binary = Some(value()?.into()),
                other => bail!("load: unknown option {other}"),
            }
        }
        Ok(options)
    }
}

/// Runs the set. Missed targets are shown, not failures; a figure that cannot be taken is one.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
    let figures: Vec<_> = figures::ALL.iter().filter(|figure| wanted(figure.name)).collect();
    let runs_bench = wanted("bench");
    if options.lists {
        figures::ALL.iter().for_each(|figure| println!("{:20} {}", figure.name, figure.what));
        println!("{:20} the log alone, beside a plain file", "bench");
        return Ok(());
    }
    if figures.is_empty() && !runs_bench {
        bail!("no figure is called {}; see --list", options.only.as_deref().unwrap_or_default());
    }
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    if !figures.is_empty() {
        let stage = Stage::build(root, options)?;
        for figure in figures {
            println!("\n== {}: {}", figure.name, figure.what);
            match (figure.take)(&stage) {
                Ok(more) => {
                    more.iter().for_each(|row| println!("-> {row}"));
                    rows.extend(more);
                }
                Err(error) => {
                    eprintln!("{}: {error:#}", figure.name);
                    failed.push(figure.name);
                }
            }
        }
        println!("\n{}\n\n{}", conditions(root, options), row::table(&rows));
        if let Some(path) = &options.json {
            let report = report(root, options, &rows);
            std::fs::write(path, report).with_context(|| path.display().to_string())?;
        }
    }
    if runs_bench {
        bench(root)?;
    }
    let missed = rows.iter().filter(|row| !row.is_met()).count();
    println!("{} targets met, {missed} missed, {} figures failed", rows.len() - missed, failed.len());
    match failed.as_slice() {
        [] => Ok(()),
        names => bail!("not measured: {}", names.join(", ")),
    }
}

/// The log without a server; it prints its own comparison with a plain file.
fn bench(root: &Path) -> Result<()> {
    if !root.join("crates/tidings-log/examples/bench.rs").exists() {
        eprintln!("tidings-log has no example called bench; left out");
        return Ok(());
    }
    println!("\n== bench: the log alone, beside a plain file");
    step::run(step::cargo(root).args([
        "run",
        "--release",
        "--locked",
        "-p",
        "tidings-log",
        "--example",
        "bench",
    ]))
}

/// What a figure depends on besides the code.
fn conditions(root: &Path, options: &Options) -> String {
    let first = |text: &str, field: &str| {
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = first(&read("/proc/meminfo"), "MemTotal");
    let extent = if options.is_quick { ", quick" } else { "" };
    let mut commit = std::process::Command::new("git");
    commit.current_dir(root).args(["describe", "--always", "--dirty"]);
    format!(
        "{}, commit {}, {cores} cores of {}, {memory}, Linux {}, release build, loopback{extent}",
        said(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"])),
        said(&mut commit),
        first(&read("/proc/cpuinfo"), "model name"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// What a command prints, or that it is not known.
fn said(command: &mut std::process::Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map_or("unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn report(root: &Path, options: &Options, rows: &[Row]) -> String {
    let rows: Vec<_> = rows.iter().map(Row::to_json).collect();
    let report = serde_json::json!({
        "conditions": conditions(root, options),
        "quick": options.is_quick,
        "figures": rows,
    });
    format!("{report:#}\n")
}
