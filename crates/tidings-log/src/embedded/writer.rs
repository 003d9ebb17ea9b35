//! The one who writes: commits whatever has queued while the last sync ran.
//!
//! There is one writer, and a thread for it; a committer may borrow it while it rests (see `inbox`).
//!
//! Order of a group: decide and encode, one write, one sync, then show it to readers, hand it to the followers,
//! tell the observer, answer, and at last wake the followers. Owns: the segment being written, and the decision
//! to stop writing forever (I9). Never: waits for a timer, holds a lock while it writes.

use super::disk::{Disk, Tape};
use super::entry::Entry;
use super::feed::Feed;
use super::frame::{self, HEAD};
use super::group::{Group, Notice, Run};
use super::home::Segments;
use super::inbox::{Inbox, Job};
use super::index::Index;
use super::keeper::{Chore, Keeper};
use super::news::{News, Written};
use super::runway::Runway;
use super::scan::Place;
use super::segment::{Active, Placed};
use super::shelf::Shelf;
use super::side::Side;
use super::stage::Stage;
use super::{catalog::Catalog, entry};
use crate::{Clock, Error, Observer};
use bytes::Bytes;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tidings_model::{Event, Offset};

/// A larger buffer is not kept for the next group.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// A sync that a committer may wait for in its own thread.
const QUICK: Duration = Duration::from_millis(1);
const PANICKED: &str = "the writer panicked";

/// What the writer works with.
pub struct Writer {
    pub inbox: Arc<Inbox>,
    pub stage: Stage,
    pub catalog: Arc<Catalog>,
    pub shelf: Arc<Shelf>,
    pub side: Arc<Side>,
    pub index: Arc<Index>,
    pub keeper: Arc<Keeper>,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    /// Set once, when writing has ended for good.
    pub read_only: Arc<OnceLock<String>>,
    pub disk: Arc<dyn Disk>,
    pub tape: Box<dyn Tape>,
    pub active: Arc<Active>,
    /// Where the segment before ended, until the active one says so itself.
    pub begin: Option<Place>,
    /// The segment that was prepared last, or the active one.
    pub asked_for: u32,
    pub segment_bytes: u64,
    pub group_bytes_max: usize,
    pub runway: Runway,
    /// A former group's memory that nobody holds any more.
    pub spare: Vec<u8>,
    pub pace: Pace,
}

/// What the last group was like.
#[derive(Default)]
pub struct Pace {
    /// It held several batches: others commit at the same time.
    had_company: bool,
    sync: Duration,
}

/// Who has something to apply.
struct Followers {
    side: bool,
    index: bool,
}

impl Writer {
    /// Writes until the inbox is closed and empty.
    pub fn run(self: Box<Self>) {
        let inbox = self.inbox.clone();
        let _end = End { inbox: self.inbox.clone(), read_only: self.read_only.clone() };
        let (bytes_max, mut jobs) = (self.group_bytes_max, Vec::new());
        let mut writer = self;
        while let Some(mut found) = inbox.next(writer, bytes_max, &mut jobs) {
            if jobs.is_empty() {
                return found.tidy();
            }
            found.commit(&mut jobs);
            writer = found;
        }
    }

    /// Commits `jobs` as one group, and answers each.
    pub fn commit(&mut self, jobs: &mut Vec<Job>) {
        self.pace.had_company = jobs.len() > 1;
        if let Err(e) = self.prepare() {
            jobs.drain(..).for_each(|job| job.answer(Err(e.clone())));
            return;
        }
        let mut spare = std::mem::take(&mut self.spare);
        spare.clear();
        spare.reserve(jobs.iter().map(|job| job.weight + 64).sum());
        let mut group = Group::new(self.active.number, self.active.salt, self.active.end(), spare);
        let done = self.stage(jobs, &mut group);
        if let Err(e) = self.write(&mut group) {
            done.into_iter().for_each(|job| job.answer(Err(e.clone())));
            return;
        }
        let followers = self.publish(group);
        let is_later = done.iter().all(|job| job.batch.is_followed_later);
        done.into_iter().for_each(|job| job.answer(Ok(())));
        // After those who wait for the events: where no core is free, a woken thread runs before them.
        if is_later {
            return;
        }
        if followers.side {
            self.side.feed.rouse();
        }
        if followers.index {
            self.index.feed.rouse();
        }
    }

    /// Makes sure that a group may be written now.
    fn prepare(&mut self) -> Result<(), Error> {
        if let Some(reason) = self.read_only.get() {
            return Err(Error::ReadOnly(reason.clone()));
        }
        self.side.feed.wait_for_room()?;
        self.index.feed.wait_for_room()?;
        self.stage.settle();
        if self.active.end() >= self.segment_bytes { self.roll() } else { Ok(()) }
    }

    /// Decides and encodes; batches that are refused are answered at once.
    fn stage(&mut self, jobs: &mut Vec<Job>, group: &mut Group) -> Vec<Job> {
        if let Some(Place { segment: previous, at: end }) = self.begin {
            let start = frame::begin(&mut group.bytes);
            Entry::Begin { previous, end }.put(&mut group.bytes);
            frame::seal(&mut group.bytes, start, 0, group.salt);
        }
        let begun = group.bytes.len();
        let now = self.clock.now();
        let mut done = Vec::with_capacity(jobs.len());
        for mut job in jobs.drain(..) {
            match self.stage.add(&mut job.batch, now, group, &mut job.receipt) {
                Ok(()) => done.push(job),
                Err(e) => job.answer(Err(e)),
            }
        }
        if group.bytes.len() == begun {
            group.bytes.clear();
        }
        done
    }

    /// Brings the group to stable storage. After `Err` nothing of it may become visible.
    fn write(&mut self, group: &mut Group) -> Result<(), Error> {
        if group.bytes.is_empty() {
            return Ok(());
        }
        let written = self.tape.write(&group.bytes, group.base).and_then(|()| self.lay_ahead(group));
        let started = Instant::now();
        let failed = match written {
            Ok(()) => match self.tape.sync() {
                Ok(()) => {
                    self.begin = None;
                    self.pace.sync = started.elapsed();
                    return Ok(());
                }
                Err(e) => self.stop("syncing", &e),
            },
            Err(e) if e.kind() == io::ErrorKind::StorageFull => match self.cut(group.base) {
                Ok(()) => Error::io("writing to a full disk")(e),
                Err(e) => self.stop("cutting back an incomplete write", &e),
            },
            Err(e) => self.stop("writing", &e),
        };
        self.stage.undo(std::mem::take(&mut group.undo).into_iter());
        Err(failed)
    }

    /// Makes room for the groups to come, where that pays. A disk without room for it is no failure of the group's.
    fn lay_ahead(&mut self, group: &Group) -> io::Result<()> {
        let end = group.base + group.bytes.len() as u64;
        let Some(count) = self.runway.wanted(group.bytes.len(), end, self.segment_bytes) else {
            return Ok(());
        };
        match self.tape.write(&vec![0; count], end) {
            Ok(()) => self.runway.laid(end + count as u64),
            Err(e) if e.kind() == io::ErrorKind::StorageFull => self.cut(end)?,
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn cut(&mut self, end: u64) -> io::Result<()> {
        self.runway.cut(end);
        self.tape.truncate(end)
    }

    /// Leaves a file that ends where its records do. If that fails the next start does it.
    fn tidy(&mut self) {
        let end = self.active.end();
        if self.runway.is_ahead(end) && self.read_only.get().is_none() {
            let _ = self.cut(end);
        }
    }

    /// Whether a committer who finds the writer at rest may borrow it. Beside others a batch is better queued, since
    /// they share its sync; and with a slow disk waking the writer's thread is next to nothing.
    pub fn is_quick(&self) -> bool {
        let is_alone = !self.pace.had_company && self.pace.sync <= QUICK;
        is_alone
            && self.active.end() < self.segment_bytes
            && self.side.feed.has_room()
            && self.index.feed.has_room()
    }

    /// It panicked in the hands of a committer: nothing more is written, and nobody waits for it.
    pub fn lost(self) {
        self.read_only.get_or_init(|| PANICKED.to_owned());
        self.inbox.abandon();
    }

    /// I9: what the file holds now is known only after a restart, so nothing more is written.
    fn stop(&self, doing: &str, e: &io::Error) -> Error {
        let reason = format!("{doing} segment {} failed: {e}", self.active.number);
        tracing::error!(segment = self.active.number, error = %e, "the log is read-only: {doing} failed");
        Error::Unknown(self.read_only.get_or_init(|| reason).clone())
    }

    /// Shows a durable group to readers and the observer, and answers which followers are to be woken for it.
    fn publish(&mut self, mut group: Group) -> Followers {
        let catalog = self.catalog.clone();
        let moment = catalog.change();
        let end = group.base + group.bytes.len() as u64;
        let base = group.base;
        let runs = group.notices.iter().filter_map(|notice| match notice {
            Notice::Advanced(run) => Some(run),
            _ => None,
        });
        self.active.publish(
            end,
            runs.map(|run| Placed {
                topic: run.topic.id,
                first: run.first,
                at: &group.places[run.at..run.at + run.count],
                time: run.time,
            }),
        );
        let mut needs_cleaning = false;
        for notice in &group.notices {
            match notice {
                Notice::Created(topic) => self.catalog.insert(topic.clone()),
                Notice::Ended(topic) => {
                    needs_cleaning = true;
                    self.catalog.remove(topic.id);
                }
                Notice::Advanced(run) => run.topic.advance(run.last()),
                Notice::Trimmed { topic, oldest, keep_state } => {
                    needs_cleaning = true;
                    topic.trim(*oldest, *keep_state);
                }
                Notice::Dropped(_) | Notice::DueChanged => {}
            }
        }
        let bytes = Bytes::from(std::mem::take(&mut group.bytes));
        let written = Arc::new(Written { segment: group.segment, at: base, bytes: bytes.clone() });
        let push = |feed: &Feed<News>| feed.lay_down(News::Written(written.clone()), bytes.len() + 256);
        let is_written = !bytes.is_empty();
        let followers =
            Followers { side: group.for_side && is_written, index: group.for_index && is_written };
        if followers.side {
            self.stage.pushed_to_side(push(&self.side.feed));
        }
        if followers.index {
            self.stage.pushed_to_index(push(&self.index.feed));
        }
        drop(moment);
        if needs_cleaning {
            self.keeper.push(Chore::Clean);
        }
        self.tell(&group, &bytes);
        drop(written);
        if bytes.len() <= SPARE_BYTES_MAX && bytes.is_unique() {
            self.spare = bytes.into();
        }
        if end >= self.segment_bytes / 2 && self.asked_for == self.active.number {
            self.asked_for += 1;
            self.keeper.push(Chore::Prepare(self.asked_for));
        }
        followers
    }

    /// Tells the observer, one call for neighbouring runs of a topic.
    fn tell(&self, group: &Group, bytes: &Bytes) {
        let mut due_changed = false;
        let mut notices = group.notices.iter().peekable();
        while let Some(notice) = notices.next() {
            match notice {
                Notice::Advanced(run) => {
                    let mut count = run.count;
                    while let Some(Notice::Advanced(next)) = notices.peek()
                        && next.topic.id == run.topic.id
                    {
                        count += next.count;
                        notices.next();
                    }
                    self.tell_run(run, &group.places[run.at..run.at + count], bytes, group.base);
                }
                Notice::Trimmed { topic, oldest, .. } => self.observer.trimmed(&topic.name, Offset(*oldest)),
                Notice::Dropped(name) => self.observer.dropped(name),
                Notice::DueChanged => due_changed = true,
                Notice::Created(_) | Notice::Ended(_) => {}
            }
        }
        if due_changed {
            self.observer.due_changed();
        }
    }

    fn tell_run(&self, run: &Run, places: &[(u32, u32)], bytes: &Bytes, base: u64) {
        let topic = &run.topic;
        let mut events = (run.first..).zip(places).map(|(offset, (at, len))| {
            let record = entry::event_bytes(bytes, (u64::from(*at) - base) as usize, *len as usize);
            Event::new(topic.name.clone(), topic.epoch, Offset(offset), record).expect("made by RecordWriter")
        });
        let tail = Offset(run.first + places.len() as u64 - 1);
        self.observer.advanced(&topic.name, tail, &mut events);
    }

    /// Closes the active segment and goes on in the next.
    fn roll(&mut self) -> Result<(), Error> {
        let former = self.active.clone();
        let number = former.number + 1;
        let (head, file) = self.keeper.take_prepared(&self.shelf.segments, number)?;
        let active = Arc::new(Active::new(number, head.salt, file.clone(), HEAD as u64, Default::default()));
        self.tape = self.disk.tape(file);
        self.runway = Runway::default();
        self.shelf.roll(active.clone());
        self.begin = Some(Place { segment: former.number, at: former.end() });
        self.active = active;
        self.asked_for = number;
        self.keeper.push(Chore::Seal(former));
        Ok(())
    }
}

/// Leaves nobody waiting when the writer ends, also by a panic.
struct End {
    inbox: Arc<Inbox>,
    read_only: Arc<OnceLock<String>>,
}

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.read_only.get_or_init(|| PANICKED.to_owned());
        }
        self.inbox.abandon();
    }
}

/// Creates the file of a segment, with nothing but its head, so that it survives a power cut.
pub fn create_segment(segments: &Segments, number: u32) -> Result<(frame::Head, Arc<std::fs::File>), Error> {
    let path = segments.log(number);
    let create = || {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let head = frame::Head::new(number, false);
        Tape::write(&Arc::new(file.try_clone()?), &head.encode(), 0)?;
        file.sync_all()?;
        segments.sync()?;
        Ok((head, Arc::new(file)))
    };
    create().map_err(Error::io(format!("creating {}", path.display())))
}
