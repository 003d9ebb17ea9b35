//! How often a source looks whether other sessions of its database see a commit.
//!
//! Owns: the pace, and the times after which it is not waited for any longer. Never: asks the database.

use std::time::{Duration, Instant};

/// How long to wait at most for a database that answers.
pub const WITHIN: Duration = Duration::from_secs(1);
/// Without any answer in this time the connection counts as lost.
pub const SILENT: Duration = Duration::from_secs(3);
/// Looks without a pause: mostly the moment is over while the answer is on its way.
const AT_ONCE: u32 = 4;
const EVERY: Duration = Duration::from_millis(1);

/// The looks for one commit.
pub struct Looks {
    begun: Instant,
    count: u32,
}

impl Looks {
    pub fn begin() -> Self {
        Self { begun: Instant::now(), count: 0 }
    }

    /// After a look in vain: waits for the time of the next one. `false` if there is to be none.
    pub async fn again(&mut self) -> bool {
        if self.begun.elapsed() >= WITHIN {
            return false;
        }
        self.count += 1;
        if self.count > AT_ONCE {
            tokio::time::sleep(EVERY).await;
        }
        true
    }
}
