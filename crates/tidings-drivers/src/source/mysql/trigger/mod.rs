//! Changes from a table that triggers fill, where the binary log may not be read.
//!
//! Owns: that table, its triggers, and that each of its rows becomes one event.

mod definition;
mod outbox;
mod poll;
mod row;

pub use poll::Driver;
