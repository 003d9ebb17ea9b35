//! Time is an argument.

use std::time::{SystemTime, UNIX_EPOCH};
use tidings_model::Timestamp;

/// Says what time it is.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
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
