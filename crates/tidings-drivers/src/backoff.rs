//! Pauses between tries to connect: growing, and different on every node.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// The longest pause. A connection that lasted longer than this makes the next pause the shortest again.
pub const LONGEST: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next pause. `random` spreads the nodes over its second half, so that they don't come back all at
    /// once to a server that was restarted.
    pub fn next(&mut self, random: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// To be told how long the connection has lasted.
    pub fn lasted(&mut self, time: Duration) {
        if time > LONGEST {
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_shrink_after_a_connection_that_lasted() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), FIRST / 2);
        assert_eq!(backoff.next(u32::MAX), FIRST * 2);
        for _ in 0..100 {
            assert!(backoff.next(u32::MAX) <= LONGEST);
        }
        backoff.lasted(Duration::from_secs(1));
        assert_eq!(backoff.next(u32::MAX), LONGEST);
        backoff.lasted(LONGEST * 2);
        assert_eq!(backoff.next(u32::MAX), FIRST);
    }
}
