//! Carries what the log says over into the side store.
//!
//! Order: the log's. Each transaction also stores the place it reaches, so nothing is applied twice. Entries
//! say outcomes, never wishes: whether a scheduled event was known, the writer has decided before.

use super::entry::Entry;
use super::home::Segments;
use super::news::News;
use super::scan::{self, Place};
use super::side::{SEGMENTS_PER_SHELF, applied, failed, set_meta, signed};
use super::sidecar::Sidecar;
use crate::Error;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeMap;
use tidings_model::RecordWriter;

/// Bytes of log per transaction while the log is read again.
const REPLAY_BYTES: u64 = 4 << 20;

/// Applies `news` in one transaction (reading the log again takes several).
pub fn apply(db: &mut Connection, segments: &Segments, news: &[News]) -> Result<(), Error> {
    if let [News::Opened(until), ..] = news {
        replay(db, segments, *until)?;
    }
    let tx = begin(db)?;
    for one in news {
        match one {
            News::Opened(_) | News::Forgotten(_) => {}
            News::Closed(place) => reached(&tx, *place)?,
            News::Written(written) => {
                let mut order = Order::new(Place { segment: written.segment, at: written.at });
                written.entries().try_for_each(|entry| order.entry(&tx, entry))?;
                reached(&tx, written.end())?;
            }
            News::Sealed { number, sidecar } => {
                register(&tx, *number, sidecar)?;
                reached(&tx, Place { segment: *number, at: sidecar.end })?;
            }
            News::Rewritten { number, sidecar } => {
                unregister(&tx, *number)?;
                register(&tx, *number, sidecar)?;
            }
            News::Removed { number } => unregister(&tx, *number)?,
        }
    }
    tx.commit().map_err(failed("committing to the side store"))
}

fn replay(db: &mut Connection, segments: &Segments, until: Place) -> Result<(), Error> {
    let from = applied(db)?;
    let tx = begin(db)?;
    let mut saved = from;
    let mut order = Order::new(from);
    scan::replay(segments, from, until, |end, record| {
        record.entries().try_for_each(|entry| order.entry(&tx, entry))?;
        order.next(end);
        if end.segment != saved.segment || end.at - saved.at > REPLAY_BYTES {
            saved = end;
            reached(&tx, end)?;
            tx.execute_batch("COMMIT; BEGIN").map_err(failed("committing to the side store"))?;
        }
        Ok(())
    })?;
    reached(&tx, until)?;
    tx.commit().map_err(failed("committing to the side store"))
}

/// After a repair: the log ends at `end`. Topics that the segments hold only from a later offset on (first and
/// last of each by id, as found) begin there.
pub fn end_at(
    db: &mut Connection,
    segments: &Segments,
    end: Place,
    found: &BTreeMap<u32, (u64, u64)>,
) -> Result<(), Error> {
    if applied(db)? < end {
        replay(db, segments, end)?;
    }
    let tx = begin(db)?;
    set_meta(&tx, "segment", i64::from(end.segment))?;
    set_meta(&tx, "at", signed(end.at))?;
    for (id, (first, last)) in found {
        let sql = "UPDATE topics SET oldest = max(oldest, ?2), tail = max(tail, ?3) WHERE id = ?1";
        run(&tx, sql, params![id, signed(*first), signed(*last)])?;
    }
    tx.commit().map_err(failed("committing to the side store"))
}

fn begin(db: &mut Connection) -> Result<Transaction<'_>, Error> {
    db.transaction().map_err(failed("writing the side store"))
}

/// Everything before `place` is applied.
fn reached(tx: &Transaction<'_>, place: Place) -> Result<(), Error> {
    if place > applied(tx)? {
        set_meta(tx, "segment", i64::from(place.segment))?;
        set_meta(tx, "at", signed(place.at))?;
    }
    Ok(())
}

/// Numbers scheduled events in log order: by where their record lies, then by their place in it.
struct Order {
    next: i64,
}

impl Order {
    /// Four numbers per byte of log: more than a record has entries.
    fn new(place: Place) -> Self {
        Self { next: (i64::from(place.segment) << 32 | place.at as i64) << 2 }
    }

    fn next(&mut self, end: Place) {
        *self = Self::new(end);
    }

    fn entry(&mut self, tx: &Transaction<'_>, entry: Entry<'_>) -> Result<(), Error> {
        match entry {
            Entry::Event(_) | Entry::Begin { .. } | Entry::Lost => Ok(()),
            Entry::Topic { id, epoch, name } => {
                run(
                    tx,
                    "INSERT OR IGNORE INTO topics VALUES (?1, ?2, ?3, 0, 1, 0)",
                    params![id, epoch, name],
                )?;
                raise(tx, "topic_id", i64::from(id))
            }
            Entry::TopicDropped { id } => run(tx, "DELETE FROM topics WHERE id = ?1", [id]),
            Entry::DuePut { id, at, topic, owner, record } => {
                self.next += 1;
                let sql = "INSERT OR REPLACE INTO due VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                let (_, _, key, _) = RecordWriter::peek(record);
                run(tx, sql, params![self.next, id.as_bytes(), at, topic, key, owner, record])
            }
            Entry::DueTaken { id } => run(tx, "DELETE FROM due WHERE id = ?1", [id.as_bytes()]),
            Entry::Mark { name, value: Some(value) } => {
                run(tx, "INSERT OR REPLACE INTO marks VALUES (?1, ?2)", params![name, value])
            }
            Entry::Mark { name, value: None } => run(tx, "DELETE FROM marks WHERE name = ?1", [name]),
            Entry::Registry { kind, key, value: Some(value) } => {
                run(tx, "INSERT OR REPLACE INTO registry VALUES (?1, ?2, ?3)", params![kind, key, value])
            }
            Entry::Registry { kind, key, value: None } => {
                run(tx, "DELETE FROM registry WHERE kind = ?1 AND key = ?2", [kind, key])
            }
            Entry::Trim { topic, oldest, keep_state } => {
                let floor = if keep_state { 0 } else { oldest };
                let sql = "UPDATE topics SET oldest = max(oldest, ?2), state_floor = max(state_floor, ?3)
                    WHERE id = ?1";
                run(tx, sql, params![topic, signed(oldest), signed(floor)])
            }
        }
    }
}

/// Lets readers find the events of a closed segment.
fn register(tx: &Transaction<'_>, number: u32, sidecar: &Sidecar) -> Result<(), Error> {
    let shelf = number / SEGMENTS_PER_SHELF;
    let mut last_time = i64::MIN;
    for (topic, span, view) in sidecar.topics() {
        let (Some(first), Some(last)) = (view.first(), view.last()) else { continue };
        last_time = last_time.max(span.last_time);
        let (first, last, bytes) = (signed(first), signed(last), signed(span.bytes));
        let sql = "INSERT OR REPLACE INTO spans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        run(tx, sql, params![shelf, topic, first, last, number, span.first_time, span.last_time, bytes])?;
        run(tx, "UPDATE topics SET tail = max(tail, ?2) WHERE id = ?1", params![topic, last])?;
    }
    raise(tx, "last_time", last_time)?;
    run(tx, "INSERT OR REPLACE INTO segments VALUES (?1, ?2)", params![number, signed(sidecar.end)])
}

fn unregister(tx: &Transaction<'_>, number: u32) -> Result<(), Error> {
    let shelf = number / SEGMENTS_PER_SHELF;
    run(tx, "DELETE FROM spans WHERE shelf = ?1 AND segment = ?2", params![shelf, number])?;
    run(tx, "DELETE FROM segments WHERE number = ?1", [number])
}

/// Raises a number that never falls.
fn raise(tx: &Transaction<'_>, name: &str, value: i64) -> Result<(), Error> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";
    run(tx, sql, params![name, value])
}

fn run(tx: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> Result<(), Error> {
    tx.prepare_cached(sql)
        .and_then(|mut s| s.execute(params))
        .map(drop)
        .map_err(failed("writing the side store"))
}
