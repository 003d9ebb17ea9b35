//! Where batches wait for the writer.
//!
//! Owns: the bound on accepted batches; whoever commits waits for room. Never: reorders.

use crate::{Batch, Error, Receipt};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Room is counted in pieces of this many bytes.
const UNIT: usize = 1 << 10;
/// What a job takes at least, so that tiny batches are bounded in number, too.
const UNITS_MIN: usize = 32;

/// A batch and who waits for its receipt.
///
/// Both are made and freed by the committer. If the writer freed what other threads have allocated, it would
/// fight with them over the allocator's lock: that cost half of all system calls.
pub struct Job {
    pub batch: Batch,
    /// Filled in by the writer; has room already.
    pub receipt: Receipt,
    pub weight: usize,
    reply: oneshot::Sender<Reply>,
    _room: OwnedSemaphorePermit,
}

/// The answer, and the batch that is done with.
type Reply = (Result<Receipt, Error>, Batch);

impl Job {
    pub fn answer(self, result: Result<(), Error>) {
        // The committer may have gone; the batch stands all the same.
        let _ = self.reply.send((result.map(|()| self.receipt), self.batch));
    }
}

/// The queue.
pub struct Inbox {
    room: Arc<Semaphore>,
    units_max: usize,
    batch_bytes_max: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    /// The writer sleeps and has to be woken. Waking one that is at work costs a system call for nothing.
    is_idle: bool,
}

impl Inbox {
    pub fn new(queue_bytes_max: usize, batch_bytes_max: usize) -> Self {
        let units_max = (queue_bytes_max.max(batch_bytes_max) / UNIT).max(UNITS_MIN);
        let room = Arc::new(Semaphore::new(units_max));
        Self { room, units_max, batch_bytes_max, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Waits for room, hands the batch to the writer, and waits for its receipt.
    pub async fn submit(&self, batch: Batch) -> Result<Receipt, Error> {
        let weight = batch.weight();
        if weight > self.batch_bytes_max {
            return Err(Error::BatchTooLarge { bytes: weight, max: self.batch_bytes_max });
        }
        let units = weight.div_ceil(UNIT).clamp(UNITS_MIN, self.units_max);
        let room = self.room.clone().acquire_many_owned(units as u32).await.map_err(|_| Error::Closed)?;
        let receipt = Receipt {
            appended: Vec::with_capacity(batch.appends.len()),
            due_duplicate: Vec::with_capacity(batch.due_put.len()),
        };
        let (reply, answer) = oneshot::channel();
        let is_idle = {
            let mut state = self.lock();
            if state.closed {
                return Err(Error::Closed);
            }
            state.jobs.push_back(Job { batch, receipt, weight, reply, _room: room });
            std::mem::take(&mut state.is_idle)
        };
        if is_idle {
            self.filled.notify_one();
        }
        let (result, _batch) = answer.await.map_err(|_| Error::Unknown("the writer stopped".to_owned()))?;
        result
    }

    /// Blocks until there are jobs, and moves up to about `bytes_max` of them into `jobs`; `false` once closed
    /// and empty.
    pub fn take(&self, bytes_max: usize, jobs: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return false;
            }
            state.is_idle = true;
            state = self.filled.wait(state).expect("no panic while holding the lock");
        }
        let mut bytes = 0;
        while let Some(job) = state.jobs.front() {
            bytes += job.weight;
            if bytes > bytes_max && !jobs.is_empty() {
                break;
            }
            jobs.extend(state.jobs.pop_front());
        }
        true
    }

    /// Refuses further batches; those accepted are still written.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.filled.notify_all();
    }

    /// Refuses further batches, and those that wait: whoever committed them is told `Unknown`.
    pub fn abandon(&self) {
        self.close();
        self.lock().jobs.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the lock")
    }
}
