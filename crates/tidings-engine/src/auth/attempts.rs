//! How often somebody may try: a bucket for each key that fills again with time.
//!
//! Owns: the count, in bounded memory. The arithmetic is that of GCRA: one number a key, the time at which
//! its bucket would be full again. Never: waits, or knows what is tried.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Mutex;
use tidings_model::Timestamp;

/// Keys remembered. When there are more, those whose bucket is full are forgotten, and if that is not
/// enough, all: whoever can come from as many addresses is not held up by a count of addresses.
const KEYS_MAX: usize = 50_000;

/// Attempts by key.
pub struct Attempts {
    /// `None` does not bound.
    pace: Option<Pace>,
    full_at_us: Mutex<HashMap<u64, i64>>,
    /// Keyed at random, so that nobody can make names that count as another's.
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Pace {
    /// Microseconds that give one attempt back.
    interval_us: i64,
    /// Microseconds that fill the whole bucket.
    depth_us: i64,
}

impl Attempts {
    /// `burst` at once, and `per_minute` in the long run; 0 for either does not bound.
    pub fn new(burst: u32, per_minute: u32) -> Self {
        Self::paced(burst, if per_minute == 0 { 0 } else { (60_000_000 / i64::from(per_minute)).max(1) })
    }

    /// `number` at once, and as many in each `seconds` in the long run; 0 for either does not bound.
    pub fn each(number: u32, seconds: u32) -> Self {
        let window_us = i64::from(seconds) * 1_000_000;
        Self::paced(number, if number == 0 { 0 } else { window_us / i64::from(number) })
    }

    fn paced(burst: u32, interval_us: i64) -> Self {
        let is_bounded = burst > 0 && interval_us > 0;
        let pace = is_bounded.then(|| Pace { interval_us, depth_us: interval_us * i64::from(burst) });
        Self { pace, full_at_us: Mutex::default(), hasher: RandomState::new() }
    }

    /// Counts an attempt, or says in how many seconds there may be another.
    pub fn take(&self, key: &impl Hash, now: Timestamp) -> Result<(), u32> {
        let Some(pace) = self.pace else { return Ok(()) };
        let (key, now) = (self.hasher.hash_one(key), now.as_millis().saturating_mul(1000));
        let mut known = self.full_at_us.lock().expect("no panic while holding the lock");
        if known.len() >= KEYS_MAX && !known.contains_key(&key) {
            known.retain(|_, full_at| *full_at > now);
            if known.len() >= KEYS_MAX {
                known.clear();
            }
        }
        // A clock that was set back must not lock anybody out for longer than the bucket is deep.
        let full_at = known.get(&key).map_or(now, |at| (*at).clamp(now, now + pace.depth_us));
        let over = full_at + pace.interval_us - now - pace.depth_us;
        if over > 0 {
            return Err(u32::try_from((over + 999_999) / 1_000_000).unwrap_or(u32::MAX));
        }
        known.insert(key, full_at + pace.interval_us);
        Ok(())
    }

    /// The attempt succeeded and is not counted.
    pub fn give_back(&self, key: &impl Hash) {
        let Some(pace) = self.pace else { return };
        let key = self.hasher.hash_one(key);
        let mut known = self.full_at_us.lock().expect("no panic while holding the lock");
        if let Some(full_at) = known.get_mut(&key) {
            *full_at -= pace.interval_us;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms).unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_pace_holds_for_each_key_alone() {
        let attempts = Attempts::new(3, 60);
        for _ in 0..3 {
            assert_eq!(attempts.take(&"a", at(0)), Ok(()));
        }
        assert_eq!(attempts.take(&"a", at(0)), Err(1));
        assert_eq!(attempts.take(&"b", at(0)), Ok(()));
        assert_eq!(attempts.take(&"a", at(999)), Err(1));
        assert_eq!(attempts.take(&"a", at(1000)), Ok(()));
        assert!(attempts.take(&"a", at(1000)).is_err());
        attempts.give_back(&"a");
        assert_eq!(attempts.take(&"a", at(1000)), Ok(()));
        assert_eq!(attempts.take(&"a", at(-500_000)), Err(1), "a clock set back costs one interval at most");
    }

    #[test]
    fn memory_is_bounded_and_zero_does_not_bound_attempts() {
        let attempts = Attempts::new(1, 1);
        for key in 0..3 * KEYS_MAX {
            assert_eq!(attempts.take(&key, at(0)), Ok(()));
        }
        assert!(attempts.full_at_us.lock().unwrap().len() <= KEYS_MAX);
        let many = Attempts::each(20_000, 1);
        assert!((0..20_000).all(|_| many.take(&"a", at(0)).is_ok()));
        assert_eq!(many.take(&"a", at(0)), Err(1));
        assert!((0..20).all(|_| many.take(&"a", at(1)).is_ok()) && many.take(&"a", at(1)).is_err());
        let free = Attempts::new(0, 60);
        assert!((0..1000).all(|_| free.take(&"a", at(0)).is_ok()));
    }
}
