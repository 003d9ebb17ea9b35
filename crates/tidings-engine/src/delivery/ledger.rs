//! What deliveries change in the log, gathered and committed together.
//!
//! Owns: changes that are not durable yet. Only so many may gather: until they are committed nothing else is sent,
//! so a crash repeats no more than those. Never: commits itself.

use super::attempt::{Delivery, DeliveryId};
use std::collections::{HashMap, HashSet};
use tidings_log::{Append, Batch, Mark, RegistryChange};
use tidings_model::Uuid;

/// Changes that may wait for a commit.
const ROOM: usize = 4096;

#[derive(Default)]
pub struct Ledger {
    /// Destinations whose progress has moved.
    moved: HashSet<Uuid>,
    records: HashMap<String, RegistryChange>,
    appends: Vec<Append>,
    /// Changes in the commit that is under way.
    committing: Option<usize>,
    weight: usize,
}

impl Ledger {
    pub fn move_on(&mut self, id: Uuid) {
        self.moved.insert(id);
        self.weight += 1;
    }

    pub fn put(&mut self, delivery: &Delivery) {
        self.change(delivery.record());
    }

    pub fn remove(&mut self, id: DeliveryId) {
        self.change(id.removal());
    }

    fn change(&mut self, change: RegistryChange) {
        self.records.insert(change.key.clone(), change);
    }

    pub fn append(&mut self, append: Append) {
        self.appends.push(append);
    }

    /// Whether more may be sent.
    pub fn has_room(&self) -> bool {
        self.weight + self.committing.unwrap_or(0) < ROOM
    }

    /// Whether a commit would change anything and none is under way.
    pub fn is_due(&self) -> bool {
        self.committing.is_none()
            && !(self.moved.is_empty() && self.records.is_empty() && self.appends.is_empty())
    }

    /// Nothing is left to do.
    pub fn is_settled(&self) -> bool {
        self.committing.is_none() && !self.is_due()
    }

    /// Everything so far as one batch, with the marks of those that have moved; a destination that is gone has none.
    pub fn batch(&mut self, mark: impl Fn(Uuid) -> Option<Mark>) -> Batch {
        self.committing = Some(std::mem::take(&mut self.weight));
        let marks = self.moved.drain().filter_map(mark).collect();
        let registry = self.records.drain().map(|(_, change)| change).collect();
        Batch { marks, registry, appends: std::mem::take(&mut self.appends), ..Batch::default() }
    }

    /// The commit took place.
    pub fn committed(&mut self) {
        self.committing = None;
    }

    /// The commit failed: what was in it is to be committed later; what has changed since counts.
    pub fn failed(
        &mut self,
        moved: impl IntoIterator<Item = Uuid>,
        registry: Vec<RegistryChange>,
        appends: Vec<Append>,
    ) {
        self.weight += self.committing.take().unwrap_or(0);
        self.moved.extend(moved);
        for change in registry {
            self.records.entry(change.key.clone()).or_insert(change);
        }
        self.appends.splice(..0, appends);
    }
}
