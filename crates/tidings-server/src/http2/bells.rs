//! Which streams of a connection have something to do.
//!
//! Owns: one bell for each place of a stream, and waking the connection's task when one is rung while it sleeps. Never:
//! forgets a ring.

use futures_util::task::AtomicWaker;
use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};

/// So many streams may be open at once.
pub const PLACES: usize = 256;
/// Bells of the connection itself: its socket has something to say, or it is time to look around.
pub const SOCKET: usize = PLACES;
pub const LOOKS: usize = PLACES + 1;
const WORDS: usize = (PLACES + 2).div_ceil(64);

/// The bells of one connection.
#[derive(Default)]
pub struct Bells {
    shared: Arc<Shared>,
    wakers: Vec<Waker>,
}

#[derive(Default)]
struct Shared {
    rung: [AtomicU64; WORDS],
    /// The task is at it and looks again before it sleeps.
    is_at_work: AtomicBool,
    task: AtomicWaker,
}

struct Bell {
    shared: Arc<Shared>,
    place: usize,
}

impl Shared {
    fn ring(&self, place: usize) {
        self.rung[place / 64].fetch_or(1 << (place % 64), Ordering::SeqCst);
        if !self.is_at_work.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.ring(self.place);
    }
}

impl Bells {
    /// A bell that stands by itself.
    pub fn own(&self, place: usize) -> Waker {
        Waker::from(Arc::new(Bell { shared: Arc::clone(&self.shared), place }))
    }

    /// The bell of a stream's place.
    pub fn bell(&mut self, place: usize) -> &Waker {
        while self.wakers.len() <= place {
            self.wakers.push(self.own(self.wakers.len()));
        }
        &self.wakers[place]
    }

    pub fn ring(&self, place: usize) {
        self.shared.ring(place);
    }

    /// The task begins to look.
    pub fn begin(&self, task: &Waker) {
        self.shared.task.register(task);
        self.shared.is_at_work.store(true, Ordering::SeqCst);
    }

    /// The places that were rung since this was last asked.
    pub fn take(&self) -> Rung {
        Rung(array::from_fn(|i| match self.shared.rung[i].load(Ordering::SeqCst) {
            0 => 0,
            _ => self.shared.rung[i].swap(0, Ordering::SeqCst),
        }))
    }

    /// The task is about to sleep; `false` if it must not, since there was a ring meanwhile.
    pub fn rest(&self) -> bool {
        self.shared.is_at_work.store(false, Ordering::SeqCst);
        let is_quiet = self.shared.rung.iter().all(|word| word.load(Ordering::SeqCst) == 0);
        if !is_quiet {
            self.shared.is_at_work.store(true, Ordering::SeqCst);
        }
        is_quiet
    }

    /// The task sleeps whether there was a ring or not; it will be woken.
    pub fn leave(&self) {
        self.shared.is_at_work.store(false, Ordering::SeqCst);
    }
}

/// Places, in their order.
pub struct Rung([u64; WORDS]);

impl Iterator for Rung {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        let bit = self.0[word].trailing_zeros() as usize;
        self.0[word] &= self.0[word] - 1;
        Some(word * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn every_ring_is_heard_once_and_wakes_only_who_sleeps() {
        let (mut bells, task) = (Bells::default(), Arc::new(Task::default()));
        let wakes = || task.0.load(Ordering::SeqCst);
        bells.begin(&Waker::from(Arc::clone(&task)));
        for place in [255, 3, 64, 3, 0] {
            bells.bell(place).wake_by_ref();
        }
        bells.own(LOOKS).wake();
        assert_eq!((bells.take().collect::<Vec<_>>(), wakes()), (vec![0, 3, 64, 255, LOOKS], 0));
        assert_eq!(bells.take().next(), None);
        bells.ring(7);
        assert!(!bells.rest());
        assert_eq!((bells.take().next(), wakes()), (Some(7), 0));
        assert!(bells.rest());
        bells.ring(8);
        assert_eq!((bells.take().next(), wakes()), (Some(8), 1));
    }
}
