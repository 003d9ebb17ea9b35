//! `tidings check`: verifies a data directory that no server uses.

use super::{Context, Place};
use anyhow::{Result, anyhow};
use std::path::PathBuf;
use tidings::Code;
use tidings_log::{Error, embedded};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub place: Place,
    /// The data directory [default: that of --data]
    dir: Option<PathBuf>,
    /// Set damaged parts aside, so that the server starts and readers get a gap; rebuild the index
    #[arg(long)]
    repair: bool,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let dir = args.dir.as_deref().unwrap_or(&context.config().data);
    // Opening it would make one of any directory.
    let is_ours = ["FORMAT", "segments"].iter().any(|part| dir.join(part).exists());
    anyhow::ensure!(
        is_ours,
        "{} is no data directory: there is neither FORMAT nor segments in it",
        dir.display()
    );
    let report = embedded::check(dir, args.repair).map_err(|error| match error {
        Error::Locked { .. } => anyhow!("{error}; stop that server first"),
        error => anyhow!("{error} ({})", error.code()),
    })?;
    println!("{report}");
    if report.is_sound() || report.is_repaired {
        return Ok(());
    }
    let what = match report.damage.is_empty() && report.side.is_none() {
        true => "lacks events, which nothing here can bring back; a backup may",
        false => "is damaged; --repair sets the damage aside",
    };
    Err(anyhow!("{} {what} ({})", dir.display(), Code::LogCorrupt))
}
