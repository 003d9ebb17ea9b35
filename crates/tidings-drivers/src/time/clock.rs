//! The clock that everybody reads: the machine's steady clock, set by whoever knows better.
//!
//! Owns: that time never runs backwards. A correction forward is made at once; one back lets time run at half
//! speed until it is level. Reading takes no lock. Never: asks anybody.

use arc_swap::ArcSwap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidings_log::{Clock, ClockState, ClockStatus};
use tidings_model::Timestamp;

/// A clock that can be corrected.
pub struct NtpClock {
    /// Where the steady clock is counted from.
    start: Instant,
    line: ArcSwap<Line>,
    /// The latest time anybody was told, in milliseconds.
    told_ms: AtomicI64,
    source: Mutex<Source>,
}

struct Source {
    state: ClockState,
    answered: Option<Instant>,
}

/// A point on the steady clock and what time it is there, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub steady: i64,
    pub time: i64,
}

/// How time runs from a point on.
#[derive(Debug, Clone, Copy)]
struct Line {
    from: Reading,
    /// How far it was ahead there.
    excess: i64,
}

impl Line {
    fn at(&self, steady: i64) -> i64 {
        let passed = steady.saturating_sub(self.from.steady).max(0);
        self.from.time.saturating_add(passed - self.excess.min(passed / 2))
    }
}

impl Default for NtpClock {
    fn default() -> Self {
        Self::new()
    }
}

impl NtpClock {
    /// Begins with the machine's time.
    pub fn new() -> Self {
        let line = Line { from: Reading { steady: 0, time: machine() }, excess: 0 };
        let source = Source { state: ClockState::Fallback, answered: None };
        let (line, told_ms) = (ArcSwap::from_pointee(line), AtomicI64::new(i64::MIN));
        Self { start: Instant::now(), line, told_ms, source: Mutex::new(source) }
    }

    /// What the machine's clock says, and where the steady clock stands.
    pub(super) fn machine(&self) -> Reading {
        Reading { steady: self.steady(), time: machine() }
    }

    fn steady(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }

    /// From now on the time follows `reading`. Returns by how much that is ahead of what it was, in nanoseconds.
    pub(super) fn correct(&self, reading: Reading, state: ClockState) -> i64 {
        let mut source = self.source.lock().expect("no panic while holding the lock");
        source.state = state;
        if state == ClockState::Servers {
            source.answered = Some(Instant::now());
        }
        let steady = self.steady();
        let (own, right) =
            (self.line.load().at(steady), reading.time.saturating_add(steady - reading.steady));
        let ahead = right.saturating_sub(own);
        let time = own.max(right);
        let line = Line { from: Reading { steady, time }, excess: ahead.min(0).saturating_neg() };
        self.line.store(line.into());
        ahead
    }

    /// The servers are silent: their last answers count no more, or not alone.
    pub(super) fn fall_back(&self) {
        self.source.lock().expect("no panic while holding the lock").state = ClockState::Fallback;
    }

    pub(super) fn own(&self) -> Reading {
        let steady = self.steady();
        Reading { steady, time: self.line.load().at(steady) }
    }
}

impl Clock for NtpClock {
    fn now(&self) -> Timestamp {
        let ms = self.own().time.div_euclid(1_000_000);
        // A line that is being replaced may be read a moment too long; what was told once stays true.
        let told = self.told_ms.load(Ordering::Relaxed);
        let ms = if ms <= told { told } else { self.told_ms.fetch_max(ms, Ordering::Relaxed).max(ms) };
        Timestamp::default().plus_millis(ms)
    }

    fn status(&self) -> ClockStatus {
        let (own, machine) = (self.own(), self.machine());
        let source = self.source.lock().expect("no panic while holding the lock");
        let offset = own.time - machine.time + (machine.steady - own.steady);
        ClockStatus {
            state: source.state,
            offset_ms: offset as f64 / 1e6,
            since_answer: source.answered.map(|at| at.elapsed()),
        }
    }
}

/// Nanoseconds since 1970, as the machine's clock says; 0 before that.
fn machine() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_line_that_was_ahead_runs_at_half_speed_until_it_is_level() {
        let line = Line { from: Reading { steady: 10, time: 1_000 }, excess: 100 };
        let at: Vec<i64> = [0, 10, 110, 210, 211, 310].iter().map(|s| line.at(*s)).collect();
        assert_eq!(at, [1_000, 1_000, 1_050, 1_100, 1_101, 1_200]);
    }

    #[test]
    fn corrections_forward_count_at_once_and_back_without_running_backwards() {
        let clock = NtpClock::new();
        let before = clock.now();
        let machine = clock.machine();
        let ahead = Reading { time: machine.time + 1000 * SECOND, ..machine };
        assert!((clock.correct(ahead, ClockState::Servers) - 1000 * SECOND).abs() < SECOND);
        let after = clock.now();
        assert!((after.as_millis() - before.as_millis() - 1_000_000).abs() < 1_000);
        let status = clock.status();
        assert!((status.offset_ms - 1e6).abs() < 1e3 && status.state == ClockState::Servers, "{status:?}");
        assert!(clock.correct(machine, ClockState::Servers) < -999 * SECOND);
        assert!(clock.now() >= after);
        assert!((clock.now().as_millis() - after.as_millis()) < 1_000);
    }

    #[test]
    fn nobody_sees_time_run_backwards_while_it_is_corrected() {
        let clock = Arc::new(NtpClock::new());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let clock = Arc::clone(&clock);
                std::thread::spawn(move || {
                    let mut last = clock.now();
                    for _ in 0..200_000 {
                        let now = clock.now();
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                })
            })
            .collect();
        for n in 0..2_000i64 {
            let machine = clock.machine();
            // Forward and back by up to 8 ms.
            let to = Reading { time: machine.time + (n * 7_919_111) % 16_000_000 - 8_000_000, ..machine };
            clock.correct(to, ClockState::Servers);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}
