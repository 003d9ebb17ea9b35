//! What a verified token rests on beside its own words, and how whoever relies on it learns of its end.
//!
//! Owns: one flag and the list of those to wake. Never: says what changed; whoever is woken asks again.

use crate::Uuid;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// The token of one of our own users, as it stood when it was verified.
#[derive(Debug, Clone)]
pub struct Session {
    pub user: Uuid,
    /// Since which logging out, change of password or revocation the token counts.
    pub generation: u64,
    /// The token names its topics itself; the user's stored grants are not asked.
    pub names_topics: bool,
    /// Ends when anything about the user changes; the token is then verified anew.
    pub lease: Arc<Lease>,
}

/// Somebody who goes by a [`Lease`] without asking it, such as a live connection.
pub trait Watcher: Send + Sync {
    /// The lease has ended. Must be quick, and may be called more than once.
    fn wake(&self);
}

/// Something that holds until it ends once and for all.
#[derive(Default)]
pub struct Lease {
    is_over: AtomicBool,
    watchers: Mutex<Vec<Weak<dyn Watcher>>>,
}

impl Lease {
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Wakes `watcher` when this ends; at once if it has ended.
    pub fn watch(&self, watcher: &Arc<dyn Watcher>) {
        let mut watchers = self.watchers.lock().expect("no panic while holding the lock");
        // Those that are gone make room, so that the list is at most twice as long as there are watchers.
        if watchers.len() == watchers.capacity() {
            watchers.retain(|w| w.strong_count() > 0);
        }
        watchers.push(Arc::downgrade(watcher));
        drop(watchers);
        // Looked at after joining the list: an end between the two is not missed.
        if self.is_over() {
            watcher.wake();
        }
    }

    /// Ends it and wakes everybody.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        let watchers = std::mem::take(&mut *self.watchers.lock().expect("no panic while holding the lock"));
        watchers.iter().filter_map(Weak::upgrade).for_each(|w| w.wake());
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_over() { "(ended)" } else { "(holds)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Watcher for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn everybody_is_woken_once_it_ends_however_late_they_come() {
        let (lease, early, late) = (Lease::default(), Arc::new(Count::default()), Arc::new(Count::default()));
        lease.watch(&(Arc::clone(&early) as Arc<dyn Watcher>));
        assert!(!lease.is_over() && early.0.load(Ordering::Relaxed) == 0);
        lease.end();
        lease.watch(&(Arc::clone(&late) as Arc<dyn Watcher>));
        assert!(lease.is_over());
        assert_eq!((early.0.load(Ordering::Relaxed), late.0.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn watchers_that_are_gone_take_no_room() {
        let lease = Lease::default();
        for _ in 0..10_000 {
            lease.watch(&(Arc::new(Count::default()) as Arc<dyn Watcher>));
        }
        assert!(lease.watchers.lock().unwrap().capacity() < 16);
    }
}
