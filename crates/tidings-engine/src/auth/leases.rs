//! What tokens in use rest on, by user or API key.
//!
//! Owns: finding the lease that ends when one of them changes. Never: keeps one alive; those who rely on it do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use tidings_model::{Lease, Uuid};

#[derive(Default)]
pub struct Leases(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_user: HashMap<Uuid, Weak<Lease>>,
    /// When there are this many, those that nobody relies on are forgotten.
    sweep_at: usize,
}

const SWEEP_MIN: usize = 1024;

impl Leases {
    /// The lease that ends at the next change of `user`.
    pub fn of(&self, user: Uuid) -> Arc<Lease> {
        let mut known = self.0.lock().expect("no panic while holding the lock");
        if let Some(lease) = known.by_user.get(&user).and_then(Weak::upgrade) {
            return lease;
        }
        if known.by_user.len() >= known.sweep_at.max(SWEEP_MIN) {
            known.by_user.retain(|_, lease| lease.strong_count() > 0);
            known.sweep_at = 2 * known.by_user.len();
        }
        let lease = Arc::new(Lease::default());
        known.by_user.insert(user, Arc::downgrade(&lease));
        lease
    }

    /// Something that any of them may rest on has changed.
    pub fn end_all(&self) {
        let known = std::mem::take(&mut *self.0.lock().expect("no panic while holding the lock"));
        known.by_user.values().filter_map(Weak::upgrade).for_each(|lease| lease.end());
    }

    /// `user` has changed: whoever asks from now on gets another lease, and the old one ends.
    pub fn end(&self, user: Uuid) {
        let lease = self.0.lock().expect("no panic while holding the lock").by_user.remove(&user);
        if let Some(lease) = lease.and_then(|lease| lease.upgrade()) {
            lease.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_until_it_ends_and_forgotten_when_nobody_relies_on_it() {
        let (leases, user) = (Leases::default(), Uuid::from_u128(1));
        let lease = leases.of(user);
        assert!(Arc::ptr_eq(&lease, &leases.of(user)));
        leases.end(user);
        assert!(lease.is_over() && !leases.of(user).is_over());
        for id in 0..5 * SWEEP_MIN {
            leases.of(Uuid::from_u128(id as u128));
        }
        assert!(leases.0.lock().unwrap().by_user.len() <= SWEEP_MIN);
    }
}
