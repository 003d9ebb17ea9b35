//! Settings under `[topics.NAME]`: who may see the rows of a topic, and which columns stay behind.

use crate::entities::{EntitiesError, refuse};
use serde::Deserialize;
use std::collections::BTreeMap;
use tidings_engine::Tidings;
use tidings_model::{RowRule, TopicName};

/// One `[topics.NAME]`. What is set over the interface comes before the rule; columns of both stay behind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topic {
    /// A column, several, or `*`.
    pub row_rule: Option<RowRule>,
    pub filter_columns: Vec<Box<str>>,
}

/// Puts the rules of `topics` in force.
///
/// # Errors
/// When a name is none of a topic's, or a column none of a column's.
pub(crate) fn apply(topics: &BTreeMap<String, Topic>, tidings: &Tidings) -> Result<(), EntitiesError> {
    for (text, topic) in topics {
        let place = || format!("topics.{text:?}");
        let name = TopicName::parse_captured(text).map_err(|e| refuse(place(), e))?;
        tidings
            .set_rule(&name, topic.row_rule.clone(), topic.filter_columns.clone())
            .map_err(|e| refuse(place(), e))?;
    }
    Ok(())
}
