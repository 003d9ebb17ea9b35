//! Timers that may be a little off, and cost little for that.
//!
//! Idle connections are looked at together, at moments a second apart, instead of each at its own millisecond: what
//! wakes the processor for one finds the work of hundreds, and the caches still know how it goes.
//!
//! For request heads there is a timer that costs nothing while they arrive in time. The HTTP library arms one before
//! each request's head and drops it when the head is there. In the runtime's timer wheel that is a lock and an entry
//! twice a request. Here it is only a deadline that is looked at whenever the connection is polled, and `listen`
//! polls each connection now and then.

use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The moments in common lie this part of a wait apart.
const PARTS: u32 = 15;
/// And no further than this.
const STEP_MAX: Duration = Duration::from_secs(1);

/// Deadlines that are noticed late by at most the time between two polls.
#[derive(Clone, Copy)]
pub struct Coarse;

struct Deadline(Instant);

impl Timer for Coarse {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline(deadline))
    }
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The moment `after` from now, or a fifteenth of that sooner, that other connections have in common.
pub fn together(after: Duration) -> tokio::time::Instant {
    static START: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);
    let (start, at) = (*START, tokio::time::Instant::now() + after);
    // A clock of its own, as tests have, may begin before.
    at.checked_duration_since(start).map_or(at, |at| start + step_down(at, after))
}

/// The last step before `at`, where steps are for waiting `after`.
fn step_down(at: Duration, after: Duration) -> Duration {
    let step = (after / PARTS).min(STEP_MAX).as_nanos().max(1);
    Duration::from_nanos((at.as_nanos() / step * step) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_common_and_at_most_a_fifteenth_early() {
        let seconds = Duration::from_secs_f64;
        for (at, after, step) in [
            (31.0, 15.0, 31.0),
            (31.999, 15.0, 31.0),
            (100.3, 60.0, 100.0),
            (9.99, 0.15, 9.99),
            (0.9, 0.0, 0.9),
        ] {
            assert_eq!(step_down(seconds(at), seconds(after)), seconds(step), "{at} {after}");
        }
        for after in [1, 20, 300, 2_500, 15_000, 30_000, 3_600_000].map(Duration::from_millis) {
            let from = tokio::time::Instant::now();
            let (first, second) = (together(after), together(after));
            assert!(first <= second && first >= from + after - (after / PARTS).min(STEP_MAX), "{after:?}");
        }
    }
}
