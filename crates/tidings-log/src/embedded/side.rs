//! The side store: what is small and precious, in SQLite.
//!
//! Owns: topics, which closed segment holds which offsets, scheduled events, marks, the registry. It follows
//! the log: one thread applies what the segments say, in order, and stores the place it has applied in the same
//! transaction; after a crash it goes on from there. So its own commits need no sync: what a power cut takes
//! from it is still in the segments, which are only removed after a checkpoint. Never: is ahead of the log.

use super::catalog::Ends;
use super::feed::Feed;
use super::home::Segments;
use super::news::News;
use super::scan::Place;
use super::side_apply;
use crate::Error;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use tidings_model::{Timestamp, TopicName};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS topics (
        id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, name TEXT NOT NULL,
        tail INTEGER NOT NULL, oldest INTEGER NOT NULL, state_floor INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS segments (
        number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS spans (
        shelf INTEGER NOT NULL, topic INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        segment INTEGER NOT NULL, first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
        bytes INTEGER NOT NULL, PRIMARY KEY (shelf, topic, first)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS due (
        seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at INTEGER NOT NULL, topic TEXT NOT NULL, key TEXT,
        owner TEXT, record BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS due_at ON due (at, seq);
    CREATE INDEX IF NOT EXISTS due_topic ON due (topic, at, seq);
    CREATE INDEX IF NOT EXISTS due_key ON due (key, at, seq) WHERE key IS NOT NULL;
    CREATE INDEX IF NOT EXISTS due_owner ON due (owner, at, seq) WHERE owner IS NOT NULL;
    CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS registry (
        kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
";

/// Rows of so many neighbouring segments lie together in `spans`: with thousands of topics, closing a segment
/// then changes few pages, and a lookup still needs few probes.
pub const SEGMENTS_PER_SHELF: u32 = 8;

/// The side store.
pub struct Side {
    pub feed: Feed<News>,
    path: PathBuf,
    /// Shared by readers.
    reader: Mutex<Connection>,
    /// The writer's own, so that no reader delays a commit.
    decider: Mutex<Connection>,
}

/// A topic as stored when its last segment was closed.
pub struct TopicRow {
    pub id: u32,
    pub epoch: u32,
    pub name: TopicName,
    pub ends: Ends,
}

/// What a closed segment holds of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRow {
    pub topic: u32,
    pub first: u64,
    pub last: u64,
    pub segment: u32,
    pub first_time: i64,
    pub last_time: i64,
    pub bytes: u64,
}

/// What opening the log needs to know.
pub struct Stored {
    /// Up to where the log has been applied.
    pub applied: Place,
    pub topics: Vec<TopicRow>,
    /// Closed segments that `spans` knows, ascending.
    pub segments: Vec<u32>,
    /// The greatest topic id ever given.
    pub topic_id_max: u32,
    /// The latest time of publishing in those segments, in milliseconds.
    pub last_time: i64,
}

impl Side {
    /// Opens or creates the file. Returns the connection that applies, for [`Side::follow`].
    pub fn open(path: &Path, unapplied_bytes_max: usize) -> Result<(Self, Connection), Error> {
        let applier = connect(path, 2048)?;
        applier.execute_batch(SCHEMA).map_err(failed("creating the side store"))?;
        let reader = Mutex::new(connect(path, 512)?);
        let decider = Mutex::new(connect(path, 256)?);
        let feed = Feed::new("the side store", unapplied_bytes_max);
        Ok((Self { feed, path: path.to_owned(), reader, decider }, applier))
    }

    /// Applies the feed until it is closed.
    pub fn follow(&self, mut db: Connection, segments: &Segments, registered: impl Fn(u32)) {
        while let Some(news) = self.feed.peek(4 << 20) {
            match side_apply::apply(&mut db, segments, &news) {
                Ok(()) => {
                    news.iter().for_each(|n| {
                        if let News::Sealed { number, .. } = n {
                            registered(*number);
                        }
                    });
                    self.feed.done(news.len());
                }
                Err(e) => {
                    if !self.feed.failed(&e.to_string()) {
                        return;
                    }
                }
            }
        }
        if let Err(e) = checkpoint(&db) {
            tracing::warn!(error = %e, "the side store was not checkpointed; the next start repeats a little");
        }
    }

    /// Makes everything applied so far survive a power cut, and says how far that is.
    pub fn persist(&self) -> Result<Place, Error> {
        let db = connect(&self.path, 64)?;
        let applied = applied(&db)?;
        checkpoint(&db)?;
        Ok(applied)
    }

    pub fn stored(&self) -> Result<Stored, Error> {
        let db = self.reading();
        let doing = "reading topics";
        let topics =
            query(&db, doing, "SELECT id, epoch, name, tail, oldest, state_floor FROM topics", [], |row| {
                let name: String = row.get(2)?;
                let ends = Ends {
                    tail: unsigned(row, 3)?,
                    oldest: unsigned(row, 4)?,
                    state_floor: unsigned(row, 5)?,
                };
                Ok((row.get(0)?, row.get(1)?, name, ends))
            })?;
        let topics = topics
            .into_iter()
            .map(|(id, epoch, name, ends)| Ok(TopicRow { id, epoch, name: topic_name(&name)?, ends }))
            .collect::<Result<_, Error>>()?;
        let sql = "SELECT number FROM segments ORDER BY number";
        Ok(Stored {
            applied: applied(&db)?,
            topics,
            segments: query(&db, "reading segments", sql, [], |row| row.get(0))?,
            topic_id_max: meta(&db, "topic_id")?.unwrap_or(0) as u32,
            last_time: meta(&db, "last_time")?.unwrap_or(0),
        })
    }

    /// The number that tells this log from any other; the index is built again if it follows another log.
    pub fn identity(&self) -> Result<i64, Error> {
        let db = self.reading();
        if let Some(known) = meta(&db, "identity")? {
            return Ok(known);
        }
        let fresh = (getrandom::u64().expect("the system has randomness") >> 1) as i64;
        set_meta(&db, "identity", fresh)?;
        Ok(fresh)
    }

    /// Which closed segment holds the topic's first event at or after `offset`, and the last offset it holds.
    /// The row may be older than the segment, so the event may be gone.
    pub fn locate(&self, topic: u32, offset: u64) -> Result<Option<(u32, u64)>, Error> {
        let db = self.reading();
        let shelves = shelves(&db)?;
        let doing = "finding an event";
        let place = |row: &Row<'_>| Ok((row.get(0)?, unsigned(row, 1)?));
        let at_or_before = "SELECT segment, last FROM spans WHERE shelf = ?1 AND topic = ?2 AND first <= ?3
            ORDER BY first DESC LIMIT 1";
        for shelf in shelves.iter().rev() {
            let found = query(&db, doing, at_or_before, params![shelf, topic, signed(offset)], place)?;
            match found.first() {
                Some((segment, last)) if *last >= offset => return Ok(Some((*segment, *last))),
                Some(_) => break,
                None => {}
            }
        }
        let after = "SELECT segment, last FROM spans WHERE shelf = ?1 AND topic = ?2 AND first > ?3
            ORDER BY first LIMIT 1";
        for shelf in shelves {
            let found = query(&db, doing, after, params![shelf, topic, signed(offset)], place)?;
            if let Some(found) = found.first() {
                return Ok(Some(*found));
            }
        }
        Ok(None)
    }

    /// What closed segments hold of the topic, by offset.
    pub fn spans(&self, topic: u32) -> Result<Vec<SpanRow>, Error> {
        let db = self.reading();
        let sql = format!("{SPAN} WHERE shelf = ?1 AND topic = ?2 ORDER BY first");
        let mut spans = Vec::new();
        for shelf in shelves(&db)? {
            spans.extend(query(&db, "reading spans", &sql, params![shelf, topic], span)?);
        }
        Ok(spans)
    }

    /// What a closed segment holds, by topic.
    pub fn spans_in(&self, segment: u32) -> Result<Vec<SpanRow>, Error> {
        let sql = format!("{SPAN} WHERE shelf = ?1 AND segment = ?2");
        let shelf = segment / SEGMENTS_PER_SHELF;
        query(&self.reading(), "reading spans", &sql, params![shelf, segment], span)
    }

    /// Closed segments with their bytes, ascending.
    pub fn sealed(&self) -> Result<Vec<(u32, u64)>, Error> {
        let sql = "SELECT number, bytes FROM segments ORDER BY number";
        query(&self.reading(), "reading segments", sql, [], |row| Ok((row.get(0)?, unsigned(row, 1)?)))
    }

    pub fn mark(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let sql = "SELECT value FROM marks WHERE name = ?1";
        let found = query(&self.reading(), "reading a mark", sql, [name], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(found.into_iter().next().map(Bytes::from))
    }

    pub fn registry(&self, kind: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let sql = "SELECT key, value FROM registry WHERE kind = ?1 ORDER BY key";
        query(&self.reading(), "reading the registry", sql, [kind], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?.into()))
        })
    }

    pub fn registry_page(
        &self,
        kind: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        // One text with OR would not be looked up in the index.
        let beyond = if after.is_some() { "key > ?2" } else { "?2 IS NULL" };
        let sql =
            format!("SELECT key, value FROM registry WHERE kind = ?1 AND {beyond} ORDER BY key LIMIT ?3");
        query(&self.reading(), "reading the registry", &sql, params![kind, after, max as i64], |row| {
            Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?.into()))
        })
    }

    pub fn registered(&self, kind: &str, key: &str) -> Result<Option<Bytes>, Error> {
        let sql = "SELECT value FROM registry WHERE kind = ?1 AND key = ?2";
        let found =
            query(&self.reading(), "reading the registry", sql, [kind, key], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(found.into_iter().next().map(Bytes::from))
    }

    /// The connection of the writer, which waits for no reader.
    pub fn deciding(&self) -> MutexGuard<'_, Connection> {
        self.decider.lock().expect("no panic while holding the lock")
    }

    /// The connection that readers share.
    pub fn reading(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().expect("no panic while holding the lock")
    }
}

const SPAN: &str = "SELECT topic, first, last, segment, first_time, last_time, bytes FROM spans";

fn span(row: &Row<'_>) -> rusqlite::Result<SpanRow> {
    Ok(SpanRow {
        topic: row.get(0)?,
        first: unsigned(row, 1)?,
        last: unsigned(row, 2)?,
        segment: row.get(3)?,
        first_time: row.get(4)?,
        last_time: row.get(5)?,
        bytes: unsigned(row, 6)?,
    })
}

/// The groups of segments that `spans` has rows of, ascending.
fn shelves(db: &Connection) -> Result<Vec<u32>, Error> {
    let sql = "SELECT DISTINCT number / ?1 FROM segments ORDER BY 1";
    query(db, "reading segments", sql, [SEGMENTS_PER_SHELF], |row| row.get(0))
}

pub fn timestamp(ms: i64) -> Result<Timestamp, Error> {
    Timestamp::from_millis(ms).ok_or_else(|| store("reading a time", &"out of range"))
}

pub fn topic_name(text: &str) -> Result<TopicName, Error> {
    TopicName::parse_captured(text).map_err(|e| store("reading a topic's name", &e))
}

fn connect(path: &Path, cache_kib: i64) -> Result<Connection, Error> {
    let doing = "opening the side store";
    let db = Connection::open(path).map_err(failed(doing))?;
    db.set_prepared_statement_cache_capacity(32);
    let pragmas = format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{cache_kib};
         PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 8388608; PRAGMA busy_timeout = 10000;"
    );
    db.execute_batch(&pragmas).map_err(failed(doing))?;
    Ok(db)
}

fn checkpoint(db: &Connection) -> Result<(), Error> {
    db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
        .map_err(failed("checkpointing the side store"))
}

/// Up to where the log has been applied.
pub fn applied(db: &Connection) -> Result<Place, Error> {
    let segment = meta(db, "segment")?.unwrap_or(0) as u32;
    Ok(Place { segment, at: meta(db, "at")?.unwrap_or(0) as u64 })
}

pub fn meta(db: &Connection, name: &str) -> Result<Option<i64>, Error> {
    db.prepare_cached("SELECT value FROM meta WHERE name = ?1")
        .and_then(|mut s| s.query_row([name], |row| row.get(0)).optional())
        .map_err(failed("reading the side store"))
}

pub fn set_meta(db: &Connection, name: &str, value: i64) -> Result<(), Error> {
    db.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")
        .and_then(|mut s| s.execute(params![name, value]))
        .map(drop)
        .map_err(failed("writing the side store"))
}

pub fn query<T>(
    db: &Connection,
    doing: &str,
    sql: &str,
    params: impl rusqlite::Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, Error> {
    db.prepare_cached(sql)
        .and_then(|mut statement| statement.query_map(params, row)?.collect())
        .map_err(failed(doing))
}

/// SQLite's integers are signed; offsets stay far below 2^63.
pub fn signed(n: u64) -> i64 {
    n as i64
}

fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|n| n as u64)
}

pub fn failed(doing: &str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |e| store(doing, &e)
}

pub fn store(doing: &str, what: &dyn std::fmt::Display) -> Error {
    Error::Store { doing: doing.to_owned(), what: what.to_string() }
}
