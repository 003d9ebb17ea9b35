//! Topics by an id of their own: created before their first event, listed, ended.
//!
//! Owns: the records, one by name and one by id in the same commit, so that a name is taken once whatever happens at
//! the same time or breaks in between. A topic that came to be by its first event gets its id when it is first
//! listed. Order: one change at a time. Never: what is set for a topic; that is `retention`'s.

use crate::{Error, Tidings};
use serde::{Deserialize, Serialize};
use tidings_log::{Batch, RegistryChange};
use tidings_model::{Principal, TopicName, Uuid};

/// Key: the name; value: a [`Record`].
pub(crate) const KIND: &str = "named_topic";
/// Key: the id; value: the name.
const ID_KIND: &str = "topic_id";
/// Topics that get their id in one commit.
const NAMED_AT_ONCE: usize = 1000;

/// A topic that has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTopic {
    pub id: Uuid,
    pub name: TopicName,
    /// Means nothing to the hub.
    pub group_key: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group_key: Option<Box<str>>,
}

impl NamedTopic {
    fn read(name: TopicName, record: &[u8]) -> Result<Self, Error> {
        let refuse = |e: serde_json::Error| Error::Settings { field: "topic", why: e.to_string() };
        let Record { id, group_key } = serde_json::from_slice(record).map_err(refuse)?;
        Ok(Self { id, name, group_key })
    }

    fn put(&self) -> [RegistryChange; 2] {
        let record = Record { id: self.id, group_key: self.group_key.clone() };
        let record = serde_json::to_vec(&record).expect("plain fields");
        changes(self, Some(record), Some(self.name.as_str().into()))
    }

    pub(crate) fn remove(&self) -> [RegistryChange; 2] {
        changes(self, None, None)
    }
}

fn changes(topic: &NamedTopic, record: Option<Vec<u8>>, name: Option<Vec<u8>>) -> [RegistryChange; 2] {
    let change = |kind: &str, key: String, value: Option<Vec<u8>>| RegistryChange {
        kind: kind.into(),
        key,
        value: value.map(Into::into),
    };
    [change(KIND, topic.name.to_string(), record), change(ID_KIND, topic.id.to_string(), name)]
}

impl Tidings {
    /// The topic of this name, if it has an id.
    pub async fn named_topic(&self, name: &TopicName) -> Result<Option<NamedTopic>, Error> {
        let record = self.log().registered(KIND, name.as_str()).await?;
        record.map(|record| NamedTopic::read(name.clone(), &record)).transpose()
    }

    /// Creates a topic without an event.
    ///
    /// # Errors
    /// For anybody but an admin; when it exists, belongs to the system, or there are too many.
    pub async fn create_topic(
        &self,
        who: &Principal,
        name: TopicName,
        group_key: Option<Box<str>>,
    ) -> Result<NamedTopic, Error> {
        admin(who)?;
        if name.is_system() {
            return Err(Error::SystemTopic(name));
        }
        name.check_new()?;
        let mut count = self.directory().lock().await;
        if self.log().bounds(&name).is_some() || self.named_topic(&name).await?.is_some() {
            return Err(Error::TopicExists(name));
        }
        let there = match *count {
            Some(there) => there,
            None => self.log().registry(KIND).await?.len(),
        };
        *count = Some(there);
        let max = self.limits().topics;
        if there.max(self.log().topic_count()) >= max {
            return Err(Error::TopicsFull(max));
        }
        let topic = NamedTopic { id: Uuid::new_v4(), name, group_key };
        let batch = Batch { registry: topic.put().into(), ..Batch::default() };
        self.log().commit(batch).await?;
        *count = Some(there + 1);
        Ok(topic)
    }

    /// All topics in name order, without those of the system. Those that have no id yet get one.
    pub async fn named_topics(&self, who: &Principal) -> Result<Vec<NamedTopic>, Error> {
        admin(who)?;
        let mut count = self.directory().lock().await;
        let mut named = Vec::new();
        for (name, record) in self.log().registry(KIND).await? {
            if let Ok(name) = TopicName::parse_captured(&name) {
                named.push(NamedTopic::read(name, &record)?);
            }
        }
        named.sort_by(|a, b| a.name.cmp(&b.name));
        let mut after = None;
        let mut unnamed = Vec::new();
        loop {
            let some = self.log().topics(after.as_ref(), NAMED_AT_ONCE).await?;
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            let is_new = |name: &TopicName| named.binary_search_by(|own| own.name.cmp(name)).is_err();
            let new = some.into_iter().map(|(name, _)| name).filter(|name| !name.is_system() && is_new(name));
            unnamed.extend(new.map(|name| NamedTopic { id: Uuid::new_v4(), name, group_key: None }));
        }
        for some in unnamed.chunks(NAMED_AT_ONCE) {
            let registry = some.iter().flat_map(NamedTopic::put).collect();
            self.log().commit(Batch { registry, ..Batch::default() }).await?;
        }
        named.extend(unnamed);
        named.sort_by(|a, b| a.name.cmp(&b.name));
        *count = Some(named.len());
        Ok(named)
    }

    /// Ends the topic with this id, with its events, State and settings.
    pub async fn delete_topic(&self, who: &Principal, id: Uuid) -> Result<NamedTopic, Error> {
        admin(who)?;
        let name = self.log().registered(ID_KIND, &id.to_string()).await?;
        let name = name.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        let name = name.and_then(|name| TopicName::parse_captured(name).ok());
        let name = name.ok_or(Error::TopicIdUnknown(id))?;
        let topic = self.named_topic(&name).await?.ok_or(Error::TopicIdUnknown(id))?;
        match self.drop_topic(who, &name).await {
            Ok(()) => Ok(topic),
            Err(Error::TopicUnknown(_)) => Err(Error::TopicIdUnknown(id)),
            Err(error) => Err(error),
        }
    }
}

fn admin(who: &Principal) -> Result<(), Error> {
    if who.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}
