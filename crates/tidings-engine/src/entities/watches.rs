//! The entities that one reader watches.
//!
//! Owns: the reader's secret or principal, what it may watch with that, and which of its cells has something
//! new. Never: holds rows for a reader that does not come for them.

use super::cell::{Cell, Found, Seen, Why};
use super::{Entities, Secret, resolver};
use crate::listeners::{Listener, Place};
use crate::{Error, Item};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tidings_model::{EntityKey, Principal};

/// What decides whether a reader may watch an entity, beside its resolver.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nothing: the resolver sees the secret, and decides.
    Open,
    /// The grant to subscribe to the topic of the same name.
    Granted(Arc<Principal>),
    /// The same, of whoever the reader shows itself to be in time: what is not granted waits for that.
    Shown(Arc<Principal>),
}

/// What a reader wants of an entity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// The rows as they are now, before any change.
    pub state: bool,
    /// To be told when they cannot be had.
    pub trouble: bool,
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    New,
    Already,
    /// It begins once the reader shows that it may.
    Barred,
}

/// The rows of an entity cannot be had at the moment.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub key: EntityKey,
    pub error: resolver::Error,
}

/// See the module.
pub struct Watches {
    entities: Entities,
    access: Access,
    secret: Secret,
    list: HashMap<Place, Watch>,
    barred: HashMap<EntityKey, Wish>,
    /// Where there may be something new.
    dirty: VecDeque<Place>,
    looks_everywhere: bool,
}

struct Watch {
    cell: Arc<Cell>,
    seen: Seen,
    wish: Wish,
}

impl Watch {
    fn begin(cell: Arc<Cell>, wish: Wish) -> Self {
        // Before the fetch is asked for, so that no change falls between the two.
        let mut seen = cell.seen();
        seen.wants_state = wish.state;
        if wish.state {
            cell.touch(Why::Reader);
        }
        Self { cell, seen, wish }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cell.kind().leave(&self.cell);
    }
}

impl Watches {
    pub fn new(entities: Entities, access: Access) -> Self {
        Self {
            entities,
            access,
            secret: Secret::default(),
            list: HashMap::new(),
            barred: HashMap::new(),
            dirty: VecDeque::new(),
            looks_everywhere: false,
        }
    }

    /// Begins to watch `key`, or asks for its state again.
    ///
    /// # Errors
    /// When there is no such entity, or the reader has as many as it may.
    pub fn watch(&mut self, key: &EntityKey, wish: Wish) -> Result<Watched, Error> {
        let kind = self.entities.kind(&key.entity).ok_or_else(|| Error::EntityUnknown(key.entity.clone()))?;
        let cell = kind.join(&key.id, &self.secret);
        if let Some(known) = self.list.get_mut(&cell.place()) {
            known.wish = wish;
            if wish.state {
                known.seen.wants_state = true;
                cell.touch(Why::Reader);
            }
            kind.leave(&cell);
            return Ok(Watched::Already);
        }
        let max = self.entities.keys_max();
        if self.len() >= max && !self.barred.contains_key(key) {
            kind.leave(&cell);
            return Err(Error::EntitiesTooMany(max));
        }
        if !self.may_watch(key) {
            kind.leave(&cell);
            let was = self.barred.insert(key.clone(), wish);
            return Ok(if was.is_some() { Watched::Already } else { Watched::Barred });
        }
        self.looks_everywhere = true;
        self.list.insert(cell.place(), Watch::begin(cell, wish));
        Ok(Watched::New)
    }

    /// No longer watches `key`; `false` if it did not.
    pub fn unwatch(&mut self, key: &EntityKey) -> bool {
        if self.barred.remove(key).is_some() {
            return true;
        }
        let Some(kind) = self.entities.kind(&key.entity) else { return false };
        let cell = kind.join(&key.id, &self.secret);
        let was = self.list.remove(&cell.place()).is_some();
        kind.leave(&cell);
        was
    }

    /// From now on rows are fetched with this secret, for what is watched already too.
    pub fn set_secret(&mut self, secret: Secret) {
        if secret == self.secret {
            return;
        }
        self.secret = secret;
        let all = std::mem::take(&mut self.list);
        for (place, watch) in all {
            if !watch.cell.kind().secret_matters() {
                self.list.insert(place, watch);
                continue;
            }
            let cell = watch.cell.kind().join(&watch.cell.key.id, &self.secret);
            self.list.insert(cell.place(), Watch::begin(cell, watch.wish));
        }
        self.looks_everywhere = true;
    }

    /// Goes on as `who`, if that matters. Entities that one may watch begin, others are given up and returned;
    /// a reader that may yet show itself to be another keeps them in mind instead.
    pub fn set_principal(&mut self, who: &Arc<Principal>) -> Vec<EntityKey> {
        let waits = match &mut self.access {
            Access::Open => return Vec::new(),
            Access::Granted(own) | Access::Shown(own) => {
                own.clone_from(who);
                matches!(self.access, Access::Shown(_))
            }
        };
        let mut lost = Vec::new();
        for (place, watch) in std::mem::take(&mut self.list) {
            let key = watch.cell.key.clone();
            if self.may_watch(&key) {
                self.list.insert(place, watch);
            } else if waits {
                self.barred.insert(key, watch.wish);
            } else {
                lost.push(key);
            }
        }
        let begins: Vec<_> = self.barred.keys().filter(|key| self.may_watch(key)).cloned().collect();
        for key in begins {
            let wish = self.barred.remove(&key).expect("one of its keys");
            if let Some(kind) = self.entities.kind(&key.entity) {
                let cell = kind.join(&key.id, &self.secret);
                self.list.insert(cell.place(), Watch::begin(cell, wish));
            }
        }
        self.looks_everywhere = true;
        lost
    }

    fn may_watch(&self, key: &EntityKey) -> bool {
        match &self.access {
            Access::Open => true,
            Access::Granted(who) | Access::Shown(who) => who.may_subscribe(&key.topic()),
        }
    }

    /// Entities subscribed to.
    pub fn len(&self) -> usize {
        self.list.len() + self.barred.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Something may be new at `place`.
    pub(crate) fn news_at(&mut self, place: Place) {
        let place = place.lasting();
        if self.list.contains_key(&place) {
            self.dirty.push_back(place);
        }
    }

    /// Something may be new anywhere.
    pub(crate) fn look_everywhere(&mut self) {
        self.looks_everywhere = true;
    }

    /// The next item, without waiting.
    pub(crate) fn step(&mut self) -> Option<Item> {
        if std::mem::take(&mut self.looks_everywhere) {
            let dirty: HashSet<Place> = self.dirty.iter().copied().collect();
            let more =
                self.list.iter().filter(|(place, w)| w.cell.has_news(&w.seen) && !dirty.contains(place));
            self.dirty.extend(more.map(|(place, _)| *place));
        }
        while let Some(place) = self.dirty.front().copied() {
            if let Some(watch) = self.list.get_mut(&place)
                && watch.cell.has_news(&watch.seen)
            {
                match watch.cell.look(&mut watch.seen, watch.wish.trouble) {
                    Found::Rows(rows) => return Some(Item::Rows(rows)),
                    Found::Trouble(error) => {
                        return Some(Item::Trouble(Trouble { key: watch.cell.key.clone(), error }));
                    }
                    Found::Nothing => {}
                }
            }
            self.dirty.pop_front();
        }
        // Gives back what a burst has taken.
        if self.dirty.capacity() > 64 {
            self.dirty = VecDeque::new();
        }
        None
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let waiting = self.list.iter().filter(|(_, w)| w.seen.wants_state).map(|(place, _)| place.once());
        self.list.keys().copied().chain(waiting)
    }

    pub(crate) fn listen(&self, listener: &Arc<dyn Listener>) {
        self.list.values().for_each(|w| w.cell.listen(listener));
    }

    pub(crate) fn unlisten(&self, listener: &Arc<dyn Listener>) {
        self.list.values().for_each(|w| w.cell.unlisten(listener));
    }
}
