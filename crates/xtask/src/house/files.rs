//! Files: one noun each, so none grows past a bound and none is a drawer.

use super::Source;
use std::path::Path;

const LINES_MAX: usize = 500;
const DRAWERS: &[&str] = &["util", "utils", "helper", "helpers", "common", "types", "misc"];

pub fn check(root: &Path, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if is_source(&source.path) && lines > LINES_MAX {
            complaints.push(format!("{path} has {lines} lines, more than {LINES_MAX}: is it one noun?"));
        }
        if let Some(drawer) = drawer(&source.path) {
            complaints.push(format!("{path}: `{drawer}` is a drawer, not a noun"));
        }
        if is_source(&source.path) && !source.text.starts_with("//!") {
            complaints.push(format!("{path} does not open with what it is"));
        }
    }
    for file in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "BENCHMARKS.md"] {
        if !root.join(file).exists() {
            complaints.push(format!("{file} is missing"));
        }
    }
    complaints
}

/// Whether the file is at `crates/NAME/src/..`.
fn is_source(path: &Path) -> bool {
    path.components().nth(2).is_some_and(|part| part.as_os_str() == "src")
}

/// The part of the path that names a drawer; a folder is a module as well as a file.
fn drawer(path: &Path) -> Option<&'static str> {
    path.with_extension("").components().find_map(|part| {
        let part = part.as_os_str().to_str()?;
        DRAWERS.iter().copied().find(|drawer| *drawer == part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> usize {
        let source = Source { path: path.into(), text: text.into() };
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        check(here, &[source]).iter().filter(|c| !c.ends_with("is missing")).count()
    }

    #[test]
    fn long_files_drawers_and_files_without_a_head_are_named() {
        let long = "//! A noun.\n".repeat(501);
        assert_eq!(complaints("crates/a/src/noun.rs", "//! A noun.\n"), 0);
        assert_eq!(complaints("crates/a/src/noun.rs", &long), 1);
        assert_eq!(complaints("crates/a/tests/it/noun.rs", &long), 0);
        assert_eq!(complaints("crates/a/src/noun.rs", "fn main() {}\n"), 1);
        assert_eq!(complaints("crates/a/src/util.rs", "//! Odds and ends.\n"), 1);
        assert_eq!(complaints("crates/a/src/helpers/noun.rs", "//! A noun.\n"), 1);
        assert_eq!(complaints("crates/a/tests/common/mod.rs", "//! A noun.\n"), 1);
    }
}
