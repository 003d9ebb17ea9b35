//! What is fuzzed: a name, seeds, a dictionary, and a check that says what must hold for any input.
//!
//! A check returns a short text of how the input behaved (accepted in which way, refused with which code);
//! inputs with a text not seen before are kept and mutated further.

mod access;
mod address;
mod channel;
mod event;
mod expression;

use std::fmt::Debug;
use tidings_model::Code;

pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]) -> Result<String, String>,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub dictionary: &'static [&'static [u8]],
}

pub const ALL: &[Target] = &[
    event::RECORD,
    event::EVENT,
    event::FRAME,
    channel::CHANNEL,
    channel::PUBLISHED,
    address::TOPIC,
    address::CURSOR,
    address::FILTER,
    expression::EXPRESSION,
    access::CLAIMS,
];

/// Fails with both sides where they differ.
fn same<T: PartialEq + Debug>(what: &str, left: T, right: T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left:?} is not {right:?}")) }
}

/// A refusal carries a documented code and a message without line breaks or a full stop.
fn refused(code: Code, message: &dyn std::fmt::Display) -> Result<String, String> {
    let message = message.to_string();
    if message.is_empty() || message.len() > 1024 {
        return Err(format!("a message of {} bytes: {message}", message.len()));
    }
    if !Code::ALL.contains(&code) {
        return Err(format!("{code} is not documented"));
    }
    Ok(format!("{code} {}", message.len() / 16))
}

fn owned(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_that_pass() {
        for target in ALL {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                (target.check)(&seed).unwrap_or_else(|why| panic!("{}: {why}", target.name));
            }
        }
    }
}
