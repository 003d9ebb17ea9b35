//! One entity as one circle of readers sees it: those who watch the same key, with the same secret where that
//! matters.
//!
//! Owns: that there is never more than one fetch at a time, that a change during a fetch leads to one further
//! fetch however many changes there were, and which fetch a reader has yet to get. Never: queues rows.

use super::kind::Kind;
use super::{Error, Secret, Snapshot};
use crate::listeners::{Listener, Listeners, Place};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tidings_model::EntityKey;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A fetch that failed is tried again after these pauses, unless a change comes first.
const RETRY_AFTER: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// See the module.
pub struct Cell {
    pub key: EntityKey,
    pub secret: Secret,
    kind: Arc<Kind>,
    /// Counts finished fetches; for a look without the lock.
    news: AtomicU64,
    state: Mutex<State>,
    listeners: Listeners,
    /// Rung when a change comes while a failed fetch waits to be tried again.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    watchers: usize,
    fetch: Fetch,
    /// Something changed since the last fetch began.
    is_changed: bool,
    /// What the newest fetch that succeeded found, as long as it lies on the shelf.
    rows: Weak<Snapshot>,
    /// Its number, and that of the newest one that answered to a change. 0 is none.
    rows_at: u64,
    change_at: u64,
    /// The newest fetch that did not succeed.
    trouble: Option<(u64, Error)>,
    task: Option<AbortHandle>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    #[default]
    None,
    /// Waits for its turn: whatever comes now is still taken into account.
    Waiting,
    Going,
}

/// Why a fetch is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The entity changed: every reader gets the rows.
    Change,
    /// A reader wants the rows as they are: nobody else gets them.
    Reader,
}

/// How far one reader is with a cell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// The cell's news looked at.
    news: u64,
    rows: u64,
    trouble: u64,
    /// Wants rows although nothing has changed.
    pub wants_state: bool,
}

/// What a cell has for a reader.
pub enum Found {
    Rows(Arc<Snapshot>),
    Trouble(Error),
    Nothing,
}

impl Cell {
    pub fn new(kind: Arc<Kind>, key: EntityKey, secret: Secret) -> Self {
        let (news, state, sooner) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        Self { key, secret, kind, news, state, listeners: Listeners::default(), sooner }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the lock")
    }

    pub(super) fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// Where listeners are told of this cell.
    pub fn place(self: &Arc<Self>) -> Place {
        Place::of(self)
    }

    pub fn listen(&self, listener: &Arc<dyn Listener>) {
        self.listeners.add(listener);
    }

    pub fn unlisten(&self, listener: &Arc<dyn Listener>) {
        self.listeners.remove(listener);
    }

    /// Called by the kind, under its lock.
    pub(super) fn joined(&self) {
        self.state().watchers += 1;
    }

    /// Called by the kind, under its lock; `true` if that was the last one.
    pub(super) fn left(&self) -> bool {
        let mut state = self.state();
        state.watchers -= 1;
        state.watchers == 0
    }

    /// Nobody is left who waits for a fetch.
    pub(super) fn abandon(&self) {
        if let Some(task) = self.state().task.take() {
            task.abort();
        }
    }

    /// A reader that joins now: it gets every change from here on.
    pub fn seen(&self) -> Seen {
        let state = self.state();
        let trouble = state.trouble.as_ref().map_or(0, |(at, _)| *at);
        Seen { news: self.news.load(Ordering::Acquire), rows: state.rows_at, trouble, wants_state: false }
    }

    /// Sees to it that rows which hold everything stored before this call are fetched.
    ///
    /// A fetch that has begun may have missed a change, so that leads to another one. It has missed nothing that
    /// a reader who comes now could ask for: what changes later is a change of its own.
    pub fn touch(self: &Arc<Self>, why: Why) {
        let mut state = self.state();
        state.is_changed |= why == Why::Change;
        match state.fetch {
            Fetch::Going => {}
            Fetch::Waiting => self.sooner.notify_one(),
            Fetch::None => {
                state.fetch = Fetch::Waiting;
                let own = Arc::clone(self);
                let task = self.kind.services.spawn_abortable("fetch", async move { own.run().await });
                state.task = Some(task);
            }
        }
    }

    async fn run(self: Arc<Self>) {
        let stop = self.kind.services.stop().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.fetch_until_level() => {}
        }
    }

    async fn fetch_until_level(self: &Arc<Self>) {
        let mut failed = 0;
        loop {
            let Ok(permit) = self.kind.permits.acquire().await else { return };
            let is_change = {
                let mut state = self.state();
                state.fetch = Fetch::Going;
                std::mem::take(&mut state.is_changed)
            };
            let answer = self.kind.fetch(&self.key, &self.secret).await;
            drop(permit);
            let is_failure = matches!(&answer, Err(error) if *error != Error::Refused);
            failed = if is_failure { failed + 1 } else { 0 };
            let pause = RETRY_AFTER.get(failed - usize::from(is_failure)).filter(|_| is_failure);
            if !self.settle(answer, is_change, pause.is_some()) {
                return;
            }
            if let Some(pause) = pause {
                tokio::select! {
                    biased;
                    () = self.sooner.notified() => {}
                    () = tokio::time::sleep(*pause) => {}
                }
            }
        }
    }

    /// Takes in what a fetch brought; `true` if another one must follow.
    fn settle(
        self: &Arc<Self>,
        answer: Result<Arc<Snapshot>, Error>,
        is_change: bool,
        retries: bool,
    ) -> bool {
        let mut state = self.state();
        let at = self.news.load(Ordering::Relaxed) + 1;
        let (had_trouble, came_meanwhile) = (state.trouble.is_some(), state.is_changed);
        let goes_on = match answer {
            Ok(snapshot) => {
                state.rows = Arc::downgrade(&snapshot);
                state.rows_at = at;
                if is_change {
                    state.change_at = at;
                }
                state.trouble = None;
                came_meanwhile
            }
            Err(error) => {
                if error == Error::Refused {
                    // What was found before is not for these readers any more.
                    (state.rows, state.rows_at, state.change_at) = (Weak::new(), 0, 0);
                } else {
                    // Whoever should have got this change gets what the next fetch finds.
                    state.is_changed |= is_change;
                }
                state.trouble = Some((at, error));
                retries || came_meanwhile
            }
        };
        state.fetch = if goes_on { Fetch::Waiting } else { Fetch::None };
        if !goes_on {
            state.task = None;
        }
        self.news.store(at, Ordering::Release);
        // After trouble, those who have waited since before it are no longer in the place beside.
        let is_for_all = is_change || had_trouble || state.trouble.is_some();
        drop(state);
        self.listeners.wake(self.place().once());
        if is_for_all {
            self.listeners.wake(self.place());
        }
        goes_on
    }

    /// Whether a look may find something.
    pub fn has_news(&self, seen: &Seen) -> bool {
        self.news.load(Ordering::Acquire) != seen.news
    }

    /// What there is for a reader that is as far as `seen` says; to be asked again until there is nothing.
    pub fn look(self: &Arc<Self>, seen: &mut Seen, tells_trouble: bool) -> Found {
        let state = self.state();
        let is_due = state.rows_at > seen.rows && (state.change_at > seen.rows || seen.wants_state);
        if is_due {
            if let Some(rows) = state.rows.upgrade() {
                (seen.rows, seen.wants_state) = (state.rows_at, false);
                return Found::Rows(rows);
            }
            // Too late for what was found then: it is fetched anew for this reader.
            (seen.news, seen.wants_state) = (self.news.load(Ordering::Acquire), true);
            drop(state);
            self.touch(Why::Reader);
            return Found::Nothing;
        }
        match &state.trouble {
            Some((at, error)) if *at > seen.trouble => {
                seen.trouble = *at;
                if *error == Error::Refused {
                    seen.wants_state = false;
                }
                if tells_trouble {
                    return Found::Trouble(error.clone());
                }
            }
            _ => {}
        }
        seen.news = self.news.load(Ordering::Acquire);
        Found::Nothing
    }
}
