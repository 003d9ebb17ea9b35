//! One event as Broker speaks of it.

use crate::Error;
use tidings_log::{Due, Error as LogError};
use tidings_model::{Event, Record, RecordError, Timestamp, Uuid};

/// An event with Broker's words.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerEvent {
    pub id: Uuid,
    /// Empty where nobody is named.
    pub user: String,
    /// Empty where the event has no key.
    pub collection: String,
    /// The topic's name.
    pub event: String,
    /// Seconds since 1970.
    pub timestamp: i64,
    pub is_published: bool,
    pub is_cancelled: bool,
    /// JSON.
    pub data: String,
}

/// The second that counts for what is the latest: when it was due, else when it happened, else when it was
/// published.
pub fn timestamp(event: &Event) -> i64 {
    let record = event.record();
    seconds(record.available_at().or(record.occurred_at()).unwrap_or_else(|| event.published_at()))
}

pub(super) fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

impl BrokerEvent {
    /// A stored event.
    pub fn of(event: &Event) -> Self {
        let record = Self::of_record(event.record(), event.topic().as_str(), timestamp(event));
        Self { is_published: true, ..record }
    }

    /// One that waits for its time.
    pub(super) fn of_record(record: &Record, topic: &str, timestamp: i64) -> Self {
        Self {
            id: record.id(),
            user: record.user().unwrap_or_default().to_owned(),
            collection: record.key().unwrap_or_default().to_owned(),
            event: topic.to_owned(),
            timestamp,
            is_published: false,
            is_cancelled: false,
            data: record.data().unwrap_or("null").to_owned(),
        }
    }

    /// One that waits for its time, as the schedule has it.
    pub(super) fn of_due(due: Due) -> Result<Self, Error> {
        let (doing, topic) = ("reading a scheduled event", due.topic.to_string());
        let refuse = |e: RecordError| LogError::Store { doing: doing.into(), what: e.to_string() };
        let record = Record::parse(due.record.into()).map_err(refuse)?;
        Ok(Self::of_record(&record, &topic, seconds(due.at)))
    }

    /// Bytes it holds, about.
    pub(super) fn weight(&self) -> usize {
        self.user.len() + self.collection.len() + self.event.len() + self.data.len() + 200
    }
}
