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
    /// Topics that the log does not name yet.
    new: Vec<String>,
    /// What the log holds.
    kept: Option<BTreeMap<String, Entry<P>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<P> {
    pub table: Known,
    /// The rows that it has are to come first, and are not all in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_due: bool,
    /// What was committed before this is among the rows that came first.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub since: Option<P>,
}

/// What is known of a table where the database tells such things.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its own number: another one when it is made anew.
    pub id: u32,
    /// The columns of its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// What it says of a row that changes.
    #[serde(default)]
    pub identity: char,
}

impl<P: Clone + PartialEq + Serialize + DeserializeOwned> Roster<P> {
    /// What the log remembers of `tables`; all of them where it remembers nothing. One that it does not name begins with
    /// its rows if `snapshot` says so, and is remembered with [`Roster::settle`].
    pub async fn read<'a>(
        desk: &Desk,
        tables: impl Iterator<Item = (&'a TopicName, Known)>,
        snapshot: bool,
    ) -> Result<Self, Fault> {
        let stored = desk.tidings.position(&mark_name(desk)).await;
        let stored = stored.map_err(|e| Fault::lost(format!("the log cannot be read: {e}")))?;
        let kept: Option<BTreeMap<String, Entry<P>>> =
            stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (mut entries, mut new) = (BTreeMap::new(), Vec::new());
        for (topic, table) in tables {
            let entry = match kept.as_ref().map(|kept| kept.get(topic.as_str())) {
                Some(Some(entry)) if entry.table.id == table.id => Entry { table, ..entry.clone() },
                Some(Some(entry)) => entry.clone(),
                Some(None) => {
                    new.push(topic.to_string());
                    Entry { table, is_due: snapshot, since: None }
                }
                None => Entry { table, is_due: false, since: None },
            };
            entries.insert(topic.to_string(), entry);
        }
        Ok(Self { entries, new, kept })
    }

    /// All of `tables`, for a source that begins; `is_due` if their rows are still to come.
    pub async fn begin<'a>(
        desk: &Desk,
        tables: impl Iterator<Item = (&'a TopicName, Known)>,
        is_due: bool,
    ) -> Result<Self, Fault> {
        let mut roster = Self { entries: BTreeMap::new(), new: Vec::new(), kept: None };
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
        tables: impl Iterator<Item = (&'a TopicName, Known)>,
        is_due: bool,
        since: Option<P>,
    ) -> Result<(), Fault> {
        for (topic, table) in tables {
            self.entries.insert(topic.to_string(), Entry { table, is_due, since: since.clone() });
            self.new.retain(|new| new != topic.as_str());
        }
        self.keep(desk).await
    }

    /// From now on all of them count as having been there: nothing of them is missed any more.
    pub async fn settle(&mut self, desk: &Desk) -> Result<(), Fault> {
        self.new.clear();
        self.keep(desk).await
    }

    async fn keep(&mut self, desk: &Desk) -> Result<(), Fault> {
        let is_there = |topic: &String| !self.new.contains(topic);
        let entries: BTreeMap<_, _> = self
            .entries
            .iter()
            .filter(|(topic, _)| is_there(topic))
            .map(|(t, e)| (t.clone(), e.clone()))
            .collect();
        if self.kept.as_ref() == Some(&entries) {
            return Ok(());
        }
        let value = serde_json::to_vec(&entries).expect("names and places");
        desk.mark(Mark { name: mark_name(desk), value: Some(value.into()) }).await?;
        self.kept = Some(entries);
        Ok(())
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
