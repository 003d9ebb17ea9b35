//! Inbound webhooks: other people's servers post here, and what they post becomes events.
//!
//! Owns: which such inlets there are, whom they admit, and what event a body makes. An inlet publishes to its own
//! topic and to nothing else. Never: knows HTTP beyond the few headers it is shown.

mod proof;
mod record;
mod refusal;
mod settings;

pub use proof::Shown;
pub use record::{Inbound, Kind, NewInbound, Patch, Secrets};
pub use refusal::InboundError;
pub use settings::InboundSettings;

use crate::auth::attempts::Attempts;
use crate::{Error, Receipt, Tidings};
use aws_lc_rs::digest;
use bytes::Bytes;
use record::Record;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use tidings_log::{Batch, RegistryChange};
use tidings_model::{Attributes, EventError, Grant, Grants, NewEvent, Principal, Timestamp, TopicName, Uuid};
use tokio::sync::Mutex;

/// The registry's word for inlets.
const KIND: &str = "inbound";
/// The name of an event for which neither inlet nor body has one.
const NAME: &str = "webhook.inbound";

/// All inbound webhooks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Inbounds(Arc<Inner>);

struct Inner {
    tidings: Tidings,
    max: usize,
    pace: Attempts,
    /// Held while a record is changed. How many there are, once counted.
    changes: Mutex<Option<usize>>,
}

/// A sender whose head was found good; the body decides the rest.
pub struct Admitted(Record);

impl Inbounds {
    pub fn new(tidings: Tidings, settings: InboundSettings) -> Self {
        let pace = Attempts::new(settings.burst, settings.per_minute);
        Self(Arc::new(Inner { tidings, max: settings.max, pace, changes: Mutex::default() }))
    }

    /// Makes an inlet, for an admin. Its secrets are told this once.
    pub async fn create(&self, who: &Principal, new: NewInbound) -> Result<(Inbound, Secrets), Error> {
        admin(who)?;
        if new.topic.name.is_system() {
            return Err(Error::SystemTopic(new.topic.name));
        }
        let mut count = self.0.changes.lock().await;
        let known = match *count {
            Some(known) => known,
            None => self.count().await?,
        };
        *count = Some(known);
        if known >= self.0.max {
            return Err(InboundError::Full(self.0.max).into());
        }
        let (record, secrets) = Record::new(new, Uuid::now_v7(), self.0.tidings.clock().now())?;
        // Forgotten first: if it cannot be said whether the commit took place, they are counted anew.
        *count = None;
        self.commit(record.id, Some(record.bytes())).await?;
        *count = Some(known + 1);
        Ok((record.inbound(), secrets))
    }

    async fn count(&self) -> Result<usize, Error> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.0.tidings.log().registry_page(KIND, after.as_deref(), 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            (count, after) = (count + page.len(), Some(last.clone()));
        }
    }

    /// Up to `max` inlets, the oldest first, for an admin.
    pub async fn list(
        &self,
        who: &Principal,
        after: Option<Uuid>,
        max: usize,
    ) -> Result<Vec<Inbound>, Error> {
        admin(who)?;
        let after = after.map(|id| id.to_string());
        let page = self.0.tidings.log().registry_page(KIND, after.as_deref(), max).await?;
        page.iter().map(|(key, bytes)| Ok(parse(key, bytes)?.inbound())).collect()
    }

    /// One inlet, for an admin.
    pub async fn get(&self, who: &Principal, id: Uuid) -> Result<Inbound, Error> {
        admin(who)?;
        Ok(self.known(id).await?.inbound())
    }

    /// Changes an inlet, for an admin; what the patch leaves out stays.
    pub async fn update(&self, who: &Principal, id: Uuid, patch: Patch) -> Result<Inbound, Error> {
        admin(who)?;
        if let Some(topic) = patch.topic.as_ref().filter(|topic| topic.name.is_system()) {
            return Err(Error::SystemTopic(TopicName::clone(&topic.name)));
        }
        let _changes = self.0.changes.lock().await;
        let mut record = self.known(id).await?;
        record.change(patch)?;
        self.commit(id, Some(record.bytes())).await?;
        Ok(record.inbound())
    }

    /// Gives an inlet new secrets, told this once; the old ones count no longer.
    pub async fn rotate(&self, who: &Principal, id: Uuid) -> Result<(Inbound, Secrets), Error> {
        admin(who)?;
        let _changes = self.0.changes.lock().await;
        let mut record = self.known(id).await?;
        let secrets = record.rotate();
        self.commit(id, Some(record.bytes())).await?;
        Ok((record.inbound(), secrets))
    }

    /// Takes an inlet away, for an admin. Events that came through it stay.
    pub async fn delete(&self, who: &Principal, id: Uuid) -> Result<(), Error> {
        admin(who)?;
        let mut count = self.0.changes.lock().await;
        self.known(id).await?;
        let known = count.take();
        self.commit(id, None).await?;
        *count = known.map(|n| n.saturating_sub(1));
        Ok(())
    }

    /// Whether the inlet may take what a sender with this head is about to send.
    ///
    /// # Errors
    /// `Unauthorized` also where there is no such inlet.
    pub async fn admit(&self, id: Uuid, shown: &Shown<'_>) -> Result<Admitted, Error> {
        let record = self.record(id).await?.ok_or(InboundError::Unauthorized)?;
        record.check_head(shown, self.0.tidings.clock().now())?;
        Ok(Admitted(record))
    }

    /// Stores a body as an event of the inlet's topic. A sender that gives its message an id may send it again.
    ///
    /// # Errors
    /// When the signature is not over these bytes, when they are too many or no JSON, or when too much comes.
    pub async fn take(&self, admitted: &Admitted, shown: &Shown<'_>, body: &[u8]) -> Result<Receipt, Error> {
        let record = &admitted.0;
        record.check_body(shown, body)?;
        let now = self.0.tidings.clock().now();
        let paced = self.0.pace.take(&record.id, now);
        paced.map_err(|retry_after_s| InboundError::TooMany { retry_after_s })?;
        let event = event(record, shown, body).map_err(|source| Error::Event { index: 0, source })?;
        let mut publish = Grants::none();
        publish.add(Grant::Topic(event.topic.clone()));
        let who = Principal { publish, ..Principal::nobody() };
        self.0.tidings.publish(&who, vec![event]).await
    }

    async fn commit(&self, id: Uuid, value: Option<Bytes>) -> Result<(), Error> {
        let change = RegistryChange { kind: KIND.into(), key: id.to_string(), value };
        self.0.tidings.log().commit(Batch { registry: vec![change], ..Batch::default() }).await?;
        Ok(())
    }

    async fn known(&self, id: Uuid) -> Result<Record, Error> {
        self.record(id).await?.ok_or_else(|| InboundError::Unknown.into())
    }

    async fn record(&self, id: Uuid) -> Result<Option<Record>, Error> {
        let key = id.to_string();
        let found = self.0.tidings.log().registered(KIND, &key).await?;
        found.map(|bytes| parse(&key, &bytes)).transpose()
    }
}

/// What a sender of Standard Webhooks writes.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The event that a body makes. Its data is byte for byte what was sent.
fn event(record: &Record, shown: &Shown<'_>, body: &[u8]) -> Result<NewEvent, EventError> {
    let text = EventError::text(body)?;
    let whole: &RawValue = EventError::read(text)?;
    let message: Option<Message<'_>> = match record.kind {
        Kind::Webhook => None,
        Kind::StandardWebhook => serde_json::from_str(text).ok(),
    };
    let data = message.as_ref().and_then(|m| m.data).unwrap_or(whole);
    let kind = message.as_ref().and_then(|m| m.kind.as_deref()).filter(|kind| !kind.is_empty());
    let occurred_at = message.as_ref().and_then(|m| Timestamp::parse(m.timestamp.as_deref()?).ok());
    let topic = record.topic()?;
    Ok(NewEvent {
        id: shown.id.map(|id| derived(record.id, id)),
        name: Some(record.event_name.as_deref().or(kind).unwrap_or(NAME).into()),
        source: Some(record.name.as_str().into()),
        occurred_at,
        attributes: Attributes { verified: Some(record.kind == Kind::StandardWebhook), ..Default::default() },
        ..NewEvent::new(topic, Bytes::copy_from_slice(data.get().as_bytes()))
    })
}

/// The event's id for a message's: the same message is the same event, and no other inlet's is.
fn derived(inbound: Uuid, message: &str) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(inbound.as_bytes());
    context.update(message.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    // Version 8: made in a way of one's own.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

fn parse(key: &str, bytes: &[u8]) -> Result<Record, Error> {
    let refuse = |what| tidings_log::Error::Store { doing: format!("reading inbound webhook {key}"), what };
    Ok(Record::parse(bytes).map_err(refuse)?)
}

fn admin(who: &Principal) -> Result<(), Error> {
    if who.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}
