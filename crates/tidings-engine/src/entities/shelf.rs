//! Keeps fresh snapshots for a moment, until every reader has had its turn.
//!
//! Owns: the bound on what lies there. A reader that comes later than that has its entity fetched anew, so slow
//! readers cost fetches and no memory.

use super::Snapshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a snapshot lies there.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// The newest snapshots of all entities.
pub struct Shelf {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Default)]
struct Kept {
    all: VecDeque<(Instant, usize, Arc<Snapshot>)>,
    bytes: usize,
}

impl Shelf {
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), bytes_max }
    }

    /// Keeps `snapshot`; what is old, or too much, goes. The newest always stays.
    pub fn put(&self, snapshot: &Arc<Snapshot>, now: Instant) {
        let weight = snapshot.weight();
        let mut gone = Vec::new();
        {
            let mut kept = self.kept.lock().expect("no panic while holding the lock");
            kept.bytes += weight;
            kept.all.push_back((now, weight, Arc::clone(snapshot)));
            while kept.all.len() > 1 && (kept.bytes > self.bytes_max || kept.is_first_old(now)) {
                gone.extend(kept.pop());
            }
        }
        // Freed outside of the lock.
        drop(gone);
    }

    /// Lets go of what is old.
    pub fn sweep(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut kept = self.kept.lock().expect("no panic while holding the lock");
        while kept.is_first_old(now) {
            gone.extend(kept.pop());
        }
        drop(kept);
    }
}

impl Kept {
    fn is_first_old(&self, now: Instant) -> bool {
        self.all.front().is_some_and(|(at, ..)| now.duration_since(*at) >= KEPT_FOR)
    }

    fn pop(&mut self) -> Option<Arc<Snapshot>> {
        let (_, weight, snapshot) = self.all.pop_front()?;
        self.bytes -= weight;
        Some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::EntityKey;

    #[test]
    fn what_is_old_or_too_much_goes_and_the_newest_stays() {
        let shelf = Shelf::new(3000);
        let now = Instant::now();
        let snapshot = || {
            let key = EntityKey::parse("e", "1").unwrap();
            Arc::new(Snapshot::new(key, vec![vec![b'x'; 500].into()]))
        };
        let all: Vec<_> = (0..4).map(|_| snapshot()).collect();
        all.iter().for_each(|s| shelf.put(s, now));
        let held: Vec<_> = all.iter().map(|s| Arc::strong_count(s) == 2).collect();
        assert_eq!(held, [false, false, true, true]);
        shelf.sweep(now + KEPT_FOR);
        assert!(all.iter().all(|s| Arc::strong_count(s) == 1));
    }
}
