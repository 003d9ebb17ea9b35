//! Whether those who called take their answers.
//!
//! Owns: noticing, for each connection, that an answer has waited for its client longer than a write may. A stream of
//! HTTP/2 that nobody reads is not polled any more, so it cannot notice that itself. Never: ends anything; the
//! connection does, and its client may resume.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// The answers being given over one connection. Cheap to clone.
#[derive(Clone)]
pub struct Pulses(Arc<Inner>);

struct Inner {
    began: Instant,
    all: Mutex<Vec<Weak<Pulse>>>,
}

/// One answer.
pub struct Pulse {
    began: Instant,
    /// When it last gave something that was not asked on since: milliseconds since `began`, plus one. 0: it is
    /// being read, or has nothing to give.
    given: AtomicU64,
}

impl Default for Pulses {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), all: Mutex::default() }))
    }
}

impl Pulses {
    /// Watches one more answer, for as long as it is kept.
    pub fn watch(&self) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse { began: self.0.began, given: AtomicU64::new(0) });
        let mut all = self.0.all.lock().expect("no panic while holding the lock");
        // Those that are gone make room, so that the list is at most twice as long as there are answers.
        if all.len() == all.capacity() {
            all.retain(|p| p.strong_count() > 0);
        }
        all.push(Arc::downgrade(&pulse));
        pulse
    }

    /// Whether one of them has waited for its client for longer than `limit`.
    pub fn is_stuck(&self, limit: Duration) -> bool {
        let now = millis(self.0.began);
        let mut all = self.0.all.lock().expect("no panic while holding the lock");
        all.retain(|p| p.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).any(|pulse| {
            let given = pulse.given.load(Ordering::Relaxed);
            given > 0 && u128::from(now.saturating_sub(given)) > limit.as_millis()
        })
    }
}

impl Pulse {
    /// It is being asked for more.
    pub fn asked(&self) {
        self.given.store(0, Ordering::Relaxed);
    }

    /// It has given something.
    pub fn gave(&self) {
        self.given.store(millis(self.began) + 1, Ordering::Relaxed);
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_was_given_and_not_taken_counts_as_stuck() {
        let pulses = Pulses::default();
        let (idle, gone, slow) = (pulses.watch(), pulses.watch(), pulses.watch());
        gone.gave();
        drop(gone);
        idle.gave();
        idle.asked();
        std::thread::sleep(Duration::from_millis(5));
        assert!(!pulses.is_stuck(Duration::from_millis(1)));
        slow.gave();
        std::thread::sleep(Duration::from_millis(20));
        assert!(pulses.is_stuck(Duration::from_millis(10)) && !pulses.is_stuck(Duration::from_secs(60)));
        slow.asked();
        assert!(!pulses.is_stuck(Duration::from_millis(10)));
    }
}
