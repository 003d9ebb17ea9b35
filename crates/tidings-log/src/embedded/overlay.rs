//! What the writer knows and a follower has not applied yet.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Values by key, each kept until the news that carries it to the follower is applied.
pub struct Overlay<K, V> {
    /// With the group that each belongs to.
    map: HashMap<K, (u64, V)>,
    /// The group that is being put together.
    group: u64,
    /// Groups that were handed to the follower, each with the number of its news.
    pushed: VecDeque<(u64, u64)>,
    /// Looked through for applied values when it has grown to this.
    settle_at: usize,
}

const SETTLE_AT: usize = 4096;

impl<K, V> Default for Overlay<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), group: 0, pushed: VecDeque::new(), settle_at: SETTLE_AT }
    }
}

impl<K: Hash + Eq, V> Overlay<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key).map(|(_, value)| value)
    }

    /// Answers what was there, for [`Overlay::restore`].
    pub fn insert(&mut self, key: K, value: V) -> Option<(u64, V)> {
        self.map.insert(key, (self.group, value))
    }

    pub fn restore(&mut self, key: K, before: Option<(u64, V)>) {
        match before {
            Some(before) => drop(self.map.insert(key, before)),
            None => drop(self.map.remove(&key)),
        }
    }

    /// What was inserted since the last call went to the follower under this number.
    pub fn pushed(&mut self, number: u64) {
        self.pushed.push_back((self.group, number));
        self.group += 1;
    }

    /// Drops what the follower has applied. Not while a group is being put together.
    pub fn settle(&mut self, applied: impl FnOnce() -> u64) {
        if self.pushed.is_empty() {
            return;
        }
        let applied = applied();
        let mut settled = None;
        while let Some((group, _)) = self.pushed.front().filter(|(_, number)| *number <= applied) {
            settled = Some(*group);
            self.pushed.pop_front();
        }
        if self.pushed.is_empty() {
            self.map.clear();
            self.map.shrink_to(SETTLE_AT);
        } else if let Some(settled) = settled
            && self.map.len() >= self.settle_at
        {
            self.map.retain(|_, (group, _)| *group > settled);
            self.settle_at = (self.map.len() * 2).max(SETTLE_AT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_until_its_news_is_applied() {
        let mut overlay = Overlay::default();
        overlay.insert("a", 1);
        overlay.pushed(5);
        overlay.insert("b", 2);
        overlay.pushed(9);
        overlay.settle(|| 5);
        assert_eq!(overlay.get(&"b"), Some(&2));
        let before = overlay.insert("b", 3);
        overlay.restore("b", before);
        assert_eq!(overlay.get(&"b"), Some(&2));
        overlay.settle(|| 9);
        assert_eq!(overlay.get(&"b"), None);
    }
}
