//! What a row costs by how many users follow its topic: subscriptions of the engine, without sockets.

use super::row::{Row, Target};
use super::stage::Stage;
use crate::step;
use anyhow::{Context, Result, bail};

/// As many as each row concerns.
const FEW: usize = 10;
const MORE: usize = 1000;
const MANY: usize = 100_000;
/// The cost follows the users that a row concerns; what the others add is caches missed.
const RATIO_MAX: f64 = 1.5;
const BYTES_MAX: f64 = 2048.0;

pub fn routed(stage: &Stage) -> Result<Vec<Row>> {
    let many = if stage.is_quick { MANY / 10 } else { MANY };
    let root = step::root()?;
    let mut example = step::cargo(&root);
    example.args(["run", "--release", "--locked", "-p", "tidings-engine", "--example", "rows", "--"]);
    example.args([FEW, MORE, many].map(|users| users.to_string()));
    let output = example.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{}: {}", step::show(&example), String::from_utf8_lossy(&output.stderr));
    }
    let value = |users: usize, name: &str| -> Result<f64> {
        let begins = format!("users {users} ");
        let line = text.lines().find(|line| line.starts_with(&begins)).context("a line for each number")?;
        let mut words = line.split(' ').skip_while(|word| *word != name).skip(1);
        Ok(words.next().context("a value")?.parse()?)
    };
    let few = value(FEW, "cpu_us_per_row")?;
    let cost = |users: usize| -> Result<Row> {
        let (cost, alone) = (value(users, "cpu_us_per_row")?, value(users, "without_readers")?);
        Ok(Row {
            figure: format!("rows-routed: {FEW} of {users} users, beside {FEW} of {FEW}"),
            unit: "CPU us/row",
            tidings: cost,
            yardstick: Some(few),
            ratio: Some(cost / few),
            target: Target::RatioAtMost(RATIO_MAX),
            faults: Vec::new(),
            note: format!("{alone:.0} with nobody there"),
        })
    };
    let memory = Row {
        figure: format!("rows-routed: memory with {many} users"),
        unit: "bytes/subscription",
        tidings: value(many, "bytes_per_subscription")?,
        yardstick: None,
        ratio: None,
        target: Target::AtMost(BYTES_MAX),
        faults: Vec::new(),
        note: String::new(),
    };
    Ok(vec![cost(MORE)?, cost(many)?, memory])
}
