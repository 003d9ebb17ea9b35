//! Scheduled events as the side store holds them.
//!
//! Owns: which index answers a question. Reading never looks at more than [`SCAN_MAX`] rows, so that a question
//! whose answer is rare among many holds no other reader up. Never: writes.

use super::side::{Side, failed, query, store, timestamp, topic_name};
use crate::{Due, DuePage, DuePlace, DueQuery, Error, ReadMax};
use rusqlite::{Row, params};
use tidings_model::{Timestamp, Uuid};

/// Rows looked at in one call.
const SCAN_MAX: usize = 10_000;

impl Side {
    /// Whether a scheduled event is stored; what is not yet applied the caller knows itself.
    pub fn is_due_known(&self, id: Uuid) -> Result<bool, Error> {
        let (doing, sql) = ("looking up a scheduled event", "SELECT 1 FROM due WHERE id = ?1");
        Ok(!query(&self.deciding(), doing, sql, [id.as_bytes()], |_| Ok(()))?.is_empty())
    }

    pub fn due(&self, wanted: &DueQuery, max: ReadMax) -> Result<DuePage, Error> {
        const DOING: &str = "reading scheduled events";
        let after = wanted.after.map_or((i64::MIN, i64::MIN), |place| (place.at.as_millis(), place.order));
        let db = self.reading();
        let (index, value) = index(wanted);
        let column = index.trim_start_matches("due_");
        let first = if value.is_some() { format!("{column} = ?4 AND ") } else { String::new() };
        let sql = format!(
            "SELECT id, at, seq, topic, key, owner, record FROM due INDEXED BY {index}
             WHERE {first}at <= ?3 AND (at, seq) > (?1, ?2) ORDER BY at, seq"
        );
        let mut statement = db.prepare_cached(&sql).map_err(failed(DOING))?;
        let until = wanted.until.as_millis();
        let rows = match value {
            Some(value) => statement.query(params![after.0, after.1, until, value]),
            None => statement.query(params![after.0, after.1, until]),
        };
        let mut rows = rows.map_err(failed(DOING))?;
        let (mut page, mut bytes) = (DuePage::default(), 0);
        for _ in 0..SCAN_MAX {
            let Some(row) = rows.next().map_err(failed(DOING))? else {
                page.next = None;
                return Ok(page);
            };
            let place = place(row).map_err(failed(DOING))?;
            if !is_wanted(row, wanted).map_err(failed(DOING))? {
                page.next = Some(DuePlace { at: timestamp(place.0)?, order: place.1 });
                continue;
            }
            let due = due(due_row(row).map_err(failed(DOING))?)?;
            bytes += due.record.len();
            if page.dues.len() >= max.events.max(1) || (bytes > max.bytes && !page.dues.is_empty()) {
                return Ok(page);
            }
            page.next = Some(DuePlace { at: due.at, order: place.1 });
            page.dues.push(due);
        }
        Ok(page)
    }

    pub fn due_by_id(&self, id: Uuid) -> Result<Option<Due>, Error> {
        let sql = "SELECT id, at, seq, topic, key, owner, record FROM due WHERE id = ?1";
        let found = query(&self.reading(), "reading a scheduled event", sql, [id.as_bytes()], due_row)?;
        found.into_iter().next().map(due).transpose()
    }

    pub fn due_next(&self) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT at FROM due ORDER BY at, seq LIMIT 1";
        let found = query(&self.reading(), "reading scheduled events", sql, [], |row| row.get(0))?;
        found.first().map(|at| timestamp(*at)).transpose()
    }
}

/// The index that leaves the fewest rows, and the value to look up in it; each row is asked the rest.
fn index(wanted: &DueQuery) -> (&'static str, Option<&str>) {
    match wanted {
        DueQuery { key: Some(key), .. } => ("due_key", Some(key.as_str())),
        DueQuery { owner: Some(owner), .. } => ("due_owner", Some(owner)),
        DueQuery { topic: Some(topic), .. } => ("due_topic", Some(topic.as_str())),
        _ => ("due_at", None),
    }
}

fn place(row: &Row<'_>) -> rusqlite::Result<(i64, i64)> {
    Ok((row.get(1)?, row.get(2)?))
}

fn is_wanted(row: &Row<'_>, wanted: &DueQuery) -> rusqlite::Result<bool> {
    let (topic, key, owner) = (row.get_ref(3)?, row.get_ref(4)?, row.get_ref(5)?);
    Ok(wanted.matches(owner.as_str_or_null()?, topic.as_str()?, key.as_str_or_null()?))
}

type DueRow = (Vec<u8>, i64, String, Option<String>, Vec<u8>);

fn due_row(row: &Row<'_>) -> rusqlite::Result<DueRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(3)?, row.get(5)?, row.get(6)?))
}

fn due((id, at, topic, owner, record): DueRow) -> Result<Due, Error> {
    let id = Uuid::from_slice(&id).map_err(|e| store("reading a scheduled event", &e))?;
    Ok(Due { id, at: timestamp(at)?, topic: topic_name(&topic)?, owner, record })
}
