//! Which offsets of a topic are done with: all up to a floor, and some above it.
//!
//! Owns: the set and its compact form in a mark. Its size follows the number of gaps, whoever lets those grow
//! bounds them.

use std::collections::BTreeMap;

/// A set of offsets; everything up to `floor` is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    floor: u64,
    /// First and last of each stretch above the floor; neighbours are joined.
    above: BTreeMap<u64, u64>,
}

impl Settled {
    pub fn up_to(floor: u64) -> Self {
        Self { floor, above: BTreeMap::new() }
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The greatest offset in it.
    pub fn top(&self) -> u64 {
        self.above.last_key_value().map_or(self.floor, |(_, last)| *last)
    }

    pub fn contains(&self, offset: u64) -> bool {
        offset <= self.floor
            || self.above.range(..=offset).next_back().is_some_and(|(_, last)| offset <= *last)
    }

    /// Adds `first` to `last`.
    pub fn add(&mut self, first: u64, last: u64) {
        if last < first || last <= self.floor {
            return;
        }
        let (mut first, mut last) = (first, last);
        if let Some((start, end)) = self.above.range(..=first).next_back().map(|(s, e)| (*s, *e))
            && end.saturating_add(1) >= first
        {
            (first, last) = (start, last.max(end));
        }
        while let Some((start, end)) =
            self.above.range(first..=last.saturating_add(1)).next().map(|(s, e)| (*s, *e))
        {
            last = last.max(end);
            self.above.remove(&start);
        }
        if first <= self.floor + 1 {
            self.floor = last;
        } else {
            self.above.insert(first, last);
        }
    }

    /// Stretches above the floor and below the top that are not in it.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut next = self.floor + 1;
        self.above.iter().map(move |(first, last)| (std::mem::replace(&mut next, last + 1), first - 1))
    }

    /// Appends it: the floor, the number of stretches, then distances, all as LEB128.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.floor);
        put(out, self.above.len() as u64);
        let mut before = self.floor;
        for (first, last) in &self.above {
            put(out, first - before);
            put(out, last - first);
            before = *last;
        }
    }

    /// Takes one off the front of `bytes`; `None` if there is none.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let floor = take(bytes)?;
        let count = take(bytes)?;
        let mut own = Self::up_to(floor);
        let mut before = floor;
        for _ in 0..count {
            let first = before.checked_add(take(bytes)?)?;
            let last = first.checked_add(take(bytes)?)?;
            if first <= before {
                return None;
            }
            own.add(first, last);
            before = last;
        }
        Some(own)
    }
}

/// Appends a number as LEB128.
pub fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number off the front of `bytes`.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_added_and_reads_back(
            floor in 0u64..20,
            ranges in prop::collection::vec((1u64..80, 0u64..9), 0..40),
        ) {
            let (mut own, mut set) = (Settled::up_to(floor), (0..=floor).collect::<BTreeSet<u64>>());
            for (first, length) in ranges {
                own.add(first, first + length);
                set.extend(first..=first + length);
            }
            for offset in 1..100 {
                prop_assert_eq!(own.contains(offset), set.contains(&offset), "{}", offset);
            }
            prop_assert_eq!(own.top(), *set.last().unwrap());
            prop_assert!(!own.contains(own.floor() + 1));
            let missing: Vec<u64> = own.gaps().flat_map(|(first, last)| first..=last).collect();
            let expected: Vec<u64> = (own.floor() + 1..own.top()).filter(|o| !set.contains(o)).collect();
            prop_assert_eq!(missing, expected);
            let mut bytes = Vec::new();
            own.encode(&mut bytes);
            let mut rest = &bytes[..];
            prop_assert_eq!(Settled::decode(&mut rest), Some(own));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_a_set_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Settled::decode(&mut &bytes[..]);
        }
    }
}
