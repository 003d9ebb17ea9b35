//! Everything a change must pass, cheapest step first.

use crate::{house, step, suite};
use anyhow::Result;
use std::path::Path;

pub fn run(root: &Path) -> Result<()> {
    step::run(step::cargo(root).args(["fmt", "--all", "--check"]))?;
    house::run(root)?;
    let mut clippy = step::cargo(root);
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked"]).args(suite::FEATURES);
    step::run(clippy.args(["--", "-D", "warnings"]))?;
    suite::run(root, suite::Extent::Full)
}
