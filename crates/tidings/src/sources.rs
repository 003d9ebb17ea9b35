//! Puts the sources together at the start, from the settings.

use crate::Embedded;
use crate::config::Config;
use crate::entities::{EntitiesError, refuse};
use std::time::Duration;
use tidings_drivers::source;

/// How long the start waits for the first word from each database.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Starts all sources, and waits a little until each streams or says why it does not.
pub async fn start(config: &Config, embedded: &Embedded) -> Result<(), EntitiesError> {
    let mut names = std::collections::HashSet::new();
    for one in &config.sources {
        let place = format!("sources, {:?}", one.name);
        if !names.insert(one.name.as_str()) {
            return Err(refuse(place, "there are two of this name"));
        }
        let settings = one.settings().map_err(|why| refuse(&place, why))?;
        source::start(settings, embedded.tidings(), embedded.services()).map_err(|why| refuse(place, why))?;
    }
    if !config.sources.is_empty() {
        embedded.tidings().sources().settled(SETTLE_WITHIN).await;
    }
    Ok(())
}
