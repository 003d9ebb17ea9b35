//! Readers of one address who are all given the same: what each lacks is found out once for all of them.
//!
//! Owns: where such a reader stands ([`Track`]), and what everybody there is given next ([`Stretch`]). A reader that
//! differs in anything, or has fallen behind, has no track and goes step by step as ever; so has an event that is not
//! everyone's. Never: decides who may see an event; it knows only where nobody has to decide.

use super::Subscription;
use crate::feed::{Entry, Fetched};
use crate::listeners::Place;
use std::sync::Arc;
use tidings_model::{Epoch, Offset};

/// Where a reader of the newest events of one address stands. Whoever stands at the same place is given the same next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    place: Place,
    epoch: Epoch,
    generation: u64,
    passed: u64,
    cursor: Offset,
}

/// What comes next for everybody who stands at `from`, and where they stand then.
pub struct Stretch {
    pub from: Track,
    pub to: Track,
    pub entries: Vec<Arc<Entry>>,
}

impl Subscription {
    /// Where this reader stands, if it reads all of one address and has nothing to catch up.
    pub fn track(&self) -> Option<Track> {
        let [leg] = &self.legs[..] else { return None };
        let is_plain = self.watches.is_none()
            && leg.filter.is_empty()
            && leg.gap.is_none()
            && leg.retired.is_none()
            && leg.apart.is_none()
            && !leg.is_marked
            && !leg.is_behind();
        let (place, epoch) = (leg.feed.place(), leg.epoch.filter(|_| is_plain)?);
        let (generation, passed) = leg.counted();
        Some(Track { place, epoch, generation, passed, cursor: leg.cursor })
    }

    /// What comes next for everybody who stands at `from`, which is where this reader stands or where it was given
    /// everything up to; `None` where that takes a closer look at each.
    pub fn stretch(&self, from: Track) -> Option<Stretch> {
        let [leg] = &self.legs[..] else { return None };
        let shared = &leg.feed.shared;
        let is_now = shared.generation() == from.generation
            && shared.epoch() == Some(from.epoch)
            && shared.passed() == from.passed;
        if !is_now {
            return None;
        }
        let Fetched::Entries(entries, up_to) = leg.feed.after(from.cursor, self.max.events) else {
            return None;
        };
        let is_everyones = |entry: &Arc<Entry>| {
            let record = entry.event.record();
            record.audience().is_none() && record.before().is_none()
        };
        // As many as are taken at once: there may be more.
        let is_all = entries.len() < self.max.events;
        if entries.is_empty() || !is_all || !entries.iter().all(is_everyones) {
            return None;
        }
        Some(Stretch { from, to: Track { cursor: up_to.max(from.cursor), ..from }, entries })
    }

    /// Takes note that this reader was given everything up to `track`, which began where it stood.
    pub fn set_track(&mut self, track: Track) {
        if let [leg] = &mut self.legs[..] {
            leg.cursor = track.cursor;
            self.said = self.sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hub, Item, Step, Tidings};
    use tidings_log::{SystemClock, memory::MemoryLog};
    use tidings_model::{Filter, From, Limits, NewEvent, Principal, Topic};

    fn tidings() -> Tidings {
        let (limits, clock) = (Limits::default(), Arc::new(SystemClock));
        let hub = Arc::new(Hub::new(&limits));
        Tidings::new(Arc::new(MemoryLog::new(clock.clone(), hub.clone())), hub, clock, limits)
    }

    async fn publish(t: &Tidings, count: usize) {
        let event = || NewEvent::new(Topic::parse("t").unwrap(), "1".to_owned());
        t.publish(&Principal::admin(), (0..count).map(|_| event()).collect()).await.unwrap();
    }

    async fn reader(t: &Tidings, topics: &[&str], filter: Filter) -> Subscription {
        let topics = topics.iter().map(|t| Topic::parse(t).unwrap()).collect();
        t.subscribe(Arc::new(Principal::admin()), topics, &From::Latest, &filter).await.unwrap()
    }

    fn offsets(entries: &[Arc<Entry>]) -> Vec<u64> {
        entries.iter().map(|entry| entry.event.offset().0).collect()
    }

    #[tokio::test]
    async fn whoever_stands_at_the_same_place_is_given_the_same_and_goes_on_from_there() {
        let t = tidings();
        publish(&t, 1).await;
        let (a, mut b) =
            (reader(&t, &["t"], Filter::default()).await, reader(&t, &["t"], Filter::default()).await);
        publish(&t, 2).await;
        let (from, other) = (a.track().unwrap(), b.track().unwrap());
        assert_eq!(from, other);
        let stretch = a.stretch(from).unwrap();
        assert_eq!((stretch.from, offsets(&stretch.entries)), (from, vec![2, 3]));
        assert!(a.stretch(stretch.to).is_none(), "there is nothing behind it");
        publish(&t, 1).await;
        assert_eq!(
            offsets(&a.stretch(stretch.to).unwrap().entries),
            [4],
            "the subscription itself was not told"
        );
        b.set_track(stretch.to);
        assert!(b.heartbeat().is_none(), "what was handed out is no silent move");
        let Step::Item(Item::Events(batch)) = b.step() else { panic!("one more") };
        assert_eq!(offsets(&batch.entries), [4]);
        assert_ne!(b.track(), Some(stretch.to));
    }

    #[tokio::test]
    async fn whoever_differs_and_whatever_is_not_everyones_takes_a_closer_look() {
        let t = tidings();
        publish(&t, 1).await;
        assert!(reader(&t, &["t", "u"], Filter::default()).await.track().is_none());
        assert!(reader(&t, &["t"], Filter::parse_names("a").unwrap()).await.track().is_none());
        assert!(reader(&t, &["none"], Filter::default()).await.track().is_none(), "not in any life yet");
        let plain = reader(&t, &["t"], Filter::default()).await;
        let track = plain.track().unwrap();
        let passing = NewEvent::new(Topic::parse("t").unwrap(), "1".to_owned());
        t.pass_on(&Principal::admin(), vec![passing]).await.unwrap();
        publish(&t, 1).await;
        assert!(plain.stretch(track).is_none(), "something that only passes goes by too");
        let plain = reader(&t, &["t"], Filter::default()).await;
        let track = plain.track().unwrap();
        let topic = Topic::parse("t").unwrap();
        t.set_rule(&topic.name, serde_json::from_str("\"owner\"").unwrap(), vec![]).unwrap();
        let own = NewEvent::new(topic.clone(), "{\"owner\":\"ann\"}".to_owned());
        t.publish(&Principal::admin(), vec![own]).await.unwrap();
        assert!(plain.stretch(track).is_none(), "not for everyone");
        let plain = reader(&t, &["t"], Filter::default()).await;
        let track = plain.track().unwrap();
        t.drop_topic(&Principal::admin(), &topic.name).await.unwrap();
        publish(&t, 1).await;
        assert!(plain.stretch(track).is_none(), "another life of the topic");
    }
}
