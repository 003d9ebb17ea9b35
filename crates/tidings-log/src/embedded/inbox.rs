//! Where batches wait for the writer, and where the writer rests when none do.
//!
//! A committer who finds it at rest may write a small batch on the spot: waking a thread, and being woken by it,
//! would take about as long as the sync. Owns: the bound on accepted batches; whoever commits waits for room; who
//! has the writer. Never: reorders.

use super::writer::Writer;
use crate::{Batch, Error, Receipt};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Room is counted in pieces of this many bytes.
const UNIT: usize = 1 << 10;
/// What a job takes at least, so that tiny batches are bounded in number, too.
const UNITS_MIN: usize = 32;
/// A larger batch is left to the writer's thread, so that its committer can prepare the next one meanwhile.
const IN_PLACE_BYTES_MAX: usize = 8 << 10;

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
    /// The writer while its thread sleeps. Whoever takes it out is the one who writes.
    resting: Option<Box<Writer>>,
    /// The writer's thread has to be woken. Waking one that is at work costs a system call for nothing.
    is_asleep: bool,
    /// The writer panicked; nobody will bring it back.
    is_lost: bool,
}

impl Inbox {
    pub fn new(queue_bytes_max: usize, batch_bytes_max: usize) -> Self {
        let units_max = (queue_bytes_max.max(batch_bytes_max) / UNIT).max(UNITS_MIN);
        let room = Arc::new(Semaphore::new(units_max));
        Self { room, units_max, batch_bytes_max, state: Mutex::default(), filled: Condvar::new() }
    }

    /// Waits for room, has the batch written, by the writer's thread or on the spot, and waits for its receipt.
    pub async fn submit(&self, batch: Batch) -> Result<Receipt, Error> {
        let weight = batch.weight();
        if weight > self.batch_bytes_max {
            return Err(Error::BatchTooLarge { bytes: weight, max: self.batch_bytes_max });
        }
        let units = weight.div_ceil(UNIT).clamp(UNITS_MIN, self.units_max);
        // Whoever begins several commits one after the other counts on their order: with room enough none of them
        // waits here, not even for the turn of another task.
        let room = tokio::task::unconstrained(self.room.clone().acquire_many_owned(units as u32));
        let room = room.await.map_err(|_| Error::Closed)?;
        let receipt = Receipt {
            appended: Vec::with_capacity(batch.appends.len()),
            due_duplicate: Vec::with_capacity(batch.due_put.len()),
        };
        let (reply, answer) = oneshot::channel();
        self.enter(Job { batch, receipt, weight, reply, _room: room })?;
        let (result, _batch) = answer.await.map_err(|_| Error::Unknown("the writer stopped".to_owned()))?;
        result
    }

    /// Queues a job, or does it.
    fn enter(&self, job: Job) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        // Asked only while the writer sleeps: where many commit it seldom does.
        if state.is_asleep
            && job.weight <= IN_PLACE_BYTES_MAX
            && may_block()
            && let Some(writer) = state.resting.take_if(|writer| writer.is_quick())
        {
            state.is_asleep = false;
            drop(state);
            self.write(writer, job);
            return Ok(());
        }
        state.jobs.push_back(job);
        let wake = std::mem::take(&mut state.is_asleep);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Does one job in the committer's thread.
    fn write(&self, mut writer: Box<Writer>, job: Job) {
        if Handle::try_current().is_ok() {
            // This thread is perhaps the one that waits for all sockets. The second of two tasks makes the first one
            // free to be taken, and wakes another thread for that, which then waits for the sockets.
            tokio::spawn(async {});
            tokio::spawn(async {});
        }
        let write = || writer.commit(&mut vec![job]);
        // The committer's task is not the writer's to break.
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(()) => self.give_back(writer),
            Err(_) => writer.lost(),
        }
    }

    /// Lays the writer to rest again; its thread goes on with what has queued meanwhile.
    fn give_back(&self, writer: Box<Writer>) {
        let mut state = self.lock();
        state.resting = Some(writer);
        let wake = state.closed || !state.jobs.is_empty();
        state.is_asleep = !wake;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Lays the writer to rest until there are jobs, and moves up to about `bytes_max` of them into `jobs`; none
    /// once closed and empty. `None` if the writer was lost meanwhile. For the writer's thread.
    pub fn next(&self, writer: Box<Writer>, bytes_max: usize, jobs: &mut Vec<Job>) -> Option<Box<Writer>> {
        let mut state = self.lock();
        state.resting = Some(writer);
        let writer = loop {
            if state.is_lost {
                return None;
            }
            if !state.jobs.is_empty() || state.closed {
                if let Some(writer) = state.resting.take() {
                    break writer;
                }
            } else {
                state.is_asleep = state.resting.is_some();
            }
            state = self.filled.wait(state).expect("no panic while holding the lock");
        };
        state.is_asleep = false;
        let mut bytes = 0;
        while let Some(job) = state.jobs.front() {
            bytes += job.weight;
            if bytes > bytes_max && !jobs.is_empty() {
                break;
            }
            jobs.extend(state.jobs.pop_front());
        }
        Some(writer)
    }

    /// Refuses further batches; those accepted are still written.
    pub fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.filled.notify_all();
    }

    /// Refuses further batches, and those that wait: whoever committed them is told `Unknown`. The writer has ended.
    pub fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        state.is_lost = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop((state, jobs));
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while holding the lock")
    }
}

/// Whether this thread may wait for a disk: outside a runtime, or where the runtime has other threads.
fn may_block() -> bool {
    Handle::try_current().map_or(true, |runtime| {
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
    })
}
