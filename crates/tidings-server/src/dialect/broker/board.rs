//! The newest frame of each name, for everybody who listens.
//!
//! Owns: one task that keeps the views of all names while somebody listens, and the frames by version. A
//! listener is a number: it has seen every frame up to that version. So a slow one gets the newest frame of
//! each name it missed, whatever was between, and costs nobody anything. A name is shown at once when it has
//! been quiet, else once in [`EVERY`]. What does not fit into `limits.broker_view_bytes` is let go and made
//! anew when it is wanted. Never: writes to a socket.

use super::view::View;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tidings_engine::broker::{Broker, Change, Follower};
use tidings_engine::{Error, Services, Tidings, TopicWatcher};
use tidings_model::TopicName;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

/// A busy name is shown this often.
const EVERY: Duration = Duration::from_millis(50);
/// Views stay for this long after the last listener has left.
const KEEP: Duration = Duration::from_secs(60);
/// The wait after the log could not be read.
const RETRY: Duration = Duration::from_millis(500);
/// Frames made at the same time for names that are not kept.
const RENDERS_MAX: usize = 2;

/// Where listeners find frames. Cheap to clone.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    broker: Broker,
    frame_bytes_max: usize,
    bytes_max: usize,
    listeners: AtomicUsize,
    /// Views are kept, so changes are noted.
    is_warm: AtomicBool,
    notes: Mutex<HashSet<TopicName>>,
    bell: Notify,
    shown: Mutex<Shown>,
    news: watch::Sender<u64>,
    renders: Semaphore,
}

/// What is shown now.
#[derive(Default)]
struct Shown {
    version: u64,
    frames: HashMap<TopicName, Frame>,
    order: BTreeMap<u64, TopicName>,
    bytes: usize,
}

struct Frame {
    version: u64,
    /// `None` for want of room: it is made for each listener that wants it.
    bytes: Option<Bytes>,
}

impl Shown {
    fn put(&mut self, name: TopicName, bytes: Bytes) {
        self.remove(&name);
        self.version += 1;
        self.bytes += bytes.len();
        self.order.insert(self.version, name.clone());
        self.frames.insert(name, Frame { version: self.version, bytes: Some(bytes) });
    }

    fn remove(&mut self, name: &TopicName) {
        if let Some(frame) = self.frames.remove(name) {
            self.order.remove(&frame.version);
            self.bytes -= frame.bytes.map_or(0, |b| b.len());
        }
    }

    /// Lets go of the bytes of frames shown longest ago until `excess` is gone.
    fn shed(&mut self, excess: usize) {
        let until = self.bytes.saturating_sub(excess);
        for name in self.order.values() {
            if self.bytes <= until {
                return;
            }
            let frame = self.frames.get_mut(name).expect("in both");
            self.bytes -= frame.bytes.take().map_or(0, |b| b.len());
        }
    }
}

impl Board {
    /// Starts the task that keeps the views; it does nothing until somebody listens.
    pub fn start(tidings: &Tidings, services: &Services) -> Self {
        let limits = tidings.limits();
        let inner = Arc::new(Inner {
            broker: Broker::new(tidings.clone()),
            frame_bytes_max: limits.broker_frame_bytes,
            bytes_max: limits.broker_view_bytes,
            listeners: AtomicUsize::new(0),
            is_warm: AtomicBool::new(false),
            notes: Mutex::default(),
            bell: Notify::new(),
            shown: Mutex::default(),
            news: watch::Sender::new(0),
            renders: Semaphore::new(RENDERS_MAX),
        });
        tidings.hub().watch(Arc::clone(&inner) as Arc<dyn TopicWatcher>);
        let keeper = Keeper {
            board: Arc::clone(&inner),
            services: services.clone(),
            kept: HashMap::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            idle_since: None,
            turn: 0,
        };
        services.spawn("broker", keeper.run());
        Self(inner)
    }

    /// Listens from now on: first to the state of every name.
    pub fn listen(&self) -> Listening {
        let news = self.0.news.subscribe();
        self.0.listeners.fetch_add(1, Ordering::AcqRel);
        self.0.bell.notify_one();
        Listening { board: Arc::clone(&self.0), news, seen: 0 }
    }
}

impl Inner {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().expect("no panic while holding the lock")
    }

    fn notes(&self) -> MutexGuard<'_, HashSet<TopicName>> {
        self.notes.lock().expect("no panic while holding the lock")
    }

    fn show(&self, name: TopicName, frame: Bytes) {
        let mut shown = self.shown();
        shown.put(name, frame);
        self.news.send_replace(shown.version);
    }

    /// A name's view, read from the log.
    async fn build(&self, name: TopicName) -> Result<Kept, Error> {
        let follower = self.broker.follow(name).await?;
        let view = View::new(self.frame_bytes_max);
        let mut kept = Kept { follower, view, shown_at: None, is_waiting: false, is_new: true, used: 0 };
        kept.catch_up().await?;
        Ok(kept)
    }
}

impl TopicWatcher for Inner {
    fn changed(&self, topic: &TopicName) {
        if !self.is_warm.load(Ordering::Acquire) {
            return;
        }
        if !self.broker.reaches(topic) && !self.shown().frames.contains_key(topic) {
            return;
        }
        if self.listeners.load(Ordering::Acquire) == 0 {
            // Whoever comes next shall not see the old state first.
            self.shown().remove(topic);
        }
        self.notes().insert(topic.clone());
        self.bell.notify_one();
    }
}

/// A listener's place: it has seen every frame up to a version.
pub struct Listening {
    board: Arc<Inner>,
    news: watch::Receiver<u64>,
    seen: u64,
}

impl Listening {
    /// The oldest frame not seen yet, of a name that `wants`. Cancel safe.
    ///
    /// # Errors
    /// When the frame is not kept and the log cannot be read.
    pub async fn next(&mut self, wants: impl Fn(&TopicName) -> bool) -> Result<Option<Bytes>, Error> {
        loop {
            let (version, name, frame) = {
                let shown = self.board.shown();
                let Some((version, name)) = shown.order.range(self.seen + 1..).next() else {
                    return Ok(None);
                };
                (*version, name.clone(), shown.frames[name].bytes.clone())
            };
            if !wants(&name) {
                self.seen = version;
                continue;
            }
            let frame = match frame {
                Some(frame) => frame,
                None => {
                    let _permit = self.board.renders.acquire().await.map_err(|_| Error::Draining)?;
                    self.board.build(name.clone()).await?.view.frame(name.as_str())
                }
            };
            self.seen = version;
            return Ok(Some(frame));
        }
    }

    /// Waits for frames after those that [`Listening::next`] has answered. Cancel safe.
    pub async fn changed(&mut self) {
        let seen = self.seen;
        // It ends with the board, and the board is held here.
        let _ = self.news.wait_for(|version| *version > seen).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.board.listeners.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.board.bell.notify_one();
        }
    }
}

/// The task's own.
struct Keeper {
    board: Arc<Inner>,
    services: Services,
    kept: HashMap<TopicName, Kept>,
    /// Bytes of the views in `kept`.
    bytes: usize,
    /// Names with news that were shown a moment ago, in the order of their turns.
    waiting: VecDeque<(Instant, TopicName)>,
    idle_since: Option<Instant>,
    turn: u64,
}

struct Kept {
    follower: Follower,
    view: View,
    shown_at: Option<Instant>,
    is_waiting: bool,
    /// Has changed since it was shown, or was never shown.
    is_new: bool,
    used: u64,
}

impl Kept {
    async fn catch_up(&mut self) -> Result<(), Error> {
        loop {
            let changes = self.follower.next().await?;
            if changes.is_empty() {
                return Ok(());
            }
            self.is_new = true;
            for change in changes {
                match change {
                    Change::Reset => self.view.clear(),
                    Change::Latest { event, place, before } => self.view.put(&event, place, before),
                }
            }
            // A long way is not gone in one go: others wait for this thread.
            tokio::task::yield_now().await;
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        let stop = self.services.stop().clone();
        loop {
            let turn = self.waiting.front().map(|(at, _)| *at);
            let end = self.idle_since.map(|since| since + KEEP);
            let next = turn.into_iter().chain(end).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.forget_all().await,
                () = self.board.bell.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            if self.board.listeners.load(Ordering::Acquire) == 0 {
                self.rest().await;
            } else {
                self.idle_since = None;
                self.serve().await;
            }
        }
    }

    /// Nobody listens: after a while everything goes.
    async fn rest(&mut self) {
        for (_, name) in self.waiting.drain(..) {
            self.board.notes().insert(name);
        }
        for kept in self.kept.values_mut() {
            (kept.is_waiting, kept.shown_at) = (false, None);
        }
        // Whoever comes next shall not see an old state first.
        let notes: Vec<TopicName> = self.board.notes().iter().cloned().collect();
        notes.iter().for_each(|name| self.board.shown().remove(name));
        if self.board.is_warm.load(Ordering::Acquire) {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= KEEP {
                self.forget_all().await;
                self.idle_since = None;
            }
        }
    }

    async fn forget_all(&mut self) {
        self.board.is_warm.store(false, Ordering::Release);
        self.bytes = 0;
        for (_, mut kept) in self.kept.drain() {
            note(kept.follower.mark().await);
        }
        self.board.notes().clear();
        let mut shown = self.board.shown();
        // The version goes on: a listener that has just come must not wait for a smaller one.
        *shown = Shown { version: shown.version, ..Shown::default() };
    }

    async fn serve(&mut self) {
        if !self.board.is_warm.swap(true, Ordering::AcqRel) {
            self.warm_up().await;
        }
        let now = Instant::now();
        let names = std::mem::take(&mut *self.board.notes());
        for name in names {
            match self.kept.get_mut(&name) {
                Some(kept) if kept.is_waiting => {}
                Some(kept) if kept.shown_at.is_some_and(|at| now < at + EVERY) => {
                    kept.is_waiting = true;
                    self.waiting.push_back((kept.shown_at.expect("just seen") + EVERY, name));
                }
                _ => self.refresh(name).await,
            }
        }
        while self.waiting.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, name) = self.waiting.pop_front().expect("just seen");
            self.refresh(name).await;
        }
    }

    /// Builds the views of all names, on all cores.
    async fn warm_up(&mut self) {
        let names = self.board.broker.names();
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(names.len());
        let names = Arc::new(Mutex::new(names));
        let (tx, mut rx) = mpsc::channel(workers.max(1));
        for _ in 0..workers {
            let (tx, board, names) = (tx.clone(), Arc::clone(&self.board), Arc::clone(&names));
            self.services.spawn("broker build", async move {
                while let Some(name) = { names.lock().expect("no panic while holding the lock").pop() } {
                    let built = board.build(name.clone()).await;
                    if tx.send((name, built)).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(tx);
        while let Some((name, built)) = rx.recv().await {
            match built {
                Ok(kept) => self.keep(name, kept).await,
                Err(error) => self.later(name, &error),
            }
        }
    }

    /// Brings a name up to date and shows it.
    async fn refresh(&mut self, name: TopicName) {
        if !self.board.broker.reaches(&name) {
            // Taken from Broker's interface, or dropped.
            if self.take(&name).is_some() {
                self.board.show(name.clone(), View::default().frame(name.as_str()));
            }
            return;
        }
        let caught_up = match self.take(&name) {
            Some(mut kept) => kept.catch_up().await.map(|()| kept),
            None => self.board.build(name.clone()).await,
        };
        match caught_up {
            Ok(kept) => self.keep(name, kept).await,
            Err(error) => self.later(name, &error),
        }
    }

    fn later(&mut self, name: TopicName, error: &Error) {
        tracing::warn!(%error, %name, "the state of a name could not be read, trying again");
        self.waiting.push_back((Instant::now() + RETRY, name));
    }

    async fn keep(&mut self, name: TopicName, mut kept: Kept) {
        let is_absent = !self.board.shown().frames.contains_key(&name);
        // Before its first event there is nothing to show.
        if (std::mem::take(&mut kept.is_new) || is_absent) && kept.follower.has_begun() {
            if std::mem::take(&mut kept.view.is_cut) {
                tracing::warn!(%name, "older collections are left out of a name's state: limits.broker_frame_bytes");
            }
            self.board.show(name.clone(), kept.view.frame(name.as_str()));
            kept.shown_at = Some(Instant::now());
        }
        note(kept.follower.mark().await);
        kept.is_waiting = false;
        self.turn += 1;
        kept.used = self.turn;
        self.bytes += kept.view.bytes();
        self.kept.insert(name, kept);
        self.make_room().await;
    }

    fn take(&mut self, name: &TopicName) -> Option<Kept> {
        let kept = self.kept.remove(name)?;
        self.bytes -= kept.view.bytes();
        Some(kept)
    }

    /// Lets go of views not used for longest, then of frames, until the rest fits.
    async fn make_room(&mut self) {
        while self.bytes + self.board.shown().bytes > self.board.bytes_max {
            let oldest =
                self.kept.iter().filter(|(_, kept)| !kept.is_waiting).min_by_key(|(_, kept)| kept.used);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            let mut kept = self.take(&name).expect("just found");
            note(kept.follower.mark().await);
        }
        let mut shown = self.board.shown();
        let excess = (self.bytes + shown.bytes).saturating_sub(self.board.bytes_max);
        shown.shed(excess);
    }
}

fn note(marked: Result<(), Error>) {
    if let Err(error) = marked {
        tracing::debug!(%error, "what is the latest of a name was not put down; it will be read again");
    }
}
