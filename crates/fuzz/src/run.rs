//! One target's run: mutate, execute, keep inputs that behave in a new way, shrink what fails.

use crate::mutation::mutate;
use crate::random::Random;
use crate::target::Target;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Inputs kept for further mutation.
const POOL_MAX: usize = 4096;
/// Executions spent on making a failing input smaller.
const SHRINK_MAX: usize = 20_000;

thread_local! {
    /// Where and why the last panic happened.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// An input that broke a property.
pub struct Failure {
    why: String,
    input: Vec<u8>,
    target: &'static str,
    seed: Option<u64>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  why: {}", self.why)?;
        if let Some(seed) = self.seed {
            writeln!(f, "  seed: {seed}")?;
        }
        writeln!(f, "  input: b\"{}\"", self.input.escape_ascii())?;
        let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "  again: cargo run -p tidings-fuzz -- --input {hex} {}", self.target)
    }
}

pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Panics are answers here: they are caught and told with the input, not printed.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.with(|last| *last.borrow_mut() = info.to_string())));
}

/// Runs one input.
pub fn once(target: &Target, input: &[u8]) -> Result<u64, Failure> {
    execute(target, input).map(|_| 1).map_err(|why| Failure {
        why,
        input: input.to_vec(),
        target: target.name,
        seed: None,
    })
}

/// Runs the seeds, then mutations of them until `time` is over; the first failure ends it.
pub fn bounded(target: &Target, seed: u64, time: Duration) -> Result<u64, Failure> {
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut pool: Vec<Vec<u8>> = Vec::new();
    let mut seen = HashSet::new();
    let mut executions = 0;
    let mut seeds = (target.seeds)().into_iter();
    loop {
        let input = match seeds.next() {
            Some(seed) => seed,
            None if begun.elapsed() >= time => return Ok(executions),
            None => {
                let (base, other) = (random.below(pool.len()), random.below(pool.len()));
                mutate(&mut random, &pool[base], &pool[other], target.dictionary)
            }
        };
        executions += 1;
        match execute(target, &input) {
            Ok(outcome) => {
                if seen.insert(outcome) && pool.len() < POOL_MAX || pool.is_empty() {
                    pool.push(input);
                }
            }
            Err(why) => {
                let (input, why) = shrink(target, input, why);
                return Err(Failure { why, input, target: target.name, seed: Some(seed) });
            }
        }
    }
}

fn execute(target: &Target, input: &[u8]) -> Result<String, String> {
    match catch_unwind(AssertUnwindSafe(|| (target.check)(input))) {
        Ok(outcome) => outcome,
        Err(_) => Err(PANIC.with(|last| last.borrow().clone())),
    }
}

/// Removes parts as long as what is left fails too.
fn shrink(target: &Target, mut input: Vec<u8>, mut why: String) -> (Vec<u8>, String) {
    let mut left = SHRINK_MAX;
    let mut part = input.len() / 2;
    while part > 0 && left > 0 {
        let mut at = 0;
        while at < input.len() && left > 0 {
            let mut less = input.clone();
            less.drain(at..(at + part).min(input.len()));
            left -= 1;
            match execute(target, &less) {
                Err(still) => (input, why) = (less, still),
                Ok(_) => at += part,
            }
        }
        part /= 2;
    }
    (input, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses_stars(input: &[u8]) -> Result<String, String> {
        assert!(input.len() < 4000, "too long");
        if input.contains(&b'*') { Err("a star".into()) } else { Ok(String::new()) }
    }

    #[test]
    fn a_failure_is_found_made_small_and_found_again() {
        let target = Target {
            name: "stars",
            check: refuses_stars,
            seeds: || vec![b"nothing here".to_vec()],
            dictionary: &[b"x*y"],
        };
        let find = || bounded(&target, 5, Duration::from_secs(60)).unwrap_err();
        assert_eq!(find().input, b"*");
        assert_eq!(find().why, "a star");
        let again = find().to_string();
        assert!(again.contains("seed: 5") && again.contains("--input 2a stars"), "{again}");
        assert_eq!(from_hex("2a"), Some(b"*".to_vec()));
        assert!(once(&target, b"*").is_err());
    }
}
