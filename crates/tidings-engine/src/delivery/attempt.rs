//! A delivery: one event on its way to one destination, and what came of each attempt.
//!
//! Owns: its stored and shown form. Its id names the destination and the offset, so that it needs no index.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use tidings_log::RegistryChange;
use tidings_model::{Timestamp, Uuid};

/// Attempts that are kept of one delivery, and those of them with their answers; the oldest go first.
const ATTEMPTS_KEPT: usize = 40;
const ANSWERS_KEPT: usize = 5;

/// One event to one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub destination: Uuid,
    pub offset: u64,
    /// The event's id, which is the `webhook-id`.
    pub event: Uuid,
    pub topic: Box<str>,
    pub status: Status,
    /// Failures since it was planned or replayed last.
    pub tries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It failed and will be tried again.
    Waiting,
    Delivered,
    /// It is not tried again unless it is replayed.
    Dead,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub duration_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The beginning of what came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<str>>,
    /// Why nothing came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
}

/// `DESTINATION.OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryId {
    pub destination: Uuid,
    pub offset: u64,
}

/// Where those that failed lie in the registry.
pub const KIND: &str = "delivery";

impl DeliveryId {
    pub fn parse(text: &str) -> Option<Self> {
        let (destination, offset) = text.split_once('.')?;
        Some(Self { destination: destination.parse().ok()?, offset: offset.parse().ok()? })
    }

    /// Keys of one destination lie together, by offset.
    pub(super) fn key(self) -> String {
        format!("{}/{:020}", self.destination, self.offset)
    }

    pub(super) fn of_key(key: &str) -> Option<Self> {
        let (destination, offset) = key.split_once('/')?;
        Some(Self { destination: destination.parse().ok()?, offset: offset.parse().ok()? })
    }

    /// The record is gone.
    pub(super) fn removal(self) -> RegistryChange {
        RegistryChange { kind: KIND.into(), key: self.key(), value: None }
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.destination, self.offset)
    }
}

impl Delivery {
    pub fn id(&self) -> DeliveryId {
        DeliveryId { destination: self.destination, offset: self.offset }
    }

    /// Takes in how a try went.
    pub(super) fn add(&mut self, attempt: Attempt) {
        if self.attempts.len() == ATTEMPTS_KEPT {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
        if let Some(older) = self.attempts.iter_mut().rev().nth(ANSWERS_KEPT) {
            older.answer = None;
        }
    }

    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields")
    }

    pub(super) fn record(&self) -> RegistryChange {
        let value = Bytes::from(self.json());
        RegistryChange { kind: KIND.into(), key: self.id().key(), value: Some(value) }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
