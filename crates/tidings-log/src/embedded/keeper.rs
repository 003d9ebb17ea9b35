//! The thread for everything that is not urgent: preparing the next segment, closing the former, cleaning.
//!
//! Owns: the queue of chores. Never: delays a commit, unless the writer outruns it and makes its next segment
//! itself.

use super::clean::Cleaner;
use super::frame::Head;
use super::home::{self, Segments};
use super::news::News;
use super::segment::Active;
use super::shelf::Shelf;
use super::writer::create_segment;
use crate::Error;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// After cleaning, so many times as long as it took is left to others.
const CLEAN_PAUSE: u32 = 10;

/// Something to do soon.
pub enum Chore {
    /// Create this segment's file.
    Prepare(u32),
    /// Write the sidecar of a closed segment and make it known.
    Seal(Arc<Active>),
    /// Look for segments that hold little or nothing that is kept.
    Clean,
}

/// The queue of chores.
#[derive(Default)]
pub struct Keeper {
    state: Mutex<State>,
    changed: Condvar,
    /// Held while the file is made, so that it is not made twice.
    next: Mutex<Next>,
}

#[derive(Default)]
struct Next {
    /// The newest segment whose file was made since the start.
    made: u32,
    ready: Option<(Head, Arc<File>)>,
}

#[derive(Default)]
struct State {
    chores: VecDeque<Chore>,
    busy: bool,
    closed: bool,
    /// No cleaning before this: it looks at every closed segment, which is not to take much of a core.
    clean_after: Option<Instant>,
}

impl Keeper {
    pub fn push(&self, chore: Chore) {
        let mut state = self.lock();
        let is_known =
            matches!(chore, Chore::Clean) && state.chores.iter().any(|c| matches!(c, Chore::Clean));
        if !is_known {
            state.chores.push_back(chore);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The prepared segment, or one made on the spot.
    pub fn take_prepared(&self, segments: &Segments, number: u32) -> Result<(Head, Arc<File>), Error> {
        let mut next = self.next.lock().expect("no panic while holding the lock");
        match next.ready.take().filter(|(head, _)| head.number == number) {
            Some(prepared) => Ok(prepared),
            None => next.make(segments, number),
        }
    }

    /// Blocks until there is nothing left to do.
    pub fn wait_idle(&self) {
        let mut state = self.lock();
        while (state.busy || !state.chores.is_empty()) && !state.closed {
            state = self.changed.wait(state).expect("no panic while holding the lock");
        }
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Does chores until closed. What is left undone then is found and done at the next start.
    pub fn run(&self, mut cleaner: Cleaner) {
        while let Some(chore) = self.next() {
            let done = match chore {
                Chore::Prepare(number) => self.prepare(&cleaner.shelf, number),
                Chore::Clean => self.clean(&mut cleaner),
                Chore::Seal(active) => match seal(&active, &cleaner) {
                    // Segments are closed in order, or the next start could not tell what is known.
                    Err(e) if !self.try_again(Chore::Seal(active)) => {
                        tracing::error!(error = %e, "a segment was not closed; the next start does it");
                        return;
                    }
                    done => done,
                },
            };
            match done {
                Err(Error::Closed) | Ok(()) => {}
                Err(e) => tracing::error!(error = %e, "a chore of the log failed"),
            }
            self.lock().busy = false;
            self.changed.notify_all();
        }
    }

    /// Puts a chore back and waits a little; `false` if closed.
    fn try_again(&self, chore: Chore) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        state.chores.push_front(chore);
        drop(self.changed.wait_timeout(state, Duration::from_secs(1)));
        true
    }

    fn next(&self) -> Option<Chore> {
        let mut state = self.lock();
        loop {
            // Closing a segment comes first, also when the log is closed: it saves the next start a scan.
            let seal = state.chores.iter().position(|c| matches!(c, Chore::Seal(_)));
            if let Some(chore) = seal.and_then(|i| state.chores.remove(i)) {
                state.busy = true;
                return Some(chore);
            }
            if state.closed {
                return None;
            }
            let pause =
                state.clean_after.map_or(Duration::ZERO, |t| t.saturating_duration_since(Instant::now()));
            let may_run = |chore: &Chore| pause.is_zero() || !matches!(chore, Chore::Clean);
            if let Some(at) = state.chores.iter().position(may_run) {
                state.busy = true;
                return state.chores.remove(at);
            }
            state = match state.chores.is_empty() {
                true => self.changed.wait(state).expect("no panic while holding the lock"),
                false => self.changed.wait_timeout(state, pause).expect("no panic while holding the lock").0,
            };
        }
    }

    fn clean(&self, cleaner: &mut Cleaner) -> Result<(), Error> {
        let begun = Instant::now();
        let result = cleaner.clean();
        self.lock().clean_after = Some(Instant::now() + begun.elapsed() * CLEAN_PAUSE);
        result
    }

    fn prepare(&self, shelf: &Shelf, number: u32) -> Result<(), Error> {
        let mut next = self.next.lock().expect("no panic while holding the lock");
        // The writer may have been faster; its segment must not be made anew.
        if next.made < number {
            next.ready = Some(next.make(&shelf.segments, number)?);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the lock")
    }
}

impl Next {
    fn make(&mut self, segments: &Segments, number: u32) -> Result<(Head, Arc<File>), Error> {
        let made = create_segment(segments, number)?;
        self.made = number;
        Ok(made)
    }
}

/// Writes the sidecar of a closed segment, then tells the followers. The file ends where its records do from now on.
pub fn seal(active: &Active, cleaner: &Cleaner) -> Result<(), Error> {
    let path = cleaner.shelf.segments.log(active.number);
    home::cut(&path, active.end()).map_err(Error::io(format!("closing {}", path.display())))?;
    let sidecar = Arc::new(active.sidecar());
    let path = cleaner.shelf.segments.sidecar(active.number);
    home::replace(&path, &sidecar.encode()).map_err(Error::io(format!("writing {}", path.display())))?;
    let news = News::Sealed { number: active.number, sidecar: sidecar.clone() };
    cleaner.side.feed.push(news.clone(), sidecar.weight());
    cleaner.index.feed.push(news, 64);
    Ok(())
}
