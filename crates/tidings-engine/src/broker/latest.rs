//! Which event of each collection is the latest: the greatest (timestamp, offset).
//!
//! Owns: the places only, not the events. Never: reads the log.

use super::entry::timestamp;
use std::collections::HashMap;
use tidings_model::{Event, Key, Offset};

/// Where an event stands among those of its collection; the greatest is the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Seconds since 1970.
    pub timestamp: i64,
    /// Decides within a second: the later insert wins.
    pub offset: Offset,
}

/// The latest of each collection of a topic.
#[derive(Default)]
pub(super) struct Latest(HashMap<Key, Place>);

impl Latest {
    /// Takes in an event. `Some` if it is the latest of its collection now, with the place of the one before.
    pub fn add(&mut self, event: &Event) -> Option<(Place, Option<Place>)> {
        let key = Key::parse(event.key()?).ok()?;
        let place = Place { timestamp: timestamp(event), offset: event.offset() };
        match self.0.get_mut(&key) {
            Some(own) if *own >= place => None,
            Some(own) => Some((place, Some(std::mem::replace(own, place)))),
            None => {
                self.0.insert(key, place);
                Some((place, None))
            }
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The offsets of all, ascending.
    pub fn offsets(&self) -> Vec<Offset> {
        let mut all: Vec<Offset> = self.0.values().map(|place| place.offset).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use tidings_model::{Epoch, NewEvent, RecordWriter, Timestamp, Topic, Uuid};

    fn event(offset: u64, key: &str, seconds: i64) -> Event {
        let topic = Topic::parse(&format!("t:{key}")).unwrap();
        let mut new = NewEvent::new(topic.clone(), "{}");
        new.occurred_at = Timestamp::from_millis(seconds * 1000);
        let record = RecordWriter::encode(&new, Uuid::from_u128(offset.into()));
        Event::new(topic.name, Epoch(1), Offset(offset), record.into()).unwrap()
    }

    proptest! {
        #[test]
        fn the_latest_is_the_greatest_of_time_and_order(inserts in prop::collection::vec((0..4u8, -3..3i64), 0..40)) {
            let (mut latest, mut model) = (Latest::default(), BTreeMap::new());
            for (i, (key, seconds)) in inserts.into_iter().enumerate() {
                let offset = i as u64 + 1;
                let before = model.get(&key).copied();
                let place = Place { timestamp: seconds, offset: Offset(offset) };
                let expected = before.is_none_or(|own| place > own).then_some((place, before));
                prop_assert_eq!(latest.add(&event(offset, &key.to_string(), seconds)), expected);
                if expected.is_some() {
                    model.insert(key, place);
                }
            }
            let mut offsets: Vec<Offset> = model.values().map(|p| p.offset).collect();
            offsets.sort();
            prop_assert_eq!((latest.offsets(), latest.len()), (offsets, model.len()));
        }
    }
}
