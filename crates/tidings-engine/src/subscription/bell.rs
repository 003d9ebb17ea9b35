//! What wakes the one who waits for a subscription.
//!
//! Owns: that nothing rung between two looks is missed. Never: wakes anyone but who looked last.

use crate::listeners::{Listener, Place};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub struct Bell(Mutex<State>);

#[derive(Default)]
struct State {
    is_rung: bool,
    waiting: Option<Waker>,
}

impl Bell {
    /// Ready once after it was rung.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_rung) {
            return Poll::Ready(());
        }
        match &mut state.waiting {
            Some(waiting) if waiting.will_wake(cx.waker()) => {}
            waiting => *waiting = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while holding the lock")
    }
}

impl Listener for Bell {
    fn wake(&self, _: Place) {
        let mut state = self.lock();
        state.is_rung = true;
        let waiting = state.waiting.take();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_and_a_ring_before_is_not_missed() {
        let (bell, place) = (Bell::default(), Place::of(&Arc::new(())));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let (waker, woken) = (Waker::from(Arc::clone(&count)), || count.0.load(Ordering::Relaxed));
        let cx = Context::from_waker(&waker);
        bell.wake(place);
        bell.wake(place);
        assert!(bell.poll(&cx).is_ready());
        assert!(bell.poll(&cx).is_pending());
        assert!(bell.poll(&cx).is_pending());
        assert_eq!(woken(), 0);
        bell.wake(place);
        bell.wake(place);
        assert_eq!(woken(), 1);
        assert!(bell.poll(&cx).is_ready());
        assert!(bell.poll(&cx).is_pending());
    }
}
