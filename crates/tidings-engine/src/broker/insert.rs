//! Inserting and cancelling with Broker's words.

use super::entry::BrokerEvent;
use super::reach::{self, Cancelled};
use super::{Broker, may_insert};
use crate::Error;
use crate::retention::KIND;
use bytes::Bytes;
use tidings_log::{Batch, ReadMax};
use tidings_model::{Key, NewEvent, Offset, Principal, Timestamp, Topic, TopicName, Uuid};

/// What a client wants to become the latest of a collection.
#[derive(Debug, Clone)]
pub struct Insert {
    pub event: TopicName,
    pub collection: Key,
    /// Seconds since 1970; in the future it waits until then.
    pub timestamp: i64,
    /// JSON.
    pub data: Bytes,
}

impl Broker {
    /// Stores an event, or schedules it where its time has not come. A topic that does not exist yet becomes
    /// one of Broker's.
    ///
    /// # Errors
    /// When the topic is not one of Broker's or is the system's, when `who` is neither one of our own users
    /// nor has the grant, when the event breaks a rule or a limit, and when the log refuses.
    pub async fn insert(&self, who: &Principal, insert: Insert) -> Result<BrokerEvent, Error> {
        let tidings = &self.0;
        let Insert { event: name, collection, timestamp, data } = insert;
        let at = timestamp.checked_mul(1000).and_then(Timestamp::from_millis);
        let at = at.ok_or(Error::TimestampRange(timestamp))?;
        let topic = Topic { name: name.clone(), key: Some(collection.clone()) };
        if name.is_system() {
            return Err(Error::SystemTopic(name));
        }
        tidings.check_free(&name)?;
        if !may_insert(who, &topic) {
            return Err(Error::MayNotPublish(topic));
        }
        let mut event = NewEvent::new(topic, data.clone());
        event.user = who.id.as_deref().map(Into::into);
        event.occurred_at = Some(at);
        event.available_at = Some(at).filter(|at| *at > tidings.clock().now());
        tidings.check_form(&event, 0)?;
        let mut registry = Vec::new();
        let is_new = !self.reaches(&name);
        if is_new {
            let is_somebodys = tidings.log().bounds(&name).is_some()
                || tidings.log().registered(KIND, name.as_str()).await?.is_some();
            if is_somebodys {
                return Err(Error::NotBrokers(name));
            }
            tidings.check_room(&name)?;
            registry.push(reach::marking(&name));
            // Before the commit, so that whoever listens is told of this event already.
            tidings.reach().mark(&name, true);
        }
        let receipt = match tidings
            .store(who, std::iter::once(tidings.decide_one(0, event)), Batch { registry, ..Batch::default() })
            .await
        {
            Ok(receipt) => receipt,
            Err(error) => {
                // Another insert may have marked it by now; what is stored decides.
                if is_new && tidings.log().registered(KIND, name.as_str()).await?.is_none() {
                    tidings.reach().mark(&name, false);
                }
                return Err(error);
            }
        };
        Ok(BrokerEvent {
            id: receipt.events.first().expect("one receipt for one event").id,
            user: who.id.as_deref().unwrap_or_default().to_owned(),
            collection: collection.to_string(),
            event: name.to_string(),
            timestamp,
            is_published: false,
            is_cancelled: false,
            data: String::from_utf8_lossy(&data).into_owned(),
        })
    }

    /// Takes an event out that waits for its time; doing so again changes nothing.
    ///
    /// # Errors
    /// When nothing with this id waits or was cancelled (it may have been published), and when `who` neither
    /// inserted it nor is an admin.
    pub async fn cancel(&self, who: &Principal, id: Uuid) -> Result<BrokerEvent, Error> {
        let due = match self.0.log().due_by_id(id).await? {
            Some(due) if self.reaches(&due.topic) => self.0.cancel(who, id).await.map(Some),
            // What is scheduled elsewhere is not shown here.
            Some(_) => Err(Error::ScheduledUnknown(id)),
            None => Ok(None),
        };
        match due {
            Ok(Some(due)) => Ok(BrokerEvent { is_cancelled: true, ..BrokerEvent::of_due(due)? }),
            // Gone in between: cancelled or published.
            Ok(None) | Err(Error::ScheduledUnknown(_)) => {
                let (event, owner) = self.cancelled(id).await?.ok_or(Error::ScheduledUnknown(id))?;
                let is_own = owner.is_some() && owner.as_deref() == who.id.as_deref();
                if who.is_admin || is_own { Ok(event) } else { Err(Error::NotOwner) }
            }
            Err(error) => Err(error),
        }
    }

    /// A cancelled event, and who had scheduled it.
    pub(super) async fn cancelled(&self, id: Uuid) -> Result<Option<(BrokerEvent, Option<String>)>, Error> {
        let system = reach::system(None).name;
        let max = ReadMax { events: 1, bytes: 1 };
        let found = self.0.log().read_key(&system, &reach::of_cancelled(id), Offset::ZERO, max).await?;
        let Some(copy) = found.first() else { return Ok(None) };
        let Some(Cancelled { topic, owner, at }) = Cancelled::parse(copy.record()) else { return Ok(None) };
        if !self.reaches(&topic.name) {
            return Ok(None);
        }
        let event = BrokerEvent::of_record(copy.record(), topic.name.as_str(), super::entry::seconds(at));
        let collection = topic.key.map_or_else(String::new, |key| key.to_string());
        Ok(Some((BrokerEvent { collection, is_cancelled: true, ..event }, owner)))
    }
}
