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
/// Bytes of one commit, about; the log takes twice as much.
const BATCH_BYTES: usize = 8 << 20;

#[derive(Default)]
pub struct Ledger {
    /// Destinations whose progress has moved.
    moved: HashSet<Uuid>,
    /// Those that only passed over events, which may be put down a little later.
    later: HashSet<Uuid>,
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

    /// As [`Ledger::move_on`], where forgetting it would cost only another reading.
    pub fn pass_on(&mut self, id: Uuid) {
        self.later.insert(id);
    }

    /// Whether there is something that may be put down later.
    pub fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// What was for later is for now.
    pub fn ripen(&mut self) {
        self.moved.extend(self.later.drain());
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

    /// Whether marks are still to be put down.
    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Whether a commit would change anything and none is under way.
    pub fn is_due(&self) -> bool {
        self.committing.is_none()
            && !(self.moved.is_empty() && self.records.is_empty() && self.appends.is_empty())
    }

    /// Nothing is left to do.
    pub fn is_settled(&self) -> bool {
        self.committing.is_none() && !self.is_due() && !self.has_later()
    }

    /// What has gathered as one batch, with the marks of those that have moved; a destination that is gone has none.
    /// Records go before the marks that count on them, where it is too much for one.
    pub fn batch(&mut self, mut mark: impl FnMut(Uuid) -> Option<Mark>) -> Batch {
        self.committing = Some(std::mem::take(&mut self.weight));
        self.ripen();
        let mut batch = Batch::default();
        let mut bytes = 0;
        let mut fits = |more: usize| {
            bytes += more + 100;
            bytes <= BATCH_BYTES
        };
        let keys: Vec<String> = self.records.keys().cloned().collect();
        for key in keys {
            let Some(change) = self.records.remove(&key) else { continue };
            let is_last = !fits(change.value.as_ref().map_or(0, |value| value.len()));
            batch.registry.push(change);
            if is_last {
                break;
            }
        }
        let count = self.appends.iter().take_while(|append| fits(append.record.len())).count();
        batch.appends.extend(self.appends.drain(..count));
        if self.records.is_empty() && self.appends.is_empty() {
            while let Some(id) = self.moved.iter().next().copied() {
                self.moved.remove(&id);
                let Some(mark) = mark(id) else { continue };
                let is_last = !fits(mark.value.as_ref().map_or(0, |value| value.len()));
                batch.marks.push(mark);
                if is_last {
                    break;
                }
            }
        }
        batch
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
