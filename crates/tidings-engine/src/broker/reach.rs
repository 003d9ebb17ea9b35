//! Which topics Broker's interface reaches, and the references that its lists are made of.
//!
//! Owns: the set of names, and the system topic `$broker`. In the same commit as an event of such a topic go
//! two small records, under the key of its collection and of its user; a cancelled event leaves a copy under
//! its id. So a list reads what is in it and nothing else. Never: lets in a topic by itself.

use crate::retention::{KIND, TopicSettings};
use crate::{Error, Tidings};
use std::collections::HashSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tidings_log::{Append, Due, RegistryChange};
use tidings_model::{Key, NewEvent, Record, RecordWriter, Timestamp, Topic, TopicName, Uuid};

/// Names of topics that Broker's interface reaches.
#[derive(Default)]
pub struct Reach {
    names: RwLock<Names>,
    /// Whether there is any, so that publishing elsewhere costs one look at this.
    is_used: AtomicBool,
}

#[derive(Default)]
struct Names {
    /// Named in the settings.
    configured: HashSet<TopicName>,
    /// First used through Broker's interface.
    marked: HashSet<TopicName>,
    /// Not for Broker whatever the others say.
    closed: HashSet<TopicName>,
}

impl Names {
    fn has(&self, name: &TopicName) -> bool {
        (self.marked.contains(name) || self.configured.contains(name)) && !self.closed.contains(name)
    }
}

/// Where an event lies that a list has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reference {
    pub id: Uuid,
    pub topic: Topic,
    /// It was scheduled, so it may be found there, or cancelled.
    pub was_due: bool,
}

impl Reach {
    pub fn has(&self, name: &TopicName) -> bool {
        if !self.is_used.load(Ordering::Acquire) {
            return false;
        }
        self.names.read().expect("no panic while holding the lock").has(name)
    }

    pub(super) fn names(&self) -> Vec<TopicName> {
        let names = self.names.read().expect("no panic while holding the lock");
        names.marked.union(&names.configured).filter(|name| names.has(name)).cloned().collect()
    }

    /// Takes note of whether a topic is marked.
    pub(crate) fn mark(&self, name: &TopicName, is_marked: bool) {
        let mut names = self.names.write().expect("no panic while holding the lock");
        if is_marked {
            names.marked.insert(name.clone());
            self.is_used.store(true, Ordering::Release);
        } else {
            names.marked.remove(name);
        }
    }

    /// Takes note of whether a topic is closed to Broker: its events are not for everybody.
    pub(crate) fn close(&self, name: &TopicName, is_closed: bool) {
        let mut names = self.names.write().expect("no panic while holding the lock");
        if is_closed {
            names.closed.insert(name.clone())
        } else {
            names.closed.remove(name)
        };
    }

    fn configure(&self, name: TopicName) {
        let mut names = self.names.write().expect("no panic while holding the lock");
        names.configured.insert(name);
        self.is_used.store(true, Ordering::Release);
    }

    /// Adds the references of an event that is about to be stored, if Broker's lists shall know it.
    pub(crate) fn refer(&self, event: &NewEvent, id: Uuid, is_due_later: bool, to: &mut Vec<Append>) {
        if !self.has(&event.topic.name) {
            return;
        }
        let keys = [
            event.topic.key.as_ref().map(Key::as_str).map(of_collection),
            event.user.as_deref().map(of_user),
        ];
        for key in keys.into_iter().flatten() {
            // A key too long for a reference cannot be asked for either.
            let Ok(key) = Key::parse(&key) else { continue };
            let mut reference = NewEvent::new(system(Some(key)), address(&event.topic));
            reference.available_at = event.available_at.filter(|_| is_due_later);
            to.push(append(reference, id));
        }
    }

    /// What stays of a scheduled event that is cancelled: nothing, unless Broker's lists know it.
    pub(crate) fn cancelled(&self, due: &Due) -> Vec<Append> {
        if !self.has(&due.topic) {
            return Vec::new();
        }
        let Ok(record) = Record::parse(due.record.clone().into()) else { return Vec::new() };
        let topic = Topic { name: due.topic.clone(), key: record.key().and_then(|k| Key::parse(k).ok()) };
        let mut copy =
            NewEvent::new(system(Some(of_cancelled(due.id))), record.data().unwrap_or("null").to_owned());
        copy.user = record.user().map(Into::into);
        copy.occurred_at = Some(due.at);
        copy.context =
            Some(format!("{{\"of\":{},\"owner\":{}}}", address(&topic), json(due.owner.as_deref())).into());
        vec![append(copy, due.id)]
    }
}

impl Tidings {
    /// Reads which topics are marked as Broker's.
    pub async fn load_reach(&self) -> Result<(), Error> {
        for (key, value) in self.log().registry(KIND).await? {
            let is_marked =
                serde_json::from_slice::<TopicSettings>(&value).is_ok_and(|s| s.broker == Some(true));
            if let (true, Ok(name)) = (is_marked, TopicName::parse_captured(&key)) {
                self.reach().mark(&name, true);
            }
        }
        Ok(())
    }

    /// Lets Broker's interface reach `names` beside the topics first used there.
    pub fn allow_reach(&self, names: Vec<TopicName>) {
        names.into_iter().for_each(|name| self.reach().configure(name));
    }
}

/// The record that marks a topic as Broker's.
pub(super) fn marking(name: &TopicName) -> RegistryChange {
    let settings = TopicSettings { broker: Some(true), ..TopicSettings::default() };
    let value = serde_json::to_vec(&settings).expect("plain fields");
    RegistryChange { kind: KIND.into(), key: name.as_str().into(), value: Some(value.into()) }
}

impl Reference {
    pub fn parse(record: &Record) -> Option<Self> {
        let address: String = serde_json::from_str(record.data()?).ok()?;
        Some(Self { id: record.id(), topic: parse(&address)?, was_due: record.available_at().is_some() })
    }
}

/// A cancelled event as it was kept.
pub(super) struct Cancelled {
    pub topic: Topic,
    pub owner: Option<String>,
    pub at: Timestamp,
}

impl Cancelled {
    pub fn parse(record: &Record) -> Option<Self> {
        #[derive(serde::Deserialize)]
        struct Context {
            of: String,
            owner: Option<String>,
        }
        let Context { of, owner } = serde_json::from_str(record.context()?).ok()?;
        Some(Self { topic: parse(&of)?, owner, at: record.occurred_at()? })
    }
}

/// The system topic, or one key of it.
pub(super) fn system(key: Option<Key>) -> Topic {
    Topic { name: TopicName::parse("$broker").expect("a name"), key }
}

pub(super) fn of_collection(id: &str) -> String {
    format!("c:{id}")
}

pub(super) fn of_user(id: &str) -> String {
    format!("u:{id}")
}

pub(super) fn of_cancelled(id: Uuid) -> Key {
    Key::parse(&format!("x:{id}")).expect("short and plain")
}

fn append(event: NewEvent, id: Uuid) -> Append {
    Append { topic: event.topic.name.clone(), record: RecordWriter::encode(&event, id) }
}

fn address(topic: &Topic) -> String {
    json(Some(&topic.to_string()))
}

fn json(text: Option<&str>) -> String {
    serde_json::to_string(&text).expect("a string into memory")
}

/// An address that was stored: its name may be that of a captured table.
fn parse(address: &str) -> Option<Topic> {
    let (name, key) = match address.split_once(':') {
        None => (address, None),
        Some((name, key)) => (name, Some(Key::parse(key).ok()?)),
    };
    Some(Topic { name: TopicName::parse_captured(name).ok()?, key })
}
