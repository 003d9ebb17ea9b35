//! Invariants: ARCHITECTURE.md names for each a test that exists.
//!
//! A line, list item or table row that begins with `I4` speaks of that invariant. Its tests are the names in
//! backticks (of a table row: in its last cell). An invariant of a part that does not exist yet says `not yet`.

use super::Source;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const COUNT: u32 = 11;

pub fn check(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    match std::fs::read_to_string(root.join("ARCHITECTURE.md")) {
        Ok(text) => Ok(complaints(&text, &tests_in(sources))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(vec!["ARCHITECTURE.md is missing".into()])
        }
        Err(error) => Err(error.into()),
    }
}

fn complaints(text: &str, tests: &BTreeSet<&str>) -> Vec<String> {
    let mut named: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    let mut later = BTreeSet::new();
    for line in text.lines() {
        let Some(number) = invariant(line) else { continue };
        let cell = if line.trim_start().starts_with('|') {
            line.trim().trim_end_matches('|').rsplit('|').next().unwrap_or_default()
        } else {
            line
        };
        named.entry(number).or_default().extend(names(cell));
        if line.contains("not yet") {
            later.insert(number);
        }
    }
    let mut complaints = Vec::new();
    for number in 1..=COUNT {
        let own = named.get(&number).map(Vec::as_slice).unwrap_or_default();
        if own.is_empty() && !later.contains(&number) {
            complaints.push(format!("ARCHITECTURE.md names no test for I{number}"));
        }
        for name in own.iter().filter(|name| !tests.contains(**name)) {
            complaints
                .push(format!("ARCHITECTURE.md names `{name}` for I{number}, and there is no such test"));
        }
    }
    complaints
}

/// The number of the invariant that a line begins with.
fn invariant(line: &str) -> Option<u32> {
    let rest =
        line.trim_start_matches(|c: char| "|-*#`".contains(c) || c.is_whitespace()).strip_prefix('I')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let number = rest[..end].parse().ok()?;
    let follows = rest[end..].chars().next();
    (follows.is_none_or(|c| !c.is_alphanumeric() && c != '_')).then_some(number)
}

/// Names of functions in backticks; a path in front is left out.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter_map(|quoted| {
        let name = quoted.rsplit("::").next()?;
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        (is_name && name.contains('_')).then_some(name)
    })
}

/// Functions that stand under an attribute with `test` in it, or within `proptest!`.
fn tests_in(sources: &[Source]) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    for source in sources {
        let mut is_test = false;
        for line in source.text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.starts_with("#[test]") || line.contains("::test");
                continue;
            }
            let function = line.strip_prefix("pub ").unwrap_or(line);
            let function = function.strip_prefix("async ").unwrap_or(function);
            if let Some(rest) = function.strip_prefix("fn ").filter(|_| is_test) {
                tests.insert(rest.split(['(', '<']).next().unwrap_or(rest));
            }
            is_test &= line.starts_with("//") || line.is_empty();
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Vec<Source> {
        vec![Source { path: "crates/a/src/a.rs".into(), text: text.into() }]
    }

    #[test]
    fn tests_are_found_under_their_attribute_and_nothing_else_is() {
        let sources = source(
            "#[test]\nfn one_thing() {}\n\n#[tokio::test(flavor = \"multi_thread\")]\n/// Why.\nasync fn \
             other_thing() {}\nfn no_test() {}\n",
        );
        assert_eq!(tests_in(&sources).into_iter().collect::<Vec<_>>(), ["one_thing", "other_thing"]);
    }

    #[test]
    fn each_invariant_needs_a_test_that_exists() {
        let sources = source("#[test]\nfn offsets_are_gapless() {}\n");
        let tests = tests_in(&sources);
        let mut text: String = (3..=11).map(|n| format!("I{n} of a part to come, not yet.\n")).collect();
        text.push_str("| I1 | durable before `commit` returns | `log::offsets_are_gapless` |\n");
        assert_eq!(complaints(&text, &tests), ["ARCHITECTURE.md names no test for I2"]);
        text.push_str("- `I2`: gapless (`offsets_are_gappy`)\n");
        assert_eq!(
            complaints(&text, &tests),
            ["ARCHITECTURE.md names `offsets_are_gappy` for I2, and there is no such test"]
        );
    }

    #[test]
    fn words_that_begin_with_i_are_no_invariants() {
        assert_eq!(invariant("| **I10** | x |"), Some(10));
        for line in ["Ideas", "I think", "In I4 we", "I4b"] {
            assert_eq!(invariant(line), None, "{line}");
        }
    }
}
