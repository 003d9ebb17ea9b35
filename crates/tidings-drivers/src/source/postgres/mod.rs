//! PostgreSQL as a source: logical replication where the role may, triggers where it may not.
//!
//! Owns: which of the two it is, and everything that PostgreSQL alone needs.

mod catalog;
mod form;
mod line;
mod literal;
mod logical;
mod lsn;
mod monitor;
mod outbox;
mod pgoutput;
mod place;
mod queue;
mod row;
mod sentence;
mod slot;
mod snapshot;
mod socket;
mod stream;
mod triggers;
mod visible;

use super::{Desk, Driver, Error, Fault, Kind, Mode, Settings};
use crate::postgres::Address;
use catalog::Catalog;
use logical::Logical;
use outbox::Outbox;
use slot::Abilities;
use std::sync::Arc;
use tokio::sync::Notify;
use url::Url;

/// A PostgreSQL source.
pub struct Postgres {
    mode: Option<Mode>,
    logical: Logical,
}

impl Postgres {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let url = Url::parse(&settings.url).map_err(|e| Error::Url(format!("not a URL: {e}")))?;
        let address = Address::parse(url).map_err(|why| Error::Url(format!("the database's URL: {why}")))?;
        Ok(Self { mode: settings.mode, logical: Logical { settings, address } })
    }

    /// Ends well where the next run has to begin at once: with other tables.
    async fn try_run(&mut self, desk: &Desk) -> Result<(), Fault> {
        let settings = &self.logical.settings;
        let bell = Arc::new(Notify::new());
        let catalog = Catalog::connect_hearing(&self.logical.address, Some(Arc::clone(&bell))).await?;
        let abilities = Abilities::ask(&catalog).await?;
        let mode = match self.mode {
            Some(mode) => mode,
            // Once begun it stays what it is: the other one knows nothing of where this one stands.
            None => match place::read::<serde_json::Value>(desk).await? {
                Some(stored) if stored.get("outbox").is_some() => Mode::Triggers,
                Some(_) => Mode::Stream,
                None if abilities.can_stream() => Mode::Stream,
                None => Mode::Triggers,
            },
        };
        desk.report.mode(mode.as_str(Kind::Postgres));
        let outbox = triggers::name(settings);
        match mode {
            Mode::Stream => {
                // Left over from triggers: an outbox that nobody empties would grow.
                Outbox::of(&catalog, outbox).await?.unwatch(&catalog, &[]).await?;
                self.logical.run(desk, catalog, &abilities).await
            }
            Mode::Triggers => {
                if settings.messages {
                    let why =
                        abilities.check_stream().err().map(|why| format!(": {why}")).unwrap_or_default();
                    return Err(Fault::setting(format!(
                        "`messages` needs logical replication{why}; or take it out of the source's settings"
                    )));
                }
                if abilities.version < 130_000 {
                    return Err(Fault::setting("capturing by triggers needs PostgreSQL 13 or later"));
                }
                triggers::run(settings, desk, catalog, bell).await
            }
        }
    }
}

impl Driver for Postgres {
    async fn run(&mut self, desk: &Desk) -> Fault {
        loop {
            if let Err(fault) = self.try_run(desk).await {
                return fault;
            }
        }
    }
}
