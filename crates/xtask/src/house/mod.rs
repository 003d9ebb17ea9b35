//! House checks: what the compiler and clippy cannot know about this workspace.
//!
//! Owns: the list of checks and their report. Never: changes a file.

mod files;
mod floors;
mod invariants;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Runs every check and prints every complaint, not just the first.
pub fn run(root: &Path) -> Result<()> {
    let sources = sources(root)?;
    let mut complaints = floors::check(root)?;
    complaints.extend(files::check(root, &sources));
    complaints.extend(invariants::check(root, &sources)?);
    for complaint in &complaints {
        eprintln!("house: {complaint}");
    }
    match complaints.len() {
        0 => Ok(()),
        n => bail!("{n} house check(s) failed"),
    }
}

/// A Rust file of the workspace: its path from the root, and its text.
struct Source {
    path: PathBuf,
    text: String,
}

/// All Rust files under `crates`, sorted by path.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut open = vec![root.join("crates")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path)?;
                found.push(Source { path: path.strip_prefix(root)?.to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
