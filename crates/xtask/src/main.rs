//! What contributors run: `cargo xtask test`, `ci` and `load`.
//!
//! Owns: the order of the steps and what they need from the machine. Never: part of the product; nothing
//! depends on it.

mod ci;
mod compat;
mod house;
mod load;
mod need;
mod python;
mod step;
mod suite;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--fast]    install what the tests need if it is missing, run all tests, then the bounded fuzz targets
                   (--fast: without the doc tests and the fuzz targets)
  ci               formatting, clippy with warnings denied, house checks, then test
  house            only the house checks: floors, file sizes, names, invariants and their tests";

fn usage() -> String {
    format!("{USAGE}\n{}", load::USAGE)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = run(&words) {
        eprintln!("xtask: {error:#}");
        std::process::exit(1);
    }
}

fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let root = step::root()?;
    match words.as_slice() {
        ["test"] => suite::run(&root, suite::Extent::Full),
        ["test", "--fast"] => suite::run(&root, suite::Extent::Fast),
        ["ci"] => ci::run(&root),
        ["house"] => house::run(&root),
        ["load", rest @ ..] => load::run(&root, &load::Options::parse(rest)?),
        [] | ["help" | "--help" | "-h"] => {
            println!("{}", usage());
            Ok(())
        }
        other => bail!("unknown command: {}\n\n{}", other.join(" "), usage()),
    }
}
