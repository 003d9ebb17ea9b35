//! The index's folder: opening it, or building it again, and writing to it.

use super::super::home::Segments;
use super::super::news::Forgotten;
use super::super::scan::{self, Place};
use super::audience;
use super::changes::{Changes, DAY_MS, InState, Marks, keys_key, last_u64, state_key};
use super::failed;
use crate::Error;
use crate::memory::IdWindow;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::RwLock;

const MIB: u64 = 1 << 20;
/// What a keyspace gathers before it writes a table. In memory it is several times as much, since its keys are small.
const MEMTABLE: u64 = 4 * MIB;
/// Bytes of log per batch while the log is read again.
const REPLAY_BYTES: u64 = MIB;
/// Of what the keyspaces hold. An index of another format is built again.
const FORMAT: i64 = 2;

pub(super) struct Store {
    pub db: Database,
    pub meta: Keyspace,
    pub keys: Keyspace,
    pub state: Keyspace,
    pub audience: Keyspace,
    pub days: RwLock<BTreeMap<i64, Keyspace>>,
}

impl Store {
    pub fn open(path: &Path, identity: i64, until: Place) -> Result<Self, Error> {
        if let Ok(store) = Self::try_open(path, identity)
            && store.applied()? <= until
        {
            return Ok(store);
        }
        // Another log's index, one that is ahead of the log, or a broken one: all it holds is in the segments.
        tracing::warn!("the index does not fit the log or is of an older format, and is built again");
        std::fs::remove_dir_all(path).map_err(Error::io("removing the index"))?;
        Self::try_open(path, identity)
    }

    fn try_open(path: &Path, identity: i64) -> Result<Self, Error> {
        let doing = "opening the index";
        let db = Database::builder(path)
            // One writes tables at once while the other merges them; what waits to be written is in memory.
            .worker_threads(2)
            .cache_size(2 * MIB)
            .max_journaling_size(64 * MIB)
            .max_cached_files(Some(64))
            .manual_journal_persist(true)
            .open()
            .map_err(failed(doing))?;
        let open = |name: &str, memtable| db.keyspace(name, || options(memtable)).map_err(failed(doing));
        let (meta, keys, state) = (open("meta", MIB)?, open("keys", MEMTABLE)?, open("state", MEMTABLE)?);
        let audience = open("audience", MEMTABLE)?;
        let mut days = BTreeMap::new();
        for name in db.list_keyspace_names() {
            if let Some(day) = name.strip_prefix("ids-").and_then(|d| d.parse().ok()) {
                days.insert(day, open(&name, MEMTABLE)?);
            }
        }
        let store = Self { db, meta, keys, state, audience, days: RwLock::new(days) };
        match store.meta_number("identity")? {
            Some(known) if known == identity && store.meta_number("format")? == Some(FORMAT) => Ok(store),
            None if store.meta_number("at")?.is_none() => {
                store.meta.insert("format", FORMAT.to_be_bytes()).map_err(failed(doing))?;
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

    pub fn applied(&self) -> Result<Place, Error> {
        let segment = self.meta_number("segment")?.unwrap_or(0) as u32;
        Ok(Place { segment, at: self.meta_number("at")?.unwrap_or(0) as u64 })
    }

    pub fn replay(
        &self,
        segments: &Segments,
        until: Place,
        is_closed: impl Fn() -> bool,
    ) -> Result<(), Error> {
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

    pub fn commit(&self, changes: Changes) -> Result<(), Error> {
        let doing = "writing the index";
        let mut batch = self.db.batch();
        changes.keys.into_iter().for_each(|key| batch.insert(&self.keys, key, []));
        changes.gone.into_iter().for_each(|key| batch.remove(&self.keys, key));
        for (key, newest) in changes.state {
            match newest {
                Some(InState { offset, is_routed }) => {
                    let mut value = [u8::from(is_routed); 9];
                    value[1..].copy_from_slice(&offset.to_be_bytes());
                    batch.insert(&self.state, key, value);
                }
                None => batch.remove(&self.state, key),
            }
        }
        for (topic, marks) in changes.marks {
            let marks = self.marks(topic).unwrap_or_default().max(marks);
            batch.insert(&self.state, topic.to_be_bytes(), marks.encode());
        }
        changes.audience.into_iter().for_each(|(key, value)| batch.insert(&self.audience, key, value));
        changes.audience_gone.into_iter().for_each(|key| batch.remove(&self.audience, key));
        for (topic, run) in changes.runs {
            let run = self.run(topic)?.map_or(run, |known| known.then(run));
            batch.insert(&self.audience, audience::run_key(topic), run.encode());
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
        let fresh = self.db.keyspace(&name, || options(MEMTABLE)).map_err(failed("writing the index"))?;
        self.days.write().expect("no panic while holding the lock").insert(day, fresh.clone());
        Ok(fresh)
    }

    /// Drops days that have left the window as seen from the newest day. Times of publishing never run
    /// backwards, so the newest day tells how late it is.
    pub fn drop_old_days(&self, window: IdWindow) -> Result<(), Error> {
        let mut days = self.days.write().expect("no panic while holding the lock");
        let Some((newest, _)) = days.last_key_value() else { return Ok(()) };
        let oldest = newest - window.age_ms.div_euclid(DAY_MS) - 1;
        while let Some(entry) = days.first_entry().filter(|e| *e.key() < oldest) {
            self.db.delete_keyspace(entry.remove()).map_err(failed("dropping old ids"))?;
        }
        Ok(())
    }

    /// What holds for State of the topic; nothing does where the index cannot say.
    pub fn marks(&self, topic: u32) -> Option<Marks> {
        Marks::decode(&self.state.get(topic.to_be_bytes()).ok()??)
    }

    /// Since where every event of the topic is found by user, and up to where.
    pub fn run(&self, topic: u32) -> Result<Option<audience::Run>, Error> {
        let found = self.audience.get(audience::run_key(topic)).map_err(failed("looking up an audience"))?;
        Ok(found.and_then(|value| audience::Run::decode(&value)))
    }

    pub fn forget(&self, events: &[Forgotten], changes: &mut Changes) -> Result<(), Error> {
        for event in events {
            changes.audience_gone.extend(audience::keys(event.topic, event.offset, &event.told));
            let Some(own) = &event.key else { continue };
            changes.gone.push(keys_key(event.topic, own, event.offset));
            let key = state_key(event.topic, own);
            let newest = match changes.state.get(&key) {
                Some(changed) => changed.map(|c| c.offset),
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
