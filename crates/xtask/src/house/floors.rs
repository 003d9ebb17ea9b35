//! Floors: a crate names only crates of lower floors, and third parties stay behind the crates that own them.

use anyhow::{Context, Result};
use std::path::Path;

/// Crates of the house from the ground up.
const FLOORS: &[(&str, u8)] = &[
    ("tidings-model", 0),
    ("tidings-log", 1),
    ("tidings-engine", 2),
    // Words of a wire, made by a machine: it names no other crate, and only doors name it.
    ("tidings-proto", 2),
    ("tidings-server", 3),
    ("tidings-drivers", 3),
    ("tidings", 4),
    // Tools: they may look at the ground floors, and nothing depends on them.
    ("tidings-fuzz", 2),
    ("loadgen", 0),
    ("xtask", 1),
    // For tests only, and for the tool that runs them.
    (PEERS, 0),
];

const TOOLS: &[&str] = &["tidings-fuzz", "loadgen", "xtask"];
const PEERS: &str = "peers";

/// Third parties, the crates that may name them, and those whose tests may.
const OWNED: &[(&[&str], &[&str], &[&str])] = &[
    (
        &["axum", "hyper", "hyper-util", "tower-http", "tokio-rustls", "tungstenite", "tokio-tungstenite"],
        &["tidings-server"],
        &["tidings"],
    ),
    (&["tonic", "tonic-prost", "prost", "prost-types"], &["tidings-proto", "tidings-server", "loadgen"], &[]),
    (&["tonic-health", "tonic-reflection"], &["tidings-server"], &[]),
    (&["protox", "prost-build", "tonic-prost-build"], &["tidings-proto"], &[]),
    (&["fjall"], &["tidings-log"], &[]),
    (&["rusqlite"], &["tidings-log", "tidings-drivers"], &[]),
    (&["jsonwebtoken", "argon2", "bcrypt", "jsonschema"], &["tidings-engine"], &["tidings"]),
    (
        &[
            "rsntp",
            "async-nats",
            "redis",
            "tokio-postgres",
            "tokio-postgres-rustls",
            "postgres-protocol",
            "deadpool-postgres",
            "mysql_async",
        ],
        &["tidings-drivers"],
        &["tidings"],
    ),
    (&["json5", "rcgen"], &["tidings"], &[]),
    (&["anyhow"], &["tidings", "xtask"], &[]),
];

/// A crate's name, what it depends on, and what only its tests depend on.
struct Member {
    name: String,
    dependencies: Vec<String>,
    for_tests: Vec<String>,
}

pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("Cargo.toml");
        if path.exists() {
            let text = std::fs::read_to_string(&path)?;
            let member = Member::parse(&text).with_context(|| path.display().to_string())?;
            complaints.extend(member.complaints());
        }
    }
    complaints.sort();
    Ok(complaints)
}

impl Member {
    fn parse(text: &str) -> Result<Self> {
        let manifest: toml::Table = text.parse()?;
        let name = manifest["package"]["name"].as_str().context("a package has a name")?.to_owned();
        let mut tables = vec![&manifest];
        if let Some(targets) = manifest.get("target").and_then(|t| t.as_table()) {
            tables.extend(targets.values().filter_map(|t| t.as_table()));
        }
        let names = |sections: &[&str]| {
            let sections = tables.iter().flat_map(|t| sections.iter().filter_map(|s| t.get(*s)));
            sections
                .filter_map(|s| s.as_table())
                .flat_map(|s| s.iter())
                .map(|(key, value)| value.get("package").and_then(|p| p.as_str()).unwrap_or(key).to_owned())
                .collect()
        };
        let dependencies = names(&["dependencies", "build-dependencies"]);
        let for_tests = names(&["dev-dependencies"]);
        Ok(Self { name, dependencies, for_tests })
    }

    fn complaints(&self) -> Vec<String> {
        let Some(own) = floor(&self.name) else {
            return vec![format!("{} has no floor: give it one in the house checks", self.name)];
        };
        let name = &self.name;
        let mut complaints = Vec::new();
        for other in self.dependencies.iter().chain(&self.for_tests).filter(|d| *d != name) {
            if TOOLS.contains(&other.as_str()) {
                complaints.push(format!("{name} depends on {other}, a tool"));
            } else if floor(other).is_some_and(|f| f >= own) {
                complaints.push(format!("{name} depends on {other}, which is not on a lower floor"));
            }
        }
        if self.dependencies.iter().any(|d| d == PEERS) && !TOOLS.contains(&name.as_str()) {
            complaints.push(format!("{name} depends on {PEERS} outside its tests"));
        }
        for (parties, owners, testers) in OWNED {
            for party in *parties {
                let is_named = |list: &[String]| list.iter().any(|d| d == party);
                let may_test = owners.contains(&name.as_str()) || testers.contains(&name.as_str());
                if (is_named(&self.dependencies) && !owners.contains(&name.as_str()))
                    || (is_named(&self.for_tests) && !may_test)
                {
                    complaints
                        .push(format!("{name} depends on {party}, which belongs to {}", owners.join(", ")));
                }
            }
        }
        complaints
    }
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(own, _)| *own == name).map(|(_, floor)| *floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, rest: &str) -> Vec<String> {
        Member::parse(&format!("[package]\nname = \"{name}\"\n{rest}")).unwrap().complaints()
    }

    #[test]
    fn a_lower_floor_may_be_named_and_a_higher_or_equal_one_may_not() {
        assert!(complaints("tidings-log", "[dependencies]\ntidings-model.workspace = true").is_empty());
        for section in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            assert_eq!(complaints("tidings-log", &format!("[{section}]\ntidings-engine = \"1\"")).len(), 1);
        }
        assert_eq!(complaints("tidings-engine", "[dependencies]\nloadgen = \"1\"").len(), 1);
        assert_eq!(complaints("tidings-odd", "").len(), 1);
    }

    #[test]
    fn the_peers_of_tests_are_named_by_tests_only() {
        assert!(complaints("tidings-drivers", "[dev-dependencies]\npeers.workspace = true").is_empty());
        assert!(complaints("xtask", "[dependencies]\npeers.workspace = true").is_empty());
        assert_eq!(complaints("tidings-drivers", "[dependencies]\npeers.workspace = true").len(), 1);
    }

    #[test]
    fn third_parties_stay_behind_their_owner() {
        assert!(complaints("tidings-server", "[dependencies]\naxum = \"1\"").is_empty());
        assert!(complaints("tidings", "[dev-dependencies]\ntokio-tungstenite = \"1\"").is_empty());
        assert_eq!(complaints("tidings", "[dependencies]\naxum = \"1\"").len(), 1);
        assert_eq!(complaints("tidings-engine", "[dependencies]\nstore = { package = \"fjall\" }").len(), 1);
        assert_eq!(complaints("loadgen", "[dev-dependencies]\nhyper = \"1\"").len(), 1);
    }
}
