//! How far a source has got: the mark that is committed together with the events.

use super::lsn::Lsn;
use crate::source::{Desk, Fault};
use serde::{Deserialize, Serialize};
use tidings_log::Mark;

/// Where the stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Every transaction whose end lies at or before this is in the log.
    pub whole: Lsn,
    /// Of the transaction that was committed here ...
    pub part: Lsn,
    /// ... this many changes are, too.
    pub taken: u64,
}

/// What is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// The slot that this place belongs to. Another name in the settings begins anew.
    pub slot: String,
    /// The cluster's own number: a restored or another database is no continuation.
    pub system: String,
    whole: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<(String, u64)>,
    /// The rows that were there before are not yet all in the log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unfinished: bool,
}

impl Stored {
    pub fn new(slot: &str, system: &str, place: Place, is_unfinished: bool) -> Self {
        let part = (place.taken > 0).then(|| (place.part.to_string(), place.taken));
        Self { slot: slot.into(), system: system.into(), whole: place.whole.to_string(), part, is_unfinished }
    }

    pub fn place(&self) -> Place {
        let (part, taken) = match &self.part {
            Some((part, taken)) => (part.parse().unwrap_or_default(), *taken),
            None => (Lsn::default(), 0),
        };
        Place { whole: self.whole.parse().unwrap_or_default(), part, taken }
    }
}

/// The mark of a source.
pub fn name(source: &str) -> String {
    format!("source:{source}")
}

/// What is stored of a source; `None` before its first commit, or where something else is.
pub async fn read<T: for<'a> Deserialize<'a>>(desk: &Desk) -> Result<Option<T>, Fault> {
    let stored = desk.tidings.position(&name(&desk.name)).await;
    let stored = stored.map_err(|e| Fault::lost(format!("the log cannot be read: {e}")))?;
    Ok(stored.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The mark that says `stored`.
pub fn mark(source: &str, stored: &impl Serialize) -> Mark {
    let value = serde_json::to_vec(stored).expect("plain fields");
    Mark { name: name(source), value: Some(value.into()) }
}
