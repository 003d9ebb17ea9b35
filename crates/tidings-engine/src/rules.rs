//! Whom the events of each topic concern, as it is set, and asking that of events that come in.
//!
//! Owns: the rules in force. A rule set over the interface comes before one that is configured; the columns of
//! both stay behind. What has come in keeps what was decided then. Never: stores a rule, or sees a reader.

use crate::retention::{KIND, TopicSettings};
use crate::{Error, Tidings, capture};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use tidings_model::{NewEvent, RowRule, Rows, Sight, TopicName, check_column};

/// Columns that one topic may leave behind.
const FILTER_COLUMNS_MAX: usize = 256;

/// The rules of all topics that have any.
#[derive(Default)]
pub(crate) struct Rules {
    topics: RwLock<HashMap<TopicName, OfTopic>>,
    /// Whether there is any, so that publishing elsewhere costs one look at this.
    is_used: AtomicBool,
}

#[derive(Default)]
struct OfTopic {
    stored: Said,
    configured: Said,
    is_captured: bool,
    deletes_are_keys: bool,
    rows: Arc<Rows>,
}

/// What one place says about a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    rule: Option<RowRule>,
    filter_columns: Vec<Box<str>>,
}

impl Rules {
    /// What holds for the topic; `None` where everyone may see everything.
    pub fn of(&self, name: &TopicName) -> Option<Arc<Rows>> {
        if !self.is_used.load(Ordering::Acquire) {
            return None;
        }
        self.topics.read().expect("no panic while holding the lock").get(name).map(|t| Arc::clone(&t.rows))
    }

    /// Changes what is said about a topic; whether not everybody may see everything there now.
    fn change(&self, name: &TopicName, change: impl FnOnce(&mut OfTopic)) -> bool {
        let mut topics = self.topics.write().expect("no panic while holding the lock");
        let topic = topics.entry(name.clone()).or_default();
        change(topic);
        let mut filter_columns = topic.stored.filter_columns.clone();
        filter_columns.extend(topic.configured.filter_columns.iter().cloned());
        filter_columns.sort_unstable();
        filter_columns.dedup();
        let rule = topic.stored.rule.clone().or_else(|| topic.configured.rule.clone());
        let (is_captured, deletes_are_keys) = (topic.is_captured, topic.deletes_are_keys);
        let rows = Rows { rule, filter_columns, is_captured, deletes_are_keys };
        let is_routed = rows.is_routed();
        if rows == Rows::default() {
            topics.remove(name);
        } else {
            topic.rows = Arc::new(rows);
        }
        self.is_used.store(!topics.is_empty(), Ordering::Release);
        is_routed
    }
}

impl Tidings {
    /// Sets who may see the rows of `topic` and which columns stay behind, until the end of this process: what a
    /// configuration says. A rule of the topic's stored settings comes before it.
    ///
    /// # Errors
    /// When the topic is the system's or a column has no possible name.
    pub fn set_rule(
        &self,
        topic: &TopicName,
        rule: Option<RowRule>,
        filter_columns: Vec<Box<str>>,
    ) -> Result<(), Error> {
        if topic.is_system() {
            return Err(Error::SystemTopic(topic.clone()));
        }
        check_filter(&filter_columns)?;
        self.change_rules(topic, |t| t.configured = Said { rule, filter_columns });
        Ok(())
    }

    /// Takes over what a topic's settings say.
    pub(crate) fn rules_set(&self, topic: &TopicName, settings: &TopicSettings) {
        let said = Said {
            rule: settings.row_rule.clone(),
            filter_columns: settings.filter_columns.clone().unwrap_or_default(),
        };
        self.change_rules(topic, |t| t.stored = said);
    }

    /// Takes over whether a source owns the topic.
    pub(crate) fn rules_captured(&self, topic: &TopicName) {
        let is_captured = self.owners().of(topic).is_some();
        self.change_rules(topic, |t| {
            t.is_captured = is_captured;
            t.deletes_are_keys &= is_captured;
        });
    }

    /// Takes over whether the source of a captured topic says no more of a deleted row than its key.
    pub fn deletes_are_keys(&self, topic: &TopicName, they_are: bool) {
        if self.rules().of(topic).is_none_or(|rows| rows.deletes_are_keys != they_are) {
            self.change_rules(topic, |t| t.deletes_are_keys = they_are);
        }
    }

    fn change_rules(&self, topic: &TopicName, change: impl FnOnce(&mut OfTopic)) {
        let is_routed = self.rules().change(topic, change);
        self.hub().set_routed(topic, is_routed);
        // Broker's interface does not reach what not everybody may see.
        self.reach().close(topic, is_routed);
    }

    /// Reads the rules that were stored.
    pub async fn load_rules(&self) -> Result<(), Error> {
        for (key, value) in self.log().registry(KIND).await? {
            let Ok(name) = TopicName::parse_captured(&key) else { continue };
            // What cannot be read must not open a topic: the start is refused.
            let settings: TopicSettings = serde_json::from_slice(&value)
                .map_err(|e| Error::Settings { field: "topic", why: format!("{name}: {e}") })?;
            if settings.row_rule.is_some() || settings.filter_columns.is_some() {
                self.rules_set(&name, &settings);
            }
        }
        Ok(())
    }

    /// Decides who may see each event and takes out what stays behind. Nothing reaches the log without this (I6).
    pub(crate) fn decide(&self, events: Vec<NewEvent>) -> Result<Vec<(NewEvent, Sight)>, Error> {
        events.into_iter().enumerate().map(|(index, event)| self.decide_one(index, event)).collect()
    }

    /// The same for the event at `index` of its call.
    pub(crate) fn decide_one(&self, index: usize, mut event: NewEvent) -> Result<(NewEvent, Sight), Error> {
        let Some(rows) = self.rules().of(&event.topic.name) else { return Ok((event, Sight::default())) };
        let is_truncate = rows.is_captured && capture::is_truncate(&event);
        let sight = rows.apply(&mut event, is_truncate);
        Ok((event, sight.map_err(|source| Error::Event { index, source })?))
    }
}

/// Whether these can be columns to leave behind.
pub(crate) fn check_filter(columns: &[Box<str>]) -> Result<(), Error> {
    let refuse = |why: String| Error::Settings { field: "filter_columns", why };
    if columns.len() > FILTER_COLUMNS_MAX {
        return Err(refuse(format!("at most {FILTER_COLUMNS_MAX} columns may be named")));
    }
    columns.iter().try_for_each(|column| check_column(column).map_err(|e| refuse(e.to_string())))
}
