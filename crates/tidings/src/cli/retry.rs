//! How long a client goes on trying while a server cannot be reached.

use super::client::Failure;
use std::time::{Duration, Instant};

const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Failures in a row, bounded in time.
pub struct Retry {
    limit: Duration,
    since: Option<Instant>,
    wait: Duration,
}

impl Retry {
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None, wait: WAIT_FIRST }
    }

    /// Something came through: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        (self.since, self.wait) = (None, WAIT_FIRST);
    }

    /// Waits before the next try, and says so once; gives the failure back when it is final.
    pub async fn failed(&mut self, failure: Failure, say: impl FnOnce(&str)) -> Result<(), Failure> {
        let is_first = self.since.is_none();
        let since = *self.since.get_or_insert_with(Instant::now);
        if !failure.is_retryable() || since.elapsed() + self.wait > self.limit {
            return Err(failure);
        }
        if is_first {
            say(&format!("{failure}; trying again for {} s", self.limit.as_secs()));
        }
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Ok(())
    }
}
