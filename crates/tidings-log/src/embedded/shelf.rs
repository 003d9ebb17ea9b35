//! All segments, and the way from a topic and an offset to the one that holds the event.
//!
//! Owns: which segments are open in memory, and a bounded set of closed ones that readers used last. A closed
//! segment stays in memory until the side store can find it, so a lookup never falls between.

use super::home::Segments;
use super::segment::{Active, Holder, Sealed};
use super::side::Side;
use crate::Error;
use std::sync::{Arc, Mutex, RwLock};

/// What loaded sidecars may take together.
const LOADED_BYTES: usize = 8 << 20;
const LOADED: usize = 64;

/// All segments.
pub struct Shelf {
    pub segments: Segments,
    side: Arc<Side>,
    /// By number; the last is being written, the others wait for the side store.
    open: RwLock<Vec<Arc<Active>>>,
    /// The one used last comes last.
    loaded: Mutex<Vec<Arc<Sealed>>>,
}

impl Shelf {
    pub fn new(segments: Segments, side: Arc<Side>, open: Vec<Arc<Active>>) -> Self {
        Self { segments, side, open: RwLock::new(open), loaded: Mutex::default() }
    }

    /// The segment that is being written.
    pub fn active(&self) -> Arc<Active> {
        self.opened().last().expect("there is always one").clone()
    }

    /// Puts a new segment in front; the former one is closed.
    pub fn roll(&self, active: Arc<Active>) {
        self.open.write().expect("no panic while holding the lock").push(active);
    }

    /// The side store can find this closed segment now.
    pub fn registered(&self, number: u32) {
        self.open.write().expect("no panic while holding the lock").retain(|a| a.number != number);
    }

    /// A closed segment was replaced or removed.
    pub fn forget(&self, number: u32) {
        self.loaded.lock().expect("no panic while holding the lock").retain(|s| s.number != number);
    }

    /// Segments in memory, by number.
    pub fn opened(&self) -> Vec<Arc<Active>> {
        self.open.read().expect("no panic while holding the lock").clone()
    }

    /// The first kept event of the topic at or after `offset`: its segment and its offset.
    pub fn find(&self, topic: u32, offset: u64) -> Result<Option<(Holder, u64)>, Error> {
        // In this order: a segment leaves `open` only after the side store knows it.
        let open: Vec<Holder> = self.opened().into_iter().map(Holder::Open).collect();
        let first = |holder: &Holder| holder.view(topic, |view| view.first());
        if let Some(holder) = open.iter().rev().find(|h| first(h).is_some_and(|first| first <= offset)) {
            if let Some(found) = first_from(holder, topic, offset) {
                return Ok(Some((holder.clone(), found)));
            }
        } else if let Some(found) = self.find_sealed(topic, offset)? {
            return Ok(Some(found));
        }
        Ok(open.iter().find_map(|h| Some((h.clone(), first_from(h, topic, offset)?))))
    }

    fn find_sealed(&self, topic: u32, mut offset: u64) -> Result<Option<(Holder, u64)>, Error> {
        if let Some(sealed) = self.loaded_with(topic, offset) {
            let holder = Holder::Sealed(sealed);
            if let Some(found) = first_from(&holder, topic, offset) {
                return Ok(Some((holder, found)));
            }
        }
        while let Some((number, last)) = self.side.locate(topic, offset)? {
            if let Some(sealed) = self.load(number)? {
                let holder = Holder::Sealed(sealed);
                if let Some(found) = first_from(&holder, topic, offset) {
                    return Ok(Some((holder, found)));
                }
            }
            offset = offset.max(last) + 1;
        }
        Ok(None)
    }

    /// A loaded segment that covers `offset`.
    fn loaded_with(&self, topic: u32, offset: u64) -> Option<Arc<Sealed>> {
        let mut loaded = self.loaded.lock().expect("no panic while holding the lock");
        let covers = |sealed: &Arc<Sealed>| {
            let view = sealed.sidecar.view(topic);
            view.first().is_some_and(|first| first <= offset) && view.last() >= Some(offset)
        };
        let at = loaded.iter().rposition(covers)?;
        let sealed = loaded.remove(at);
        loaded.push(sealed.clone());
        Some(sealed)
    }

    /// A closed segment, from memory or from its files; `None` if it is gone.
    pub fn load(&self, number: u32) -> Result<Option<Arc<Sealed>>, Error> {
        let known = self
            .loaded
            .lock()
            .expect("no panic while holding the lock")
            .iter()
            .find(|s| s.number == number)
            .cloned();
        if known.is_some() {
            return Ok(known);
        }
        let Some(sealed) = Sealed::load(&self.segments, number)?.map(Arc::new) else { return Ok(None) };
        let mut loaded = self.loaded.lock().expect("no panic while holding the lock");
        loaded.retain(|s| s.number != number);
        loaded.push(sealed.clone());
        let mut bytes: usize = loaded.iter().map(|s| s.sidecar.weight()).sum();
        while loaded.len() > 1 && (bytes > LOADED_BYTES || loaded.len() > LOADED) {
            bytes -= loaded.remove(0).sidecar.weight();
        }
        Ok(Some(sealed))
    }
}

fn first_from(holder: &Holder, topic: u32, offset: u64) -> Option<u64> {
    holder.view(topic, |view| view.from(offset).next().map(|(found, _)| found))
}
