//! Which tables a source has captured, as the log remembers it.
//!
//! Owns: finding tables that are new in the settings, or were made anew under their name. A topic whose table is another
//! one now begins with the rows that this one has, after an event that empties it.
//! Never: reads rows itself.

use super::{Desk, Fault};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidings_log::Mark;
use tidings_model::TopicName;

/// What is stored of each topic's table; `P` is a place in the database's own order.
pub struct Roster<P> {
    entries: BTreeMap<String, Entry<P>>,
    /// Topics that the log had not named before.
    new: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<P> {
    /// The table's own number, where the database tells it: another one when it is made anew.
    pub id: u32,
    /// The rows that it has are to come first, and are not all in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_due: bool,
    /// What was committed before this is among the rows that came first.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub since: Option<P>,
}

impl<P: Clone + Serialize + DeserializeOwned> Roster<P> {
    /// What the log remembers of `tables`, each a topic with its number; all of them where it remembers nothing. One that
    /// it does not name begins with its rows if `snapshot` says so.
    pub async fn read<'a>(
        desk: &Desk,
        tables: impl Iterator<Item = (&'a TopicName, u32)>,
        snapshot: bool,
    ) -> Result<Self, Fault> {
        let stored = desk.tidings.position(&mark_name(desk)).await;
        let stored = stored.map_err(|e| Fault::lost(format!("the log cannot be read: {e}")))?;
        let stored: Option<BTreeMap<String, Entry<P>>> =
            stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let is_due = snapshot && stored.is_some();
        let mut known = stored.unwrap_or_default();
        let mut new = Vec::new();
        let is_first = known.is_empty();
        let entry = |(topic, id): (&TopicName, u32)| {
            let entry = known.remove(topic.as_str()).unwrap_or_else(|| {
                new.extend((!is_first).then(|| topic.to_string()));
                Entry { id, is_due, since: None }
            });
            (topic.to_string(), entry)
        };
        let roster = Self { entries: tables.map(entry).collect(), new };
        roster.keep(desk).await?;
        Ok(roster)
    }

    /// All of `tables`, for a source that begins; `is_due` if their rows are still to come.
    pub async fn begin<'a>(
        desk: &Desk,
        tables: impl Iterator<Item = (&'a TopicName, u32)>,
        is_due: bool,
    ) -> Result<Self, Fault> {
        let mut roster = Self { entries: BTreeMap::new(), new: Vec::new() };
        roster.enter(desk, tables, is_due, None).await?;
        Ok(roster)
    }

    /// Whether the table was there in the last run, and nothing of it should be missing.
    pub fn was_there(&self, topic: &TopicName) -> bool {
        !self.new.iter().any(|new| new == topic.as_str())
    }

    pub fn of(&self, topic: &TopicName) -> Option<&Entry<P>> {
        self.entries.get(topic.as_str())
    }

    /// From now on `tables` are those of their topics. Where they are not due, their rows are in the log as they were at
    /// `since`.
    pub async fn enter<'a>(
        &mut self,
        desk: &Desk,
        tables: impl Iterator<Item = (&'a TopicName, u32)>,
        is_due: bool,
        since: Option<P>,
    ) -> Result<(), Fault> {
        for (topic, id) in tables {
            self.entries.insert(topic.to_string(), Entry { id, is_due, since: since.clone() });
        }
        self.keep(desk).await
    }

    /// From now on all of them count as having been there.
    pub fn settle(&mut self) {
        self.new.clear();
    }

    async fn keep(&self, desk: &Desk) -> Result<(), Fault> {
        let value = serde_json::to_vec(&self.entries).expect("names and places");
        desk.mark(Mark { name: mark_name(desk), value: Some(value.into()) }).await
    }
}

/// Says that the rows of a table come first although the source had begun.
pub fn tell(desk: &Desk, table: &str) {
    tracing::info!(
        source = desk.name,
        table,
        "a table is new, or was made anew: its topic is emptied and begins with the rows that it has"
    );
}

fn mark_name(desk: &Desk) -> String {
    format!("tables:{}", desk.name)
}
