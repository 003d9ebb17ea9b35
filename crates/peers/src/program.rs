//! Where the peers' programs are.

use std::path::{Path, PathBuf};

/// The name of the nsqd that is built for the tests, beside the other build results in `peers/`.
pub const NSQD: &str = "nsqd-1.3.0";

/// The same of grpcurl, a client of gRPC that knows no service but learns them by reflection.
pub const GRPCURL: &str = "grpcurl-1.8.7";
/// The same of h2spec, which checks an implementation of HTTP/2.
pub const H2SPEC: &str = "h2spec-2.2.1";
/// A Python of its own with the clients that the tests use, there too.
pub const PYTHON: &str = "python/bin/python";

/// Finds a program in the search path, where Debian keeps servers, or among the build results.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push("/usr/sbin".into());
    places.extend(versions(Path::new("/usr/lib/postgresql")).map(|version| version.join("bin")));
    let own = std::env::current_exe().unwrap_or_default();
    places.extend(own.ancestors().skip(1).map(|dir| dir.join("peers")));
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file())
}

/// The same for a program that the tests cannot do without.
pub fn needed(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| panic!("{name} is missing; `cargo xtask test` installs what the tests need"))
}

/// Folders below `dir`, the greatest name first.
fn versions(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter().rev()
}
