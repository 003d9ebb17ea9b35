//! The real clients that the tests use: each folder of `js/compat` with a lock file, as `npm ci` installs it.
//!
//! Their install scripts do not run. What is installed already stays.

use crate::step;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

/// Installs what is missing or older than its lock file.
pub fn install(root: &Path) -> Result<()> {
    let Ok(folders) = std::fs::read_dir(root.join("js/compat")) else { return Ok(()) };
    for folder in folders {
        let folder = folder?.path();
        let lock = folder.join("package-lock.json");
        // npm writes this one last.
        let installed = changed(&folder.join("node_modules/.package-lock.json"));
        if !lock.exists() || installed.is_some_and(|at| changed(&lock).is_some_and(|lock| lock <= at)) {
            continue;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder);
        step::run(npm.stdin(Stdio::null())).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}
