//! The time, as time servers (NTP) say it.
//!
//! `clock` is what the rest of the process reads, `query` asks the servers and judges their answers, `follow`
//! decides when to ask and when to believe the machine instead. Nobody ever waits for any of it.

mod clock;
mod config;
mod follow;
mod query;

pub use clock::NtpClock;
pub use config::{Config, Server, ServerError};
