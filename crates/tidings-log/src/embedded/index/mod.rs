//! The index: what can be rebuilt from the segments, in an LSM tree.
//!
//! Keyspaces: `keys` (topic, key, 0, offset) -> (); `state` (topic, key) -> offset of the newest event, and
//! (topic) -> the newest offset that was applied and the floor under State; `audience`, see there; `ids-DAY`
//! (topic, id) -> (offset, time), one keyspace per day of publishing, dropped when the window has passed; `meta`.
//! Numbers in keys are big endian.
//!
//! Owns: finding events by key and by user, State, and remembered ids. It follows the log as the side store
//! does; only events with a key, an audience or a client-given id reach it. Opening and catching up happen on its own thread; whoever
//! needs it waits. Never: the only place of anything (except ids of events that cleaning removed: if the folder
//! is deleted, those repeats are no longer recognised).

mod audience;
mod changes;
mod store;

use super::feed::Feed;
use super::home::Segments;
use super::news::News;
use super::scan::Place;
use crate::Error;
use crate::memory::IdWindow;
use changes::{Changes, DAY_MS, id_key, keys_key, last_u64, state_key};
use fjall::{PersistMode, Readable, Snapshot};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use store::Store;
use tidings_model::Uuid;

const MIB: u64 = 1 << 20;
/// After so many failures in a row the index is built again.
const FAILURES_MAX: u32 = 5;

/// The index.
pub struct Index {
    pub feed: Feed<News>,
    path: PathBuf,
    /// Of the log that this index must follow.
    identity: i64,
    window: IdWindow,
    store: RwLock<Option<Arc<Store>>>,
    /// Up to where the log was applied since the start.
    reached: Mutex<Place>,
}

/// Where a remembered id was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    pub offset: u64,
    /// In milliseconds.
    pub time: i64,
}

/// State as of one moment.
pub struct StateAt {
    /// Ascending.
    pub offsets: Vec<u64>,
    /// The newest keyed event that is taken into account.
    pub newest: u64,
}

impl Index {
    pub fn new(path: PathBuf, identity: i64, window: IdWindow, unapplied_bytes_max: usize) -> Self {
        let feed = Feed::new("the index", unapplied_bytes_max);
        Self { feed, path, identity, window, store: RwLock::new(None), reached: Mutex::default() }
    }

    /// Opens the folder, then applies the feed until it is closed.
    pub fn follow(&self, segments: &Segments) {
        let mut failures = 0;
        while let Some(news) = self.feed.peek(MIB as usize) {
            let applied = match failures {
                FAILURES_MAX => self.build_again(segments).and_then(|()| self.apply(segments, &news)),
                _ => self.apply(segments, &news),
            };
            match applied {
                Ok(()) => {
                    failures = 0;
                    self.feed.done(news.len());
                }
                Err(e) => {
                    failures = failures % FAILURES_MAX + 1;
                    if !self.feed.failed(&e.to_string()) {
                        break;
                    }
                }
            }
        }
        let store = self.store.write().expect("no panic while holding the lock").take();
        if let Some(Err(e)) = store.map(|s| s.db.persist(PersistMode::SyncAll)) {
            tracing::warn!(error = %e, "the index was not synced; the next start repeats a little");
        }
    }

    /// Takes in what lies between the place applied last and `until`.
    fn open(&self, segments: &Segments, until: Place) -> Result<(), Error> {
        let store = Store::open(&self.path, self.identity, until)?;
        store.replay(segments, until, || self.feed.is_closed())?;
        self.reached(until);
        *self.store.write().expect("no panic while holding the lock") = Some(Arc::new(store));
        Ok(())
    }

    /// Gives up an index that cannot be written any more for a new one.
    fn build_again(&self, segments: &Segments) -> Result<(), Error> {
        *self.store.write().expect("no panic while holding the lock") = None;
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing the index")(e));
            }
            _ => {}
        }
        let until = *self.reached.lock().expect("no panic while holding the lock");
        if until == Place::default() { Ok(()) } else { self.open(segments, until) }
    }

    fn reached(&self, place: Place) {
        let mut reached = self.reached.lock().expect("no panic while holding the lock");
        *reached = place.max(*reached);
    }

    fn apply(&self, segments: &Segments, news: &[News]) -> Result<(), Error> {
        if let [News::Opened(until), ..] = news {
            self.open(segments, *until)?;
        }
        let store = self.store()?;
        let mut changes = Changes::default();
        for one in news {
            match one {
                News::Written(written) => {
                    written.entries().for_each(|entry| changes.entry(&entry));
                    changes.applied = Some(written.end());
                }
                News::Sealed { number, sidecar } => {
                    changes.applied = changes.applied.max(Some(Place { segment: *number, at: sidecar.end }));
                }
                News::Forgotten(events) => store.forget(events, &mut changes)?,
                News::Closed(place) => changes.applied = Some(*place),
                News::Opened(_) | News::Rewritten { .. } | News::Removed { .. } => {}
            }
        }
        let applied = changes.applied;
        store.commit(changes)?;
        self.reached(applied.unwrap_or_default());
        store.drop_old_days(self.window)
    }

    fn store(&self) -> Result<Arc<Store>, Error> {
        self.store.read().expect("no panic while holding the lock").clone().ok_or(Error::IndexBehind)
    }

    /// Where the id was published, if that was within the window; what is not yet applied the caller knows.
    pub fn remembered(&self, topic: u32, id: Uuid, now: i64) -> Result<Option<Remembered>, Error> {
        let store = self.store()?;
        let oldest = now.saturating_sub(self.window.age_ms).div_euclid(DAY_MS);
        let days = store.days.read().expect("no panic while holding the lock");
        for (_, day) in days.range(oldest..).rev() {
            if let Some(value) = day.get(id_key(topic, id)).map_err(failed("looking up an id"))? {
                let number = |at: usize| u64::from_be_bytes(value[at..at + 8].try_into().expect("16 bytes"));
                return Ok(Some(Remembered { offset: number(0), time: number(8) as i64 }));
            }
        }
        Ok(None)
    }

    /// Offsets of the key's events, from `from` on, ascending.
    pub fn offsets(
        &self,
        topic: u32,
        key: &str,
        from: u64,
    ) -> Result<impl Iterator<Item = Result<u64, Error>> + use<>, Error> {
        let store = self.store()?;
        let range = keys_key(topic, key, from)..=keys_key(topic, key, u64::MAX);
        Ok(store.keys.range(range).map(|guard| {
            let found = guard.key().map_err(failed("looking up a key"))?;
            Ok(last_u64(&found))
        }))
    }

    /// The newest event of one key, unless that deletes it.
    pub fn newest(&self, topic: u32, key: &str) -> Result<Option<u64>, Error> {
        let store = self.store()?;
        let found = store.state.get(state_key(topic, key)).map_err(failed("looking up State"))?;
        match found.map(|value| last_u64(&value)) {
            // Whatever lies under the floor was emptied.
            Some(newest) => Ok(Some(newest).filter(|_| newest >= store.marks(topic).map_or(0, |m| m.floor))),
            None => Ok(None),
        }
    }

    /// State of a whole topic.
    pub fn state(&self, topic: u32) -> Result<StateAt, Error> {
        self.state_where(topic, |_| true)
    }

    /// State of a whole topic as far as `is_wanted`, which is told whether an event is found by user.
    fn state_where(&self, topic: u32, is_wanted: impl Fn(bool) -> bool) -> Result<StateAt, Error> {
        let store = self.store()?;
        let mut state = StateAt { offsets: Vec::new(), newest: 0 };
        let mut floor = 0;
        let snapshot: Snapshot = store.db.snapshot();
        for guard in snapshot.prefix(&store.state, topic.to_be_bytes()) {
            let (key, value) = guard.into_inner().map_err(failed("reading State"))?;
            if key.len() == 4 {
                // First of all, since it is the shortest.
                (state.newest, floor) =
                    changes::Marks::decode(&value).map_or((0, 0), |m| (m.newest, m.floor));
            } else if last_u64(&value) >= floor && is_wanted(value[0] != 0) {
                state.offsets.push(last_u64(&value));
            }
        }
        state.offsets.sort_unstable();
        Ok(state)
    }

    /// Makes everything applied so far survive a power cut, and says how far that is.
    pub fn persist(&self) -> Result<Place, Error> {
        let store = self.store()?;
        let applied = store.applied()?;
        store.db.persist(PersistMode::SyncAll).map_err(failed("syncing the index"))?;
        Ok(applied)
    }
}

fn failed(doing: &str) -> impl FnOnce(fjall::Error) -> Error {
    move |e| Error::Store { doing: doing.to_owned(), what: e.to_string() }
}
