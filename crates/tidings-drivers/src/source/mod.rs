//! Sources: databases whose changes become events.
//!
//! Owns: what every kind of database has in common: its settings, the task that connects, streams and connects again
//! ([`supervise`]), and the desk where a driver hands in what it found.
//! Never: decides who may see a row; loses or repeats a change: a position is committed together with the events.

mod fault;
mod looks;
mod mysql;
mod postgres;
mod roster;
mod settings;
mod supervisor;

pub use fault::Fault;
pub use settings::{Error, Kind, Mode, Settings, Table};
pub use supervisor::{Desk, Driver, supervise};

use std::time::Duration;
use tidings_engine::{Services, Tidings};

/// From one commit to the next at least, while several transactions come at a time: they share commits then, which
/// leaves the disk and the processor to the database. A transaction that comes alone waits for nothing.
const GATHER: Duration = Duration::from_millis(5);
/// For each event of the commit before, if that is longer: beyond 10,000 events a second commits grow further apart.
const GATHER_EACH: Duration = Duration::from_micros(100);
const GATHER_MAX: Duration = Duration::from_millis(15);
/// Commits of so many events are large enough.
const GATHERED_MAX: usize = 1000;

/// From a commit of so many events to the next at least, or nothing where it was large.
fn gather(events: usize) -> Option<Duration> {
    (events < GATHERED_MAX).then(|| (GATHER_EACH * events as u32).clamp(GATHER, GATHER_MAX))
}

/// Starts to capture what `settings` say. Connects in a task of its own: the database may be down.
///
/// # Errors
/// When the settings cannot mean anything, whatever the database says.
pub fn start(settings: Settings, tidings: &Tidings, services: &Services) -> Result<(), Error> {
    settings.check()?;
    match settings.kind {
        Kind::MySql => mysql::start(settings, tidings, services)?,
        Kind::Postgres => {
            let desk = Desk::new(tidings, &settings);
            supervise(postgres::Postgres::new(settings)?, desk, services);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_grow_apart_with_what_comes() {
        let pause = |events| gather(events).map(|pause| pause.as_millis());
        assert_eq!([2, 50, 80, 150, 999].map(pause), [5, 5, 8, 15, 15].map(Some));
        assert_eq!([1000, usize::MAX].map(pause), [None, None]);
    }
}
