//! Which sources there are and how each is doing: what `/v1/sources`, `/readyz` and the metrics tell.
//!
//! Owns: the list and its numbers. A source's own task reports through its [`SourceReport`]; everybody else reads.
//! Never: talks to a database; keeps anything over a restart (positions are marks in the log).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidings_log::Clock;
use tidings_model::{Code, Timestamp};
use tokio::sync::watch;

/// All sources of one Tidings. Cheap to clone.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    all: Mutex<Vec<Arc<Entry>>>,
    /// Counts every change of a state.
    changed: watch::Sender<u64>,
}

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// A connection is being made.
    Connecting,
    /// The rows that were there before are being read.
    Snapshot,
    /// Changes arrive as they are committed.
    Streaming,
    /// The connection was lost; the next try is near.
    Waiting,
    /// Somebody has to change something, here or in the database. It is tried again all the same.
    Failed,
}

impl SourceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Snapshot => "snapshot",
            Self::Streaming => "streaming",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        }
    }

    fn is_well(self) -> bool {
        matches!(self, Self::Snapshot | Self::Streaming)
    }
}

/// How one source is doing now.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    pub name: String,
    /// `postgres` or `mysql`.
    pub kind: &'static str,
    /// How changes are found: `logical`, `binlog` or `triggers`.
    pub mode: &'static str,
    /// Where the database is, without a user or a password.
    pub database: String,
    pub state: SourceState,
    /// Since when it has been in this state.
    pub since: Timestamp,
    /// Everything up to here is in the log, in the database's own words.
    pub position: Option<String>,
    /// What the database has written and the log does not hold yet.
    pub lag_bytes: Option<u64>,
    /// How long ago the newest change was committed that is in the log, while there is more to take; else 0.
    pub lag: Option<Duration>,
    /// What the database keeps on its disk for this source.
    pub retained_bytes: Option<u64>,
    /// From here on that is too much.
    pub retained_bytes_alarm: Option<u64>,
    /// The last thing that went wrong, and when. Stays after it has been overcome.
    pub error: Option<(Timestamp, String)>,
    /// Events captured and connections that broke or were refused, since the start.
    pub events: u64,
    pub failures: u64,
}

impl SourceStatus {
    /// Whether the database keeps more for this source than it should.
    pub fn is_alarming(&self) -> bool {
        matches!((self.retained_bytes, self.retained_bytes_alarm), (Some(now), Some(max)) if now > max)
    }
}

struct Entry {
    changing: Mutex<SourceStatus>,
    events: AtomicU64,
}

/// A source's own pen.
#[derive(Clone)]
pub struct SourceReport {
    entry: Arc<Entry>,
    sources: Sources,
}

impl Sources {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, all: Mutex::default(), changed: watch::Sender::new(0) }))
    }

    /// A source that begins to connect.
    pub fn register(
        &self,
        name: &str,
        kind: &'static str,
        mode: &'static str,
        database: &str,
    ) -> SourceReport {
        let status = SourceStatus {
            name: name.to_owned(),
            kind,
            mode,
            database: database.to_owned(),
            state: SourceState::Connecting,
            since: self.0.clock.now(),
            position: None,
            lag_bytes: None,
            lag: None,
            retained_bytes: None,
            retained_bytes_alarm: None,
            error: None,
            events: 0,
            failures: 0,
        };
        let entry = Arc::new(Entry { changing: Mutex::new(status), events: AtomicU64::new(0) });
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&entry));
        SourceReport { entry, sources: self.clone() }
    }

    /// All sources in the order in which they were registered.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|entry| entry.status()).collect()
    }

    /// Why the server is not ready as far as its sources go.
    pub fn unready(&self) -> Option<Code> {
        let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|entry| !entry.state().is_well()).then_some(Code::SourceUnavailable)
    }

    /// Waits until each source has connected once or failed to, at most `limit`.
    pub async fn settled(&self, limit: Duration) {
        let mut changed = self.0.changed.subscribe();
        let is_settled = || {
            let all = self.0.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().all(|entry| entry.state() != SourceState::Connecting)
        };
        let _ =
            tokio::time::timeout(limit, async { while !is_settled() && changed.changed().await.is_ok() {} })
                .await;
    }
}

impl Entry {
    fn state(&self) -> SourceState {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner).state
    }

    fn status(&self) -> SourceStatus {
        let status = self.changing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SourceStatus { events: self.events.load(Ordering::Relaxed), ..status }
    }
}

impl SourceReport {
    pub fn connecting(&self) {
        self.enter(SourceState::Connecting, None);
    }

    pub fn snapshot(&self) {
        self.enter(SourceState::Snapshot, None);
    }

    pub fn streaming(&self) {
        self.enter(SourceState::Streaming, None);
    }

    /// The connection broke; the next try is near. `why` is a sentence for whoever runs the server.
    pub fn waiting(&self, why: &str) {
        self.enter(SourceState::Waiting, Some(why));
    }

    /// Nothing will come before somebody changes something; `why` says what.
    pub fn failed(&self, why: &str) {
        self.enter(SourceState::Failed, Some(why));
    }

    /// Something went wrong that does not end the connection.
    pub fn complain(&self, why: &str) {
        let now = self.sources.0.clock.now();
        self.change(|status| status.error = Some((now, why.to_owned())));
    }

    /// Everything up to `position` is in the log.
    pub fn position(&self, position: impl Into<String>) {
        let position = position.into();
        self.change(|status| status.position = Some(position));
    }

    /// How long ago the newest change was committed that is in the log, while there is more to take; else 0.
    pub fn lag(&self, time: Option<Duration>) {
        self.change(|status| status.lag = time);
    }

    /// What the database has written and the log does not hold yet.
    pub fn lag_bytes(&self, bytes: Option<u64>) {
        self.change(|status| status.lag_bytes = bytes);
    }

    /// How changes are found, where that shows only once there is a connection.
    pub fn mode(&self, mode: &'static str) {
        self.change(|status| status.mode = mode);
    }

    /// What the database keeps for this source, and from where on that is too much.
    pub fn retained(&self, bytes: Option<u64>, alarm: Option<u64>) {
        self.change(|status| (status.retained_bytes, status.retained_bytes_alarm) = (bytes, alarm));
    }

    /// Events are in the log.
    pub fn captured(&self, events: usize) {
        self.entry.events.fetch_add(events as u64, Ordering::Relaxed);
    }

    fn enter(&self, state: SourceState, error: Option<&str>) {
        let now = self.sources.0.clock.now();
        self.change(|status| {
            if status.state != state {
                if state == SourceState::Streaming {
                    let (source, mode, database) = (&status.name, status.mode, &status.database);
                    match status.error {
                        None => tracing::info!(source, mode, database, "a source is captured"),
                        Some(_) => tracing::info!(source, mode, database, "a source is captured again"),
                    }
                }
                (status.state, status.since) = (state, now);
            }
            if let Some(error) = error {
                status.error = Some((now, error.to_owned()));
                status.failures += 1;
            }
        });
        self.sources.0.changed.send_modify(|n| *n += 1);
    }

    fn change(&self, change: impl FnOnce(&mut SourceStatus)) {
        change(&mut self.entry.changing.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_log::SystemClock;

    #[tokio::test]
    async fn a_source_is_ready_while_it_streams_and_keeps_its_last_error() {
        let sources = Sources::new(Arc::new(SystemClock));
        assert_eq!(sources.unready(), None);
        let report = sources.register("shop", "postgres", "logical", "127.0.0.1:5432/shop");
        assert_eq!(sources.unready(), Some(Code::SourceUnavailable));
        report.streaming();
        sources.settled(Duration::from_secs(60)).await;
        assert_eq!(sources.unready(), None);
        report.waiting("the connection broke");
        assert_eq!(sources.unready(), Some(Code::SourceUnavailable));
        report.streaming();
        report.retained(Some(11), Some(10));
        report.captured(3);
        let status = sources.statuses().remove(0);
        assert_eq!((status.events, status.failures, status.is_alarming()), (3, 1, true));
        assert_eq!(status.error.unwrap().1, "the connection broke");
    }
}
