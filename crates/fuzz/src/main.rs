//! Bounded, seeded fuzzing of everything that parses what strangers send. Stable Rust, no instrumentation.
//!
//! Owns: mutated inputs, the properties they must keep, and the report. The same seed gives the same inputs
//! in the same order; only how many of them run depends on the machine. Never: opens a socket or a file.

mod mutation;
mod random;
mod run;
mod target;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: tidings-fuzz [--seconds S] [--seed N] [TARGET ..]     mutate inputs for S seconds per target (3)
       tidings-fuzz --input HEX TARGET                       run one input, as a failure printed it";

struct Options {
    seconds: f64,
    seed: u64,
    input: Option<Vec<u8>>,
    targets: Vec<&'static target::Target>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seconds: 3.0, seed: 1, input: None, targets: Vec::new() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seconds" => options.seconds = number(&word, &value()?)?,
                "--seed" => options.seed = number(&word, &value()?)?,
                "--input" => options.input = Some(run::from_hex(&value()?).ok_or("--input is not hex")?),
                name => {
                    let all = target::ALL.iter();
                    let known = || all.clone().map(|t| t.name).collect::<Vec<_>>().join(", ");
                    let found = all.clone().find(|t| t.name == name);
                    options.targets.push(found.ok_or_else(|| format!("no target {name}: {}", known()))?);
                }
            }
        }
        if !(0.0..=3600.0).contains(&options.seconds) {
            return Err("--seconds is 0 to 3600".into());
        }
        if options.targets.is_empty() {
            options.targets = target::ALL.iter().collect();
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option}: not a number: {text}"))
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("tidings-fuzz: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    run::silence_panics();
    let mut failed = 0;
    for target in &options.targets {
        let outcome = match &options.input {
            Some(input) => run::once(target, input),
            None => run::bounded(target, options.seed, Duration::from_secs_f64(options.seconds)),
        };
        match outcome {
            Ok(executions) => println!("fuzz {}: ok, {executions} executions", target.name),
            Err(failure) => {
                failed += 1;
                println!("fuzz {}: FAILED\n{failure}", target.name);
            }
        }
    }
    println!("fuzz: {} passed, {failed} failed", options.targets.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
