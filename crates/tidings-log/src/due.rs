//! Events that wait for their time, and how they are asked for.

use crate::Append;
use tidings_model::{Key, Timestamp, TopicName, Uuid};

/// An event that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub id: Uuid,
    pub at: Timestamp,
    pub topic: TopicName,
    /// The principal who scheduled it.
    pub owner: Option<String>,
    /// As in [`Append::record`].
    pub record: Vec<u8>,
}

/// An event to keep for later.
#[derive(Debug, Clone)]
pub struct DuePut {
    pub due: Due,
    /// Appended in the same commit, unless the event was known already. The receipt does not name it.
    pub notice: Option<Append>,
}

impl From<Due> for DuePut {
    fn from(due: Due) -> Self {
        Self { due, notice: None }
    }
}

/// Where a scheduled event stands among all: by time, then by order of scheduling (moving is scheduling anew).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DuePlace {
    pub at: Timestamp,
    pub order: i64,
}

/// Which scheduled events are wanted: due at or before `until`, behind `after`, and matching what is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueQuery {
    pub until: Timestamp,
    pub after: Option<DuePlace>,
    pub owner: Option<String>,
    pub topic: Option<TopicName>,
    pub key: Option<Key>,
}

impl DueQuery {
    /// Everything due at or before `until`.
    pub fn until(until: Timestamp) -> Self {
        Self { until, after: None, owner: None, topic: None, key: None }
    }

    /// Everything there is.
    pub fn all() -> Self {
        Self::until(Timestamp::default().plus_millis(i64::MAX))
    }

    pub(crate) fn matches(&self, owner: Option<&str>, topic: &str, key: Option<&str>) -> bool {
        self.owner.as_deref().is_none_or(|wanted| owner == Some(wanted))
            && self.topic.as_ref().is_none_or(|wanted| topic == wanted.as_str())
            && self.key.as_ref().is_none_or(|wanted| key == Some(wanted.as_str()))
    }
}

/// Scheduled events in the order in which they are due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DuePage {
    pub dues: Vec<Due>,
    /// Where to go on; `None` when there is nothing behind.
    pub next: Option<DuePlace>,
}
