//! Addresses apart: several readers over one connection, each with a name, a caller and a place of its own.
//!
//! Owns: that what one of them gets depends on none of the others. Never: knows what the names mean.

use super::Subscription;
use crate::Error;
use crate::leg::{self, Apart, Leg};
use std::sync::Arc;
use tidings_model::{Cursor, Filter, From, Principal, Topic};

impl Subscription {
    /// Adds an address apart from all others, under a name of its own: `who` reads it, and its events come whatever
    /// else is read. One of the same name is replaced.
    pub async fn add_apart(
        &mut self,
        (name, who): (Arc<str>, Arc<Principal>),
        topic: Topic,
        from: &From,
        filter: Filter,
    ) -> Result<(), Error> {
        if !who.may_subscribe(&topic) {
            return Err(Error::MayNotSubscribe(topic));
        }
        self.remove_apart(&name);
        self.open(topic, from, filter, Some(Apart { name, who })).await
    }

    /// Stops reading what was added under `name`; `false` if nothing was.
    pub fn remove_apart(&mut self, name: &str) -> bool {
        let is_it = |l: &Leg| l.apart.as_ref().is_some_and(|apart| &*apart.name == name);
        self.legs.iter().position(is_it).map(|i| self.drop_leg(i)).is_some()
    }

    /// From now on `who` reads what was added under `name`.
    pub fn renew_apart(&mut self, name: &str, who: &Arc<Principal>) {
        let apart = self.legs.iter_mut().filter_map(|l| l.apart.as_mut()).find(|a| &*a.name == name);
        apart.into_iter().for_each(|apart| apart.who = Arc::clone(who));
        self.reseat();
    }

    /// The name under which the address of the last item was added, if it is one apart.
    pub fn apart(&self) -> Option<&Arc<str>> {
        self.legs.get(self.last)?.apart.as_ref().map(|apart| &apart.name)
    }

    /// The cursor of what was added under `name`.
    pub fn cursor_apart(&self, name: &str) -> Cursor {
        let is_it = |l: &&Leg| l.apart.as_ref().is_some_and(|apart| &*apart.name == name);
        leg::cursor(self.legs.iter().filter(is_it).map(|l| l.position(l.cursor, l.is_in_state())))
    }
}
