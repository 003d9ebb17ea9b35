//! Who wants to know that there is something new, and where.
//!
//! Owns: the list of listeners of one place. Never: waits; a listener only leaves a note, unless whoever tells it has the
//! time for more.

use std::sync::{Arc, Mutex, MutexGuard};

/// What a listener is told about: an address or an entity that has news. A place may be told of by mistake,
/// since one that is gone can leave its number to another; whoever is woken looks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place(usize);

impl Place {
    pub(crate) fn of<T>(it: &Arc<T>) -> Self {
        Self(Arc::as_ptr(it) as usize)
    }

    /// The place beside this one, for readers that wait for something only once: whoever is woken there has
    /// got it, and the place is empty then.
    pub(crate) fn once(self) -> Self {
        Self(self.0 | 1)
    }

    /// Whether everybody leaves this place when it is woken.
    pub fn is_once(self) -> bool {
        self.0 & 1 == 1
    }

    pub(crate) fn lasting(self) -> Self {
        Self(self.0 & !1)
    }
}

/// Wants to know that a place has news.
pub trait Listener: Send + Sync {
    /// Called on the path of whoever made the news: it only leaves a note.
    fn wake(&self, place: Place);

    /// The same, by a thread that has nothing more urgent to do and holds no lock: what is quickly done may be done on it,
    /// without waking another one.
    fn wake_here(&self, place: Place) {
        self.wake(place);
    }
}

/// Of so many listeners none does anything on the thread that tells them.
const HERE_MAX: usize = 8;

/// The listeners of one place, each with how often it asked to be one.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Vec<(Arc<dyn Listener>, usize)>>);

impl Listeners {
    fn all(&self) -> MutexGuard<'_, Vec<(Arc<dyn Listener>, usize)>> {
        self.0.lock().expect("no panic while holding the lock")
    }

    pub(crate) fn wake(&self, place: Place) {
        self.all().iter().for_each(|(listener, _)| listener.wake(place));
    }

    /// As [`Listener::wake_here`].
    pub(crate) fn wake_here(&self, place: Place) {
        let all = self.all();
        if all.len() > HERE_MAX {
            return all.iter().for_each(|(listener, _)| listener.wake(place));
        }
        let few: Vec<_> = all.iter().map(|(listener, _)| Arc::clone(listener)).collect();
        drop(all);
        few.iter().for_each(|listener| listener.wake_here(place));
    }

    /// Wakes `listener` from now on, until [`Listeners::remove`] was called as often as this.
    pub(crate) fn add(&self, listener: &Arc<dyn Listener>) {
        let mut all = self.all();
        match all.iter_mut().find(|(own, _)| Arc::ptr_eq(own, listener)) {
            Some((_, count)) => *count += 1,
            None => all.push((Arc::clone(listener), 1)),
        }
    }

    pub(crate) fn remove(&self, listener: &Arc<dyn Listener>) {
        let mut all = self.all();
        if let Some(i) = all.iter().position(|(own, _)| Arc::ptr_eq(own, listener)) {
            all[i].1 -= 1;
            if all[i].1 == 0 {
                all.swap_remove(i);
            }
        }
    }
}
