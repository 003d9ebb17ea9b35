//! All destinations in memory, by id and by name.
//!
//! Owns: which lease belongs to which state of a destination.

use super::destination::Destination;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use tidings_model::{Lease, Uuid};

#[derive(Default)]
pub struct Shelf {
    by_id: HashMap<Uuid, (Arc<Destination>, Arc<Lease>)>,
    by_name: BTreeMap<Box<str>, Uuid>,
}

impl Shelf {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Destination>> {
        self.by_id.get(&id).map(|(destination, _)| Arc::clone(destination))
    }

    pub fn leased(&self, id: Uuid) -> Option<(Arc<Destination>, Arc<Lease>)> {
        self.by_id.get(&id).cloned()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Destination>> {
        self.by_name.get(name).and_then(|id| self.by_id(*id))
    }

    /// In name order, those behind `after`.
    pub fn after(&self, after: Option<&str>) -> impl Iterator<Item = Arc<Destination>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.by_name.range::<str, _>((start, Bound::Unbounded));
        ids.filter_map(|(_, id)| self.by_id(*id))
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.by_id.values().map(|(destination, _)| destination)
    }

    /// Puts one in the place of what it was, whose lease is answered: it is to be ended.
    pub fn put(&mut self, destination: Arc<Destination>) -> Option<Arc<Lease>> {
        let before = self.remove(destination.id);
        self.by_name.insert(destination.name().into(), destination.id);
        self.by_id.insert(destination.id, (destination, Arc::default()));
        before
    }

    pub fn remove(&mut self, id: Uuid) -> Option<Arc<Lease>> {
        let (destination, lease) = self.by_id.remove(&id)?;
        self.by_name.remove(destination.name());
        Some(lease)
    }
}
