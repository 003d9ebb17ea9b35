//! MySQL and MariaDB as a source: from the binary log, or from a table that triggers fill.
//!
//! Owns: everything about these servers. Never: decides who sees a row, or writes to an application's tables.

mod binlog;
mod captured;
mod change;
mod connect;
mod delivery;
mod fault;
mod log;
mod position;
mod row;
mod schema;
mod snapshot;
mod trigger;
mod visible;

use super::{Desk, Error, Mode, Settings, supervise};
use tidings_engine::{Services, Tidings};

/// Starts to capture in a task of its own.
///
/// # Errors
/// When the URL cannot be one of these servers'.
pub fn start(settings: Settings, tidings: &Tidings, services: &Services) -> Result<(), Error> {
    let place = connect::Place::new(&settings.url)?;
    let desk = Desk::new(tidings, &settings);
    match settings.mode() {
        Mode::Stream => supervise(log::Driver::new(place, settings), desk, services),
        Mode::Triggers => supervise(trigger::Driver::new(place, settings), desk, services),
    }
    Ok(())
}
