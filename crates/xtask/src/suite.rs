//! The whole test suite: what it needs, its features, and its result as one line at the end.

use crate::{compat, need, python, step};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// How much of the suite runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Full,
    Fast,
}

/// Features that only tests use; clippy sees the same code with them.
pub const FEATURES: [&str; 2] = ["--features", "tidings-log/conformance,tidings-engine/conformance"];

/// How long each fuzz target runs.
const FUZZ_SECONDS: &str = "2";

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Counts a closing line of the test harness (`test result: ok. 3 passed; 0 failed; ..`) or of the
    /// fuzzer (`fuzz: 7 passed, 0 failed`).
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ").or_else(|| line.strip_prefix("fuzz: ")) else {
            return;
        };
        let words: Vec<&str> = rest.split_whitespace().map(|word| word.trim_matches([';', ','])).collect();
        for pair in words.windows(2) {
            let count = pair[0].parse::<u64>().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }
}

/// Installs, tests, fuzzes; stops at the first step that fails.
pub fn run(root: &Path, extent: Extent) -> Result<()> {
    need::install(root)?;
    compat::install(root)?;
    python::install(root)?;
    let mut tally = Tally::default();
    let outcome = steps(root, extent, &mut tally);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    outcome
}

fn steps(root: &Path, extent: Extent, tally: &mut Tally) -> Result<()> {
    let mut test = step::cargo(root);
    test.args(["test", "--workspace", "--locked"]).args(FEATURES);
    if extent == Extent::Fast {
        // The whole suite builds the examples, which tests run; a choice of targets leaves them out.
        let mut build = step::cargo(root);
        step::run(build.args(["build", "--workspace", "--locked", "--examples"]).args(FEATURES))?;
        test.args(["--lib", "--bins", "--tests", "--examples"]);
    }
    counted(&mut test, tally)?;
    if extent == Extent::Full {
        // Built by the step before, because the fuzzer's own tests run it; building it alone would pick
        // other features of shared dependencies and compile them a second time.
        let mut fuzz = Command::new(step::target_dir(root)?.join("debug/tidings-fuzz"));
        fuzz.args(["--seconds", FUZZ_SECONDS]).current_dir(root);
        counted(&mut fuzz, tally)?;
    }
    Ok(())
}

/// Runs a command whose standard output passes through and is counted.
fn counted(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let line = step::show(command);
    eprintln!("$ {line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {line}"))?;
    let mut output = BufReader::new(child.stdout.take().context("the pipe asked for")?);
    let mut out = std::io::stdout().lock();
    let mut text = Vec::new();
    while output.read_until(b'\n', &mut text)? > 0 {
        out.write_all(&text)?;
        out.flush()?;
        tally.add(&String::from_utf8_lossy(&text));
        text.clear();
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted_and_other_lines_are_not() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
            "fuzz: 7 passed, 1 failed\n",
            "test a_thing_with_9_passed ... ok\n",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 14, failed: 3 });
    }
}
