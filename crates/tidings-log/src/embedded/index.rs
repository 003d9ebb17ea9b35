//! The index: what can be rebuilt from the segments, in an LSM tree.
//!
//! Keyspaces: `keys` (topic, key, 0, offset) -> (); `state` (topic, key) -> offset of the newest event, and
//! (topic) -> the newest keyed offset that was applied; `ids-DAY` (topic, id) -> (offset, time), one keyspace
//! per day of publishing, dropped when the window has passed; `meta`. Numbers in keys are big endian.
//!
//! Owns: finding events by key, State, and remembered ids. It follows the log as the side store does; only
//! events with a key or a client-given id reach it. Opening and catching up happen on its own thread; whoever
//! needs it waits. Never: the only place of anything (except ids of events that cleaning removed: if the folder
//! is deleted, those repeats are no longer recognised).

use super::entry::Entry;
use super::feed::Feed;
use super::home::Segments;
use super::news::News;
use super::scan::{self, Place};
use crate::Error;
use crate::memory::IdWindow;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use tidings_model::{RecordWriter, Uuid};

const DAY_MS: i64 = 86_400_000;
const MIB: u64 = 1 << 20;
/// After so many failures in a row the index is built again.
const FAILURES_MAX: u32 = 5;
/// Bytes of log per batch while the log is read again.
const REPLAY_BYTES: u64 = MIB;

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

struct Store {
    db: Database,
    meta: Keyspace,
    keys: Keyspace,
    state: Keyspace,
    days: RwLock<BTreeMap<i64, Keyspace>>,
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
                News::Forgotten(keyed) => store.forget(keyed, &mut changes)?,
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
        Ok(found.map(|value| last_u64(&value)))
    }

    /// State of a whole topic.
    pub fn state(&self, topic: u32) -> Result<StateAt, Error> {
        let store = self.store()?;
        let mut state = StateAt { offsets: Vec::new(), newest: 0 };
        let snapshot: Snapshot = store.db.snapshot();
        for guard in snapshot.prefix(&store.state, topic.to_be_bytes()) {
            let (key, value) = guard.into_inner().map_err(failed("reading State"))?;
            match key.len() {
                4 => state.newest = last_u64(&value),
                _ => state.offsets.push(last_u64(&value)),
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

/// What one batch changes. The newest change of a key wins: a batch must not hold a key twice.
#[derive(Default)]
struct Changes {
    keys: Vec<Vec<u8>>,
    gone: Vec<Vec<u8>>,
    /// `None` takes the key out of State.
    state: HashMap<Vec<u8>, Option<u64>>,
    ids: HashMap<(i64, [u8; 20]), Remembered>,
    applied: Option<Place>,
}

impl Changes {
    fn entry(&mut self, entry: &Entry<'_>) {
        let Entry::Event(event) = entry else { return };
        let (id, id_given, key, deletes) = RecordWriter::peek(event.record);
        if let Some(key) = key {
            self.keys.push(keys_key(event.topic, key, event.offset));
            self.state.insert(state_key(event.topic, key), (!deletes).then_some(event.offset));
            self.state.insert(event.topic.to_be_bytes().to_vec(), Some(event.offset));
        }
        if id_given {
            let time = scan::published_ms(event.record);
            let at = Remembered { offset: event.offset, time };
            self.ids.insert((time.div_euclid(DAY_MS), id_key(event.topic, id)), at);
        }
    }
}

impl Store {
    fn open(path: &Path, identity: i64, until: Place) -> Result<Self, Error> {
        if let Ok(store) = Self::try_open(path, identity)
            && store.applied()? <= until
        {
            return Ok(store);
        }
        // Another log's index, one that is ahead of the log, or a broken one: all it holds is in the segments.
        tracing::warn!("the index does not fit the log and is built again");
        std::fs::remove_dir_all(path).map_err(Error::io("removing the index"))?;
        Self::try_open(path, identity)
    }

    fn try_open(path: &Path, identity: i64) -> Result<Self, Error> {
        let doing = "opening the index";
        let db = Database::builder(path)
            .worker_threads(1)
            .cache_size(2 * MIB)
            .max_journaling_size(64 * MIB)
            .max_cached_files(Some(64))
            .manual_journal_persist(true)
            .open()
            .map_err(failed(doing))?;
        let open = |name: &str, memtable| db.keyspace(name, || options(memtable)).map_err(failed(doing));
        let (meta, keys, state) = (open("meta", MIB)?, open("keys", 8 * MIB)?, open("state", 8 * MIB)?);
        let mut days = BTreeMap::new();
        for name in db.list_keyspace_names() {
            if let Some(day) = name.strip_prefix("ids-").and_then(|d| d.parse().ok()) {
                days.insert(day, open(&name, 8 * MIB)?);
            }
        }
        let store = Self { db, meta, keys, state, days: RwLock::new(days) };
        match store.meta_number("identity")? {
            Some(known) if known == identity => Ok(store),
            None if store.meta_number("at")?.is_none() => {
                store.meta.insert("identity", identity.to_be_bytes()).map_err(failed(doing))?;
                Ok(store)
            }
            _ => Err(Error::IndexBehind),
        }
    }

    fn meta_number(&self, name: &str) -> Result<Option<i64>, Error> {
        let value = self.meta.get(name).map_err(failed("reading the index"))?;
        Ok(value.map(|v| i64::from_be_bytes((*v).try_into().expect("8 bytes"))))
    }

    fn applied(&self) -> Result<Place, Error> {
        let segment = self.meta_number("segment")?.unwrap_or(0) as u32;
        Ok(Place { segment, at: self.meta_number("at")?.unwrap_or(0) as u64 })
    }

    fn replay(&self, segments: &Segments, until: Place, is_closed: impl Fn() -> bool) -> Result<(), Error> {
        let mut saved = self.applied()?;
        let mut changes = Changes::default();
        scan::replay(segments, saved, until, |end, record| {
            record.entries().for_each(|entry| changes.entry(&entry));
            changes.applied = Some(end);
            if end.segment != saved.segment || end.at - saved.at > REPLAY_BYTES {
                saved = end;
                self.commit(std::mem::take(&mut changes))?;
                return if is_closed() { Err(Error::Closed) } else { Ok(()) };
            }
            Ok(())
        })?;
        changes.applied = Some(until);
        self.commit(changes)
    }

    fn commit(&self, changes: Changes) -> Result<(), Error> {
        let doing = "writing the index";
        let mut batch = self.db.batch();
        changes.keys.into_iter().for_each(|key| batch.insert(&self.keys, key, []));
        changes.gone.into_iter().for_each(|key| batch.remove(&self.keys, key));
        for (key, offset) in changes.state {
            match offset {
                Some(offset) => batch.insert(&self.state, key, offset.to_be_bytes()),
                None => batch.remove(&self.state, key),
            }
        }
        for ((day, key), at) in changes.ids {
            let mut value = [0; 16];
            value[..8].copy_from_slice(&at.offset.to_be_bytes());
            value[8..].copy_from_slice(&at.time.to_be_bytes());
            batch.insert(&self.day(day)?, key, value);
        }
        if let Some(place) = changes.applied
            && place > self.applied()?
        {
            batch.insert(&self.meta, "segment", i64::from(place.segment).to_be_bytes());
            batch.insert(&self.meta, "at", place.at.to_be_bytes());
        }
        batch.commit().map_err(failed(doing))
    }

    fn day(&self, day: i64) -> Result<Keyspace, Error> {
        if let Some(known) = self.days.read().expect("no panic while holding the lock").get(&day) {
            return Ok(known.clone());
        }
        let name = format!("ids-{day}");
        let fresh = self.db.keyspace(&name, || options(8 * MIB)).map_err(failed("writing the index"))?;
        self.days.write().expect("no panic while holding the lock").insert(day, fresh.clone());
        Ok(fresh)
    }

    /// Drops days that have left the window as seen from the newest day. Times of publishing never run
    /// backwards, so the newest day tells how late it is.
    fn drop_old_days(&self, window: IdWindow) -> Result<(), Error> {
        let mut days = self.days.write().expect("no panic while holding the lock");
        let Some((newest, _)) = days.last_key_value() else { return Ok(()) };
        let oldest = newest - window.age_ms.div_euclid(DAY_MS) - 1;
        while let Some(entry) = days.first_entry().filter(|e| *e.key() < oldest) {
            self.db.delete_keyspace(entry.remove()).map_err(failed("dropping old ids"))?;
        }
        Ok(())
    }

    fn forget(&self, keyed: &[super::news::Keyed], changes: &mut Changes) -> Result<(), Error> {
        for event in keyed {
            changes.gone.push(keys_key(event.topic, &event.key, event.offset));
            let key = state_key(event.topic, &event.key);
            let newest = match changes.state.get(&key) {
                Some(changed) => *changed,
                None => {
                    let found = self.state.get(&key).map_err(failed("looking up State"))?;
                    found.map(|value| last_u64(&value))
                }
            };
            if newest == Some(event.offset) {
                changes.state.insert(key, None);
            }
        }
        Ok(())
    }
}

fn options(memtable: u64) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(memtable)
}

fn state_key(topic: u32, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len());
    out.extend_from_slice(&topic.to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out
}

/// Keys hold no control characters, so the zero byte ends them and no key is another's prefix.
fn keys_key(topic: u32, key: &str, offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(13 + key.len());
    out.extend_from_slice(&topic.to_be_bytes());
    out.extend_from_slice(key.as_bytes());
    out.push(0);
    out.extend_from_slice(&offset.to_be_bytes());
    out
}

fn id_key(topic: u32, id: Uuid) -> [u8; 20] {
    let mut out = [0; 20];
    out[..4].copy_from_slice(&topic.to_be_bytes());
    out[4..].copy_from_slice(id.as_bytes());
    out
}

fn last_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().expect("8 bytes"))
}

fn failed(doing: &str) -> impl FnOnce(fjall::Error) -> Error {
    move |e| Error::Store { doing: doing.to_owned(), what: e.to_string() }
}
