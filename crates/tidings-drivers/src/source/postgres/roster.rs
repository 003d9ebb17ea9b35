//! Which table each topic comes from, as the log remembers it.
//!
//! Owns: finding tables that are new in the settings, or were made anew under their name, and what becomes of them: a
//! topic whose table is another one now is emptied, and begins with the rows that this one has.
//! Never: reads rows itself.

use super::catalog::Captured;
use super::lsn::Lsn;
use crate::source::{Desk, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidings_log::Mark;

/// What is stored of each topic.
pub struct Roster {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The table's own number, which is another one when it is made anew.
    id: u32,
    /// The rows that it has are to come first, and are not all in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_due: bool,
    /// What was committed before this is among the rows that came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

impl Roster {
    /// What the log remembers, or all of `tables` where it remembers nothing. A table that it does not name begins with
    /// its rows if `snapshot` says so.
    pub async fn read(desk: &Desk, tables: &mut [Captured], snapshot: bool) -> Result<Self, Fault> {
        let stored = desk.tidings.position(&mark_name(desk)).await;
        let stored = stored.map_err(|e| Fault::lost(format!("the log cannot be read: {e}")))?;
        let stored: Option<BTreeMap<String, Entry>> =
            stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_due = snapshot && stored.is_some();
        let mut known = stored.unwrap_or_default();
        let mut entries = BTreeMap::new();
        for table in tables {
            let topic = table.topic.to_string();
            let entry = known.remove(&topic).unwrap_or(Entry { id: table.id, is_due, since: None });
            if entry.id == table.id {
                table.since = entry.since.as_deref().and_then(|at| at.parse().ok()).unwrap_or_default();
            }
            entries.insert(topic, entry);
        }
        let roster = Self { entries };
        roster.keep(desk).await?;
        Ok(roster)
    }

    /// All of `tables`, for a source that begins; `is_due` if their rows are still to come.
    pub async fn begin(desk: &Desk, tables: &[Captured], is_due: bool) -> Result<Self, Fault> {
        let entry = |table: &Captured| (table.topic.to_string(), Entry { id: table.id, is_due, since: None });
        let roster = Self { entries: tables.iter().map(entry).collect() };
        roster.keep(desk).await?;
        Ok(roster)
    }

    /// Of those of `tables` that were made anew, the ones that they have replaced: their last changes may still come.
    pub fn replaced(&self, tables: &[Captured]) -> Vec<Captured> {
        let other = |table: &Captured| self.entries.get(table.topic.as_str()).filter(|e| e.id != table.id);
        let known = tables.iter().filter_map(|table| other(table).map(|entry| (table, entry.id)));
        known.map(|(table, id)| Captured { id, ..table.clone() }).collect()
    }

    /// Those of `tables` that begin with the rows that they have.
    pub fn due(&self, tables: &[Captured]) -> Vec<Captured> {
        let is_due = |entry: &Entry, table: &Captured| entry.is_due || entry.id != table.id;
        let entry = |table: &Captured| self.entries.get(table.topic.as_str());
        let due = tables.iter().filter(|table| entry(table).is_some_and(|entry| is_due(entry, table)));
        due.cloned().collect()
    }

    /// Nothing more comes of those that were replaced.
    pub async fn replace(&mut self, desk: &Desk, tables: &[Captured]) -> Result<(), Fault> {
        for table in tables {
            match self.entries.get_mut(table.topic.as_str()) {
                Some(entry) if entry.id != table.id => {
                    *entry = Entry { id: table.id, is_due: true, since: None };
                }
                _ => {}
            }
        }
        self.keep(desk).await
    }

    /// The rows of `tables` are in the log, as they were at `since`.
    pub async fn taken(&mut self, desk: &Desk, tables: &[Captured], since: Option<Lsn>) -> Result<(), Fault> {
        for table in tables {
            let since = since.map(|at| at.to_string());
            self.entries.insert(table.topic.to_string(), Entry { id: table.id, is_due: false, since });
        }
        self.keep(desk).await
    }

    async fn keep(&self, desk: &Desk) -> Result<(), Fault> {
        let value = serde_json::to_vec(&self.entries).expect("names and numbers");
        desk.mark(Mark { name: mark_name(desk), value: Some(value.into()) }).await
    }
}

/// Says of which tables the rows come first though the source had begun.
pub fn tell(desk: &Desk, tables: &[Captured]) {
    for table in tables {
        tracing::info!(
            source = desk.name,
            table = table.quoted(),
            "a table is new, or was made anew: its topic is emptied and begins with the rows that it has"
        );
    }
}

fn mark_name(desk: &Desk) -> String {
    format!("tables:{}", desk.name)
}
