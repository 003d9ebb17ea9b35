//! The queue between the writer and a thread that follows the log (the side store, the index).
//!
//! Owns: order, the bound on what is not yet applied, and waiting until something is. Every item has a number;
//! whoever must see what was committed until now waits for the number pushed last. Never: fails a commit; a
//! follower that fails tries again, and only those who need it are told.

use crate::Error;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Ordered items from one or several producers to one follower.
pub struct Feed<T> {
    what: &'static str,
    state: Mutex<State<T>>,
    filled: Condvar,
    settled: Condvar,
    settled_async: Notify,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    /// Of everything pushed and not yet applied.
    bytes: usize,
    pushed: u64,
    applied: u64,
    failed: Option<String>,
    closed: bool,
}

impl<T: Clone> Feed<T> {
    /// `what` names the follower in errors.
    pub fn new(what: &'static str, bytes_max: usize) -> Self {
        let state =
            State { items: VecDeque::new(), bytes: 0, pushed: 0, applied: 0, failed: None, closed: false };
        Self {
            what,
            state: Mutex::new(state),
            filled: Condvar::new(),
            settled: Condvar::new(),
            settled_async: Notify::new(),
            bytes_max,
        }
    }

    /// Adds an item that holds `bytes` of memory, and answers its number.
    pub fn push(&self, item: T, bytes: usize) -> u64 {
        let number = self.lay_down(item, bytes);
        self.rouse();
        number
    }

    /// [`Feed::push`] for who has something more urgent to do than waking the follower, and does it then.
    pub fn lay_down(&self, item: T, bytes: usize) -> u64 {
        let mut state = self.lock();
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        state.pushed += 1;
        state.pushed
    }

    /// Wakes the follower.
    pub fn rouse(&self) {
        self.filled.notify_one();
    }

    /// The number of the item pushed last.
    pub fn pushed(&self) -> u64 {
        self.lock().pushed
    }

    /// The number of the item applied last.
    pub fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// Blocks until what is not yet applied is below the bound, or the follower fails.
    pub fn wait_for_room(&self) -> Result<(), Error> {
        let mut state = self.lock();
        while state.bytes > self.bytes_max {
            self.rouse();
            self.check(&state)?;
            state = self.settled.wait(state).expect("no panic while holding the lock");
        }
        Ok(())
    }

    /// Whether [`Feed::wait_for_room`] would not wait.
    pub fn has_room(&self) -> bool {
        self.lock().bytes <= self.bytes_max
    }

    /// Blocks until item `number` is applied.
    pub fn wait_blocking(&self, number: u64) -> Result<(), Error> {
        let mut state = self.lock();
        while state.applied < number {
            // Perhaps somebody laid it down and has not come to this yet.
            self.rouse();
            self.check(&state)?;
            state = self.settled.wait(state).expect("no panic while holding the lock");
        }
        Ok(())
    }

    /// Waits until item `number` is applied.
    pub async fn wait(&self, number: u64) -> Result<(), Error> {
        loop {
            let settled = self.settled_async.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let state = self.lock();
                if state.applied >= number {
                    return Ok(());
                }
                self.rouse();
                self.check(&state)?;
            }
            settled.await;
        }
    }

    fn check(&self, state: &State<T>) -> Result<(), Error> {
        match &state.failed {
            _ if state.closed => Err(Error::Closed),
            Some(what) => Err(Error::Store {
                doing: format!("following the log with {}", self.what),
                what: what.clone(),
            }),
            None => Ok(()),
        }
    }

    /// For the follower: blocks until there are items, and answers up to about `bytes_max` of them without
    /// removing them; `None` once the feed is closed and empty.
    pub fn peek(&self, bytes_max: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).expect("no panic while holding the lock");
        }
        let mut bytes = 0;
        let within = |item: &&(T, usize)| {
            let is_within = bytes < bytes_max;
            bytes += item.1;
            is_within
        };
        Some(state.items.iter().take_while(within).map(|(item, _)| item.clone()).collect())
    }

    /// For the follower: the first `count` items are applied.
    pub fn done(&self, count: usize) {
        let mut state = self.lock();
        let bytes: usize = state.items.drain(..count).map(|(_, bytes)| bytes).sum();
        state.bytes -= bytes;
        state.applied += count as u64;
        state.failed = None;
        drop(state);
        self.settled.notify_all();
        self.settled_async.notify_waiters();
    }

    /// For the follower: applying failed; those who wait are told, then it is tried again after a pause.
    /// `false` once the feed is closed: then it is left to the next start.
    pub fn failed(&self, what: &str) -> bool {
        let mut state = self.lock();
        if state.failed.as_deref() != Some(what) {
            tracing::error!(what, "{} cannot follow the log; trying again", self.what);
        }
        state.failed = Some(what.to_owned());
        self.settled.notify_all();
        self.settled_async.notify_waiters();
        if state.closed {
            state.items.clear();
            return false;
        }
        let pause = Duration::from_secs(1);
        drop(self.filled.wait_timeout(state, pause).expect("no panic while holding the lock"));
        true
    }

    /// Whether no more items will come.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// No more items will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.settled.notify_all();
        self.settled_async.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no panic while holding the lock")
    }
}
