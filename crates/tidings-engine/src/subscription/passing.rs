//! What only passes, for one reader: under grant and filter as everything else, and once.

use super::{Item, Subscription};
use crate::feed::Entry;
use crate::leg::Leg;
use std::sync::Arc;

impl Subscription {
    /// What of the passing events that leg `i` found it has to deliver.
    pub(super) fn passing(&self, i: usize, found: Vec<(u64, Arc<Entry>)>) -> Option<Item> {
        let leg = &self.legs[i];
        let wanted = |(number, entry): (u64, Arc<Entry>)| {
            let shown = entry.shown(leg.reader(&self.who).view(&entry.event)?);
            let event = &shown.event;
            let is_others = |other: &Leg| other.covers_passing(leg, number, event);
            let is_mine = leg.filter.matches(event) && !self.legs[..i].iter().any(is_others);
            is_mine.then_some(shown)
        };
        let entries: Vec<_> = found.into_iter().filter_map(wanted).collect();
        (!entries.is_empty()).then_some(Item::Passing(entries))
    }
}
