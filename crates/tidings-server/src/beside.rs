//! The calls on an HTTP/2 connection: one is handled in the connection's own task, others beside it in their own.
//!
//! Most connections carry one call at a time, and a task of its own would have to be woken for each of its messages
//! only to wake the connection's. Owns: that one call, and who of the two has something to do. Never: lets a call
//! wait for another, or looks at one who was not woken.

use futures_util::task::AtomicWaker;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

/// The connection has something to do.
const CONNECTION: u8 = 1;
/// The call that is handled here has.
const CALL: u8 = 2;
/// The task is at it, and need not be woken.
const AT_WORK: u8 = 4;
/// Turns of one poll; whoever else waits for this thread comes between.
const TURNS_MAX: usize = 8;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the calls of one connection. Cheap to clone.
#[derive(Clone, Default)]
pub struct Beside {
    own: Arc<Own>,
}

#[derive(Default)]
struct Own {
    call: Mutex<Option<Call>>,
    news: News,
}

/// Who has something to do.
#[derive(Default)]
struct News {
    state: AtomicU8,
    task: AtomicWaker,
}

/// Wakes one of the two.
struct Bell {
    own: Arc<Own>,
    rings: u8,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.own.news.ring(self.rings);
    }
}

impl News {
    fn ring(&self, whose: u8) {
        if self.state.fetch_or(whose, Ordering::AcqRel) & AT_WORK == 0 {
            self.task.wake();
        }
    }
}

impl<F> hyper::rt::Executor<F> for Beside
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        // It is locked while the call there is polled, and may be what asks.
        match self.own.call.try_lock() {
            Ok(mut own) if own.is_none() => *own = Some(Box::pin(call)),
            _ => {
                tokio::spawn(call);
                return;
            }
        }
        self.own.news.ring(CALL);
    }
}

/// A connection, and the call that is handled in its task.
pub struct Together {
    beside: Beside,
    connection: Waker,
    call: Waker,
}

impl Together {
    pub fn new(beside: Beside) -> Self {
        let bell = |rings| Waker::from(Arc::new(Bell { own: Arc::clone(&beside.own), rings }));
        beside.own.news.ring(CONNECTION);
        Self { connection: bell(CONNECTION), call: bell(CALL), beside }
    }

    /// Polls the connection once more though nothing woke it: something was done to it from outside, or it is to look at
    /// the time.
    pub fn look_again(&self) {
        self.beside.own.news.ring(CONNECTION);
    }

    /// Polls whoever has something to do, until none has. Ready when the connection is.
    pub fn poll<C: Future + ?Sized>(
        &self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<C::Output> {
        let news = &self.beside.own.news;
        news.task.register(cx.waker());
        for _ in 0..TURNS_MAX {
            let rung = news.state.swap(AT_WORK, Ordering::AcqRel);
            if rung & CALL != 0 {
                self.poll_call();
            }
            if rung & CONNECTION != 0
                && let Poll::Ready(end) = connection.as_mut().poll(&mut Context::from_waker(&self.connection))
            {
                return Poll::Ready(end);
            }
            if news.state.compare_exchange(AT_WORK, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        news.state.fetch_and(!AT_WORK, Ordering::AcqRel);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_call(&self) {
        let mut place = self.place();
        let Some(call) = place.as_mut() else { return };
        let poll = || call.as_mut().poll(&mut Context::from_waker(&self.call)).is_ready();
        // A call that panics ends, as in a task of its own; the connection goes on.
        if catch_unwind(AssertUnwindSafe(poll)).unwrap_or(true) {
            *place = None;
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Call>> {
        self.beside.own.call.lock().expect("no panic while holding the lock")
    }
}

impl Drop for Together {
    /// The call holds what holds it.
    fn drop(&mut self) {
        let call = self.place().take();
        drop(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use tokio::sync::{Notify, oneshot};

    /// A connection that brings `calls` when it is first polled and then waits for ever; how often it was polled.
    fn connection(beside: &Beside, calls: Vec<Call>) -> (Call, Arc<AtomicUsize>) {
        let polls = Arc::new(AtomicUsize::new(0));
        let (beside, counted, mut calls) = (beside.clone(), Arc::clone(&polls), calls);
        let future = poll_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            calls.drain(..).for_each(|call| beside.execute(call));
            Poll::Pending
        });
        (Box::pin(future), polls)
    }

    /// Serves until it is dropped.
    async fn serve(beside: Beside, mut connection: Call) {
        let together = Together::new(beside);
        poll_fn(|cx| together.poll(connection.as_mut(), cx)).await;
    }

    /// The task in which a call is handled that comes now.
    async fn handler(beside: &Beside) -> tokio::task::Id {
        let (end, ended) = oneshot::channel();
        beside.execute(async move { end.send(tokio::task::id()).unwrap() });
        ended.await.unwrap()
    }

    #[tokio::test]
    async fn a_call_is_handled_in_the_connections_task_and_only_who_was_woken_is_polled() {
        let beside = Beside::default();
        let (begin, begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let call = async move {
            begun.await.unwrap();
            let _ = end.send(tokio::task::id());
        };
        let (connection, polls) = connection(&beside, vec![Box::pin(call)]);
        let task = tokio::spawn(serve(beside, connection));
        begin.send(()).unwrap();
        assert_eq!(ended.await.unwrap(), task.id());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        task.abort();
    }

    #[tokio::test]
    async fn a_second_call_and_what_a_call_begins_need_not_wait_for_the_first() {
        let beside = Beside::default();
        let (inner, outer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let first = {
            let (inner, beside) = (Arc::clone(&inner), beside.clone());
            async move {
                beside.execute(async move { inner.notify_one() });
                pending::<()>().await;
            }
        };
        let second = {
            let outer = Arc::clone(&outer);
            async move { outer.notify_one() }
        };
        let (connection, _) = connection(&beside, vec![Box::pin(first), Box::pin(second)]);
        let task = tokio::spawn(serve(beside, connection));
        inner.notified().await;
        outer.notified().await;
        task.abort();
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_call_has_ended() {
        let beside = Beside::default();
        let (connection, _) = connection(&beside, vec![]);
        let task = tokio::spawn(serve(beside.clone(), connection));
        for _ in 0..3 {
            assert_eq!(handler(&beside).await, task.id());
        }
        task.abort();
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_alone() {
        let beside = Beside::default();
        let (connection, polls) = connection(&beside, vec![]);
        let task = tokio::spawn(serve(beside.clone(), connection));
        let (end, ended) = oneshot::channel::<()>();
        beside.execute(async move {
            let _dropped = end;
            panic!("as if a call had a fault");
        });
        assert!(ended.await.is_err());
        assert_eq!(handler(&beside).await, task.id());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        task.abort();
    }

    #[tokio::test]
    async fn a_call_ends_with_its_connection() {
        struct Told(Arc<AtomicBool>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (beside, is_dropped) = (Beside::default(), Arc::new(AtomicBool::new(false)));
        let (begin, begun) = oneshot::channel();
        let (told, own) = (Told(Arc::clone(&is_dropped)), beside.clone());
        let call = async move {
            // It holds what holds it.
            let _held = (told, own);
            begin.send(()).unwrap();
            pending::<()>().await;
        };
        let (connection, _) = connection(&beside, vec![Box::pin(call)]);
        let task = tokio::spawn(serve(beside, connection));
        begun.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(is_dropped.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_call_that_always_has_something_to_do_leaves_room_for_others() {
        let beside = Beside::default();
        let call = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let (connection, polls) = connection(&beside, vec![Box::pin(call)]);
        let task = tokio::spawn(serve(beside, connection));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        task.abort();
    }
}
