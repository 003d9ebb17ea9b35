//! Events that pass without being stored: from whoever publishes them to those who read live at that moment.
//!
//! Owns: authorising, validating and stamping such events, and the ring that each address keeps of them. They are
//! no part of the log (I3): without offset and cursor, never seen by pages, State, resuming or webhooks. A reader
//! takes them when nothing stored is at hand for it; one that lags finds the newest so many. Order: kept within
//! one call; not promised among calls, nor between these and stored events.

use crate::feed::Entry;
use crate::{Error, Tidings};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tidings_model::{Event, NewEvent, Principal, RecordWriter, TopicName, Uuid};

/// The newest passing events of one address, each with its number among those of the whole topic.
pub(crate) struct Ring {
    held: Mutex<Held>,
    events_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Held {
    entries: VecDeque<(u64, Arc<Entry>)>,
    bytes: usize,
}

impl Ring {
    pub fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { held: Mutex::default(), events_max, bytes_max }
    }

    /// Takes in the event of this number; the oldest make room.
    pub fn push(&self, number: u64, entry: Arc<Entry>) {
        let mut held = self.held.lock().expect("no panic while holding the lock");
        held.bytes += entry.event.weight();
        held.entries.push_back((number, entry));
        while held.entries.len() > self.events_max || held.bytes > self.bytes_max {
            let Some((_, gone)) = held.entries.pop_front() else { return };
            held.bytes -= gone.event.weight();
        }
    }

    /// Up to `max` events after that number, oldest first.
    pub fn after(&self, number: u64, max: usize) -> Vec<(u64, Arc<Entry>)> {
        let held = self.held.lock().expect("no panic while holding the lock");
        let start = held.entries.partition_point(|(own, _)| *own <= number);
        held.entries.range(start..).take(max).cloned().collect()
    }
}

impl Tidings {
    /// Passes `events` on to the subscriptions of this moment, all or none, and returns them as these get them.
    /// Nothing is stored: who is not there misses them, an id is not remembered, `available_at` delays nothing,
    /// and no topic comes into being.
    ///
    /// # Errors
    /// Without the grant for one of the topics, or when an event breaks a rule or a limit.
    pub async fn pass_on(&self, who: &Principal, events: Vec<NewEvent>) -> Result<Vec<Event>, Error> {
        let max = self.limits().batch_events;
        if events.len() > max {
            return Err(Error::BatchTooLarge { found: events.len(), max });
        }
        for (index, event) in events.iter().enumerate() {
            self.check_form(event, index)?;
            if event.topic.name.is_system() {
                return Err(Error::SystemTopic(event.topic.name.clone()));
            }
            if !who.may_publish(&event.topic) {
                return Err(Error::MayNotPublish(event.topic.clone()));
            }
            self.check_free(&event.topic.name)?;
        }
        let now = self.clock().now();
        let stamped = self.decide(events)?.into_iter().map(|(event, sight)| {
            let id = event.id.unwrap_or_else(Uuid::now_v7);
            let mut record = RecordWriter::encode_for(&event, id, &sight);
            RecordWriter::stamp(&mut record, now);
            Event::passing(event.topic.name, Bytes::from(record)).expect("a record just made")
        });
        let stamped: Vec<Event> = stamped.collect();
        let mut by_topic: HashMap<&TopicName, Vec<Event>> = HashMap::new();
        for event in &stamped {
            by_topic.entry(event.topic()).or_default().push(event.clone());
        }
        for (topic, events) in by_topic {
            self.hub().pass(topic, events);
        }
        self.counters().passed_on(stamped.len());
        Ok(stamped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::Topic;

    fn entry() -> Arc<Entry> {
        let new = NewEvent::new(Topic::parse("t").unwrap(), "1");
        let record = RecordWriter::encode(&new, Uuid::from_u128(1));
        Arc::new(Entry::new(Event::passing(new.topic.name, record.into()).unwrap()))
    }

    fn numbers(ring: &Ring, after: u64) -> Vec<u64> {
        ring.after(after, 10).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn the_oldest_make_room_and_a_reader_finds_what_it_has_not_seen() {
        let ring = Ring::new(3, usize::MAX);
        (1..=5).for_each(|n| ring.push(n * 2, entry()));
        assert_eq!(numbers(&ring, 0), [6, 8, 10]);
        assert_eq!(numbers(&ring, 7), [8, 10]);
        assert!(numbers(&ring, 10).is_empty());
    }

    #[test]
    fn bytes_are_bounded_whatever_the_number_of_events() {
        let ring = Ring::new(10, 2 * entry().event.weight());
        (1..=5).for_each(|n| ring.push(n, entry()));
        assert_eq!(numbers(&ring, 0), [4, 5]);
        let none = Ring::new(10, 1);
        none.push(1, entry());
        assert!(numbers(&none, 0).is_empty());
    }
}
