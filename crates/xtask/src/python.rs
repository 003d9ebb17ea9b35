//! The official verifier of Standard Webhooks for Python, in an environment of its own among the build results.
//!
//! What is installed already stays until another version is wanted.

use crate::step;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where it lies within `peers/`.
const DIR: &str = "python-standardwebhooks";
const REQUIREMENTS: &str = "crates/tidings/tests/it/delivery/requirements.txt";

/// Installs what the requirements name, unless that is there.
pub fn install(root: &Path) -> Result<()> {
    let wanted = std::fs::read_to_string(root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let dir = step::target_dir(root)?.join("peers").join(DIR);
    // Written last.
    let finished = dir.join("finished");
    if std::fs::read_to_string(&finished).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut venv = Command::new("python3");
    step::run(venv.args(["-m", "venv", "--clear"]).arg(&dir).stdin(Stdio::null()))
        .context("Python's venv is needed (Debian: python3-venv)")?;
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--requirement",
        REQUIREMENTS,
    ]);
    step::run(pip.current_dir(root).stdin(Stdio::null()))?;
    Ok(std::fs::write(finished, wanted)?)
}
