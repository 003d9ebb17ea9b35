//! Broker's lists: all events of a collection, all events of a user, whatever became of them.
//!
//! Owns: following the references to where the events lie now. A list holds the newest events within the
//! limits; it costs what is in it (and what else lies in the same collections), never a scan of a topic.

use super::entry::BrokerEvent;
use super::reach::{Reference, of_collection, of_user, system};
use super::{Broker, may_see};
use crate::Error;
use std::collections::{BTreeMap, HashMap, VecDeque};
use tidings_log::ReadMax;
use tidings_model::{Event, Key, Offset, Principal, Topic, TopicName, Uuid};

/// Events in the order of their timestamps; those of one second as they were inserted.
#[derive(Debug, Default)]
pub struct Listing {
    pub events: Vec<BrokerEvent>,
    /// Older events were left out, for their number or size.
    pub is_cut: bool,
}

/// A list while it is put together.
struct Gathering {
    events: BTreeMap<(i64, usize), BrokerEvent>,
    bytes: usize,
    bytes_max: usize,
    is_cut: bool,
}

impl Gathering {
    fn add(&mut self, number: usize, event: BrokerEvent) {
        self.bytes += event.weight();
        self.events.insert((event.timestamp, number), event);
        while self.bytes > self.bytes_max && self.events.len() > 1 {
            let (_, oldest) = self.events.pop_first().expect("not empty");
            self.bytes -= oldest.weight();
            self.is_cut = true;
        }
    }
}

impl Broker {
    /// All events of a collection that `who` may see. One that nobody has used is empty.
    pub async fn collection(&self, who: &Principal, id: &str) -> Result<Listing, Error> {
        self.list(who, &of_collection(id)).await
    }

    /// All events that the user inserted.
    pub async fn of_user(&self, who: &Principal, user: &str) -> Result<Listing, Error> {
        self.list(who, &of_user(user)).await
    }

    async fn list(&self, who: &Principal, key: &str) -> Result<Listing, Error> {
        let Ok(key) = Key::parse(key) else { return Ok(Listing::default()) };
        let _permit = self.0.reads().acquire().await.map_err(|_| Error::Draining)?;
        let (references, is_cut) = self.references(who, &key).await?;
        let bytes_max = self.0.limits().broker_list_bytes;
        let mut list = Gathering { events: BTreeMap::new(), bytes: 0, bytes_max, is_cut };
        // By address, so that each is read once; by id, with the number that says the order of inserting.
        let mut wanted: HashMap<Topic, HashMap<Uuid, (usize, bool)>> = HashMap::new();
        for (number, Reference { id, topic, was_due }) in references.into_iter().enumerate() {
            wanted.entry(topic).or_default().entry(id).or_insert((number, was_due));
        }
        for (topic, mut ids) in wanted {
            self.published(&topic, &mut ids, &mut list).await?;
            ids.retain(|_, (_, was_due)| *was_due);
            let mut fired = HashMap::new();
            for (id, (number, was_due)) in ids {
                match self.waiting(id).await? {
                    Some(event) => list.add(number, event),
                    None => drop(fired.insert(id, (number, was_due))),
                }
            }
            if !fired.is_empty() {
                // It was published between the two looks, or retention has taken it.
                self.published(&topic, &mut fired, &mut list).await?;
            }
        }
        Ok(Listing { events: list.events.into_values().collect(), is_cut: list.is_cut })
    }

    /// The newest references under a key, in the order of inserting, and whether there are older ones.
    async fn references(&self, who: &Principal, key: &Key) -> Result<(Vec<Reference>, bool), Error> {
        let system: TopicName = system(None).name;
        let (max, mut after, mut is_cut) = (self.0.limits().broker_list_events, Offset::ZERO, false);
        let mut newest = VecDeque::new();
        loop {
            let page = self.0.log().read_key(&system, key, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.offset();
            for event in &page {
                let Some(reference) = Reference::parse(event.record()) else { continue };
                if !self.reaches(&reference.topic.name) || !may_see(who, &reference.topic) {
                    continue;
                }
                newest.push_back(reference);
                if newest.len() > max {
                    newest.pop_front();
                    is_cut = true;
                }
            }
        }
        Ok((newest.into(), is_cut))
    }

    /// Adds those of `ids` that have been published, and takes them out of it.
    async fn published(
        &self,
        topic: &Topic,
        ids: &mut HashMap<Uuid, (usize, bool)>,
        list: &mut Gathering,
    ) -> Result<(), Error> {
        let mut after = Offset::ZERO;
        while !ids.is_empty() {
            let page = match &topic.key {
                Some(key) => self.0.log().read_key(&topic.name, key, after, PAGE).await?,
                None => self.unkeyed(&topic.name, after).await?,
            };
            let Some(last) = page.last() else { break };
            after = last.offset();
            for event in &page {
                if let Some((number, _)) = ids.remove(&event.id())
                    && event.audience() == tidings_model::Audience::Everyone
                {
                    list.add(number, BrokerEvent::of(event));
                }
            }
        }
        Ok(())
    }

    /// A page of a whole topic, for the rare event without a key.
    async fn unkeyed(&self, name: &TopicName, after: Offset) -> Result<Vec<Event>, Error> {
        let oldest = self.0.log().bounds(name).map_or(Offset::ZERO, |b| Offset(b.oldest.0 - 1));
        match self.0.log().read(name, after.max(oldest), PAGE).await {
            Err(tidings_log::Error::Trimmed { oldest, .. }) => {
                Ok(self.0.log().read(name, Offset(oldest.0 - 1), PAGE).await?)
            }
            answer => Ok(answer?),
        }
    }

    /// An event that waits for its time or was cancelled before it.
    async fn waiting(&self, id: Uuid) -> Result<Option<BrokerEvent>, Error> {
        if let Some(due) = self.0.log().due_by_id(id).await? {
            return BrokerEvent::of_due(due).map(Some);
        }
        Ok(self.cancelled(id).await?.map(|(event, _)| event))
    }
}

const PAGE: ReadMax = ReadMax { events: 512, bytes: 1 << 20 };
