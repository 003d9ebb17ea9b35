//! Time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidings_model::Timestamp;

/// Says what time it is.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;

    /// Where it takes the time from.
    fn status(&self) -> ClockStatus {
        ClockStatus::default()
    }
}

/// Where a clock takes the time from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClockState {
    /// The machine, and nothing else is wanted.
    #[default]
    Machine,
    /// The machine, because no time server has answered.
    Fallback,
    /// Time servers.
    Servers,
}

/// How a clock is doing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClockStatus {
    pub state: ClockState,
    /// How far it is ahead of the machine's clock.
    pub offset_ms: f64,
    /// How long ago a time server was last believed.
    pub since_answer: Option<Duration>,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus_millis(since.as_millis() as i64)
    }
}
