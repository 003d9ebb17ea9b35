//! API keys: what an admin does with them, and what a caller with one may do.
//!
//! Owns: the records in the log's registry, one by id and one by name in the same commit. Order: one change at a
//! time. Whoever relies on a key holds its lease, which ends with each change. Never: knows a transport.

mod record;
mod refusal;
#[cfg(test)]
mod tests;

pub use record::{ApiKey, ApiKeyPatch, IssuedApiKey, NewApiKey, open};
pub use refusal::ApiKeyError;

use super::Secret;
use crate::{Error, Tidings};
use record::Record;
use serde::Serialize;
use std::sync::Arc;
use tidings_log::{Batch, RegistryChange};
use tidings_model::{
    Destinations, Grant, Grants, KeyHold, KeyKind, Lease, Principal, Timestamp, Topic, Uuid,
};
use tokio::sync::Mutex;

const KIND: &str = "api_key";
/// Key: the name; value: the id.
const NAME_KIND: &str = "api_key_name";
/// How long a token made from a key is good for where nothing is said.
const TOKEN_TTL_MS: i64 = 3_600_000;

/// The API keys of one Tidings. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct ApiKeys(Arc<Inner>);

struct Inner {
    tidings: Tidings,
    /// Signs tokens made from keys; it is the data directory's own.
    signer: Option<Secret>,
    /// Held while a change is checked and committed. How many keys there are, once somebody has asked.
    changes: Mutex<Option<usize>>,
}

/// What a token made from a key says.
#[derive(Serialize)]
struct Claims {
    sub: Uuid,
    api_key_id: Uuid,
    api_key_type: KeyKind,
    iat: i64,
    exp: i64,
}

impl ApiKeys {
    pub(super) fn new(tidings: Tidings, signer: Option<Secret>) -> Self {
        Self(Arc::new(Inner { tidings, signer, changes: Mutex::default() }))
    }

    /// Creates a key. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// When `caller` is no admin, the name is taken, the kind takes none of what it was given, or a destination
    /// is unknown.
    pub async fn create(&self, caller: &Principal, new: NewApiKey) -> Result<IssuedApiKey, Error> {
        admin(caller)?;
        let (record, secret) = Record::issue(new, self.now())?;
        self.check_destinations(record.destinations().iter())?;
        let mut count = self.0.changes.lock().await;
        if self.id_of(&record.name).await?.is_some() {
            return Err(ApiKeyError::NameTaken.into());
        }
        let keys = match *count {
            Some(keys) => keys,
            None => self.count().await?,
        };
        let max = self.0.tidings.limits().api_keys;
        if keys >= max {
            *count = Some(keys);
            return Err(ApiKeyError::Full(max).into());
        }
        // Forgotten first: if it cannot be said whether the commit took place, they are counted anew.
        *count = None;
        let id = record.id.to_string().into_bytes();
        self.commit(vec![entry(&record), name(&record, Some(id))]).await?;
        *count = Some(keys + 1);
        Ok(IssuedApiKey { key: record.api_key(), secret })
    }

    async fn count(&self) -> Result<usize, Error> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.0.tidings.log().registry_page(NAME_KIND, after.as_deref(), 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            (count, after) = (count + page.len(), Some(last.clone()));
        }
    }

    /// One key, for an admin.
    pub async fn by_id(&self, caller: &Principal, id: Uuid) -> Result<ApiKey, Error> {
        admin(caller)?;
        Ok(self.known(id).await?.api_key())
    }

    /// The key of a name, for an admin.
    pub async fn by_name(&self, caller: &Principal, name: &str) -> Result<Option<ApiKey>, Error> {
        admin(caller)?;
        match self.id_of(name).await? {
            Some(id) => Ok(self.record(id).await?.map(|record| record.api_key())),
            None => Ok(None),
        }
    }

    /// Up to `max` keys in name order after `after`, for an admin.
    pub async fn list(
        &self,
        caller: &Principal,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<ApiKey>, Error> {
        admin(caller)?;
        let mut keys = Vec::new();
        for (name, id) in self.0.tidings.log().registry_page(NAME_KIND, after, max).await? {
            // One that was deleted since the page was read is left out.
            if let Some(record) = self.record(parse_id(&name, &id)?).await? {
                keys.push(record.api_key());
            }
        }
        Ok(keys)
    }

    /// Gives a key other lists. Counts at once, also for connections that are open.
    ///
    /// # Errors
    /// When `caller` is no admin, the key is revoked, its kind takes none of that, or a destination is unknown.
    pub async fn update(&self, caller: &Principal, id: Uuid, patch: ApiKeyPatch) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            patch.publish.as_ref().map_or(Ok(()), |grants| record.set_publish(grants))?;
            patch.subscribe.as_ref().map_or(Ok(()), |grants| record.set_subscribe(grants))?;
            let Some(ids) = &patch.destinations else { return Ok(()) };
            let known = record.destinations();
            record.set_destinations(ids)?;
            self.check_destinations(ids.iter().filter(|id| !known.contains(*id)))
        };
        self.change(caller, id, change).await
    }

    /// Adds topics that the key may publish to. Errors as [`ApiKeys::update`].
    pub async fn add_topics(&self, caller: &Principal, id: Uuid, topics: &[Grant]) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            takes(record, record.kind.produces(), "topics to publish to")?;
            record.set_publish(&record.publish().iter().chain(topics).cloned().collect())
        };
        self.change(caller, id, change).await
    }

    /// Takes topics away that the key might publish to; others stay. Errors as [`ApiKeys::update`].
    pub async fn remove_topics(
        &self,
        caller: &Principal,
        id: Uuid,
        topics: &[Grant],
    ) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            takes(record, record.kind.produces(), "topics to publish to")?;
            let left: Grants = record.publish().iter().filter(|own| !topics.contains(own)).cloned().collect();
            record.set_publish(&left)
        };
        self.change(caller, id, change).await
    }

    /// Adds destinations that the key may consume. Errors as [`ApiKeys::update`].
    pub async fn add_destinations(
        &self,
        caller: &Principal,
        id: Uuid,
        ids: &[Uuid],
    ) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            takes(record, record.kind.consumes(), "destinations")?;
            self.check_destinations(ids.iter().copied())?;
            record.set_destinations(&record.destinations().iter().chain(ids.iter().copied()).collect())
        };
        self.change(caller, id, change).await
    }

    /// Takes destinations away; others stay. Errors as [`ApiKeys::update`].
    pub async fn remove_destinations(
        &self,
        caller: &Principal,
        id: Uuid,
        ids: &[Uuid],
    ) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            takes(record, record.kind.consumes(), "destinations")?;
            let left: Destinations = record.destinations().iter().filter(|own| !ids.contains(own)).collect();
            record.set_destinations(&left)
        };
        self.change(caller, id, change).await
    }

    /// Ends a key for good, with its tokens and connections.
    ///
    /// # Errors
    /// When it is revoked already.
    pub async fn revoke(&self, caller: &Principal, id: Uuid) -> Result<ApiKey, Error> {
        let change = |record: &mut Record| {
            record.revoked = true;
            Ok(())
        };
        self.change(caller, id, change).await
    }

    /// Forgets a key, whose name is free then. Ends its tokens and connections.
    pub async fn delete(&self, caller: &Principal, id: Uuid) -> Result<(), Error> {
        admin(caller)?;
        let mut count = self.0.changes.lock().await;
        let record = self.known(id).await?;
        let keys = count.take();
        let gone = RegistryChange { value: None, ..entry(&record) };
        let done = self.commit(vec![gone, name(&record, None)]).await;
        // Also after an error, which may leave open whether it took place.
        self.0.tidings.key_leases().end(id);
        done?;
        *count = keys.map(|n| n.saturating_sub(1));
        Ok(())
    }

    /// A token with the rights of the key that `caller` came with. It ends at `expires_at`, after an hour where
    /// nothing is said, and with the key; a caller who came with such a token gets none that lives longer.
    ///
    /// # Errors
    /// When the caller has no API key, or the time has passed.
    pub fn token(
        &self,
        caller: &Principal,
        expires_at: Option<Timestamp>,
    ) -> Result<(String, Timestamp), Error> {
        let hold = caller.api_key.as_ref().ok_or(ApiKeyError::NotKey)?;
        let now = self.now();
        let asked = expires_at.unwrap_or_else(|| now.plus_millis(TOKEN_TTL_MS));
        let end = caller.expires_at.map_or(asked, |own| own.min(asked));
        let (iat, exp) = (now.as_millis().div_euclid(1000), end.as_millis().div_euclid(1000));
        if exp <= iat {
            return Err(ApiKeyError::Expired.into());
        }
        let claims = Claims { sub: hold.id, api_key_id: hold.id, api_key_type: hold.kind, iat, exp };
        let signer =
            self.0.signer.as_ref().ok_or_else(|| Error::Sign("there is no key to sign with".into()))?;
        let token = signer.sign(&claims).map_err(|e| Error::Sign(e.to_string()))?;
        Ok((token, Timestamp::default().plus_millis(exp.saturating_mul(1000))))
    }

    /// One that is gone may stay in a key's list; one that never was shall not come into it.
    fn check_destinations(&self, mut ids: impl Iterator<Item = Uuid>) -> Result<(), ApiKeyError> {
        let known = self.0.tidings.destinations();
        match ids.find(|id| known.topic_of(*id).is_none()) {
            None => Ok(()),
            Some(id) => Err(ApiKeyError::Destination(id)),
        }
    }

    async fn change(
        &self,
        caller: &Principal,
        id: Uuid,
        change: impl FnOnce(&mut Record) -> Result<(), ApiKeyError>,
    ) -> Result<ApiKey, Error> {
        admin(caller)?;
        let _changes = self.0.changes.lock().await;
        let mut record = self.known(id).await?;
        if record.revoked {
            return Err(ApiKeyError::Revoked(id).into());
        }
        change(&mut record)?;
        let done = self.commit(vec![entry(&record)]).await;
        // Also after an error, which may leave open whether it took place: whoever asks again will see.
        self.0.tidings.key_leases().end(id);
        done.map(|()| record.api_key())
    }

    /// Who comes with this id and secret; `None` where no key is like that.
    pub(super) async fn verified(&self, id: Uuid, secret: &str) -> Result<Option<Holder>, Error> {
        let held = self.held(id).await?;
        Ok(held.filter(|holder| holder.record.is_secret(secret)))
    }

    /// The key of a caller or token that was verified before.
    pub(super) async fn held(&self, id: Uuid) -> Result<Option<Holder>, Error> {
        // Taken before the record is read: a change between the two ends it.
        let lease = self.0.tidings.key_leases().of(id);
        let Some(record) = self.record(id).await? else { return Ok(None) };
        let destinations = self.0.tidings.destinations();
        let topics = record.destinations().iter().filter_map(|id| destinations.topic_of(id)).collect();
        Ok(Some(Holder { record, topics, lease }))
    }

    async fn commit(&self, registry: Vec<RegistryChange>) -> Result<(), Error> {
        self.0.tidings.log().commit(Batch { registry, ..Batch::default() }).await?;
        Ok(())
    }

    async fn known(&self, id: Uuid) -> Result<Record, Error> {
        self.record(id).await?.ok_or_else(|| ApiKeyError::Unknown(id).into())
    }

    async fn record(&self, id: Uuid) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.0.tidings.log().registered(KIND, &id.to_string()).await? else {
            return Ok(None);
        };
        let refuse = |what| tidings_log::Error::Store { doing: format!("reading API key {id}"), what };
        Ok(Some(Record::parse(&bytes).map_err(refuse)?))
    }

    async fn id_of(&self, name: &str) -> Result<Option<Uuid>, Error> {
        // None is called that, and the store is not asked about texts without end.
        if record::check_text("name", name).is_err() {
            return Ok(None);
        }
        match self.0.tidings.log().registered(NAME_KIND, name).await? {
            Some(id) => parse_id(name, &id).map(Some),
            None => Ok(None),
        }
    }

    fn now(&self) -> Timestamp {
        self.0.tidings.clock().now()
    }
}

/// A key that somebody holds, and what ends when it changes.
pub(super) struct Holder {
    record: Record,
    /// Where its destinations take their events from.
    topics: Vec<Topic>,
    lease: Arc<Lease>,
}

impl Holder {
    /// The rights of now, until `expires_at`; `None` once the key is revoked.
    pub fn principal(self, expires_at: Option<Timestamp>) -> Option<Principal> {
        let Self { record, topics, lease } = self;
        if record.revoked {
            return None;
        }
        let hold = KeyHold { id: record.id, kind: record.kind, lease };
        let base = if record.kind == KeyKind::Admin { Principal::admin() } else { Principal::nobody() };
        let who =
            Principal { id: Some(record.id.to_string().into()), expires_at, api_key: Some(hold), ..base };
        if who.is_admin {
            return Some(who);
        }
        let publish = record.publish();
        // Who consumes a destination may read what flows into it.
        let topics = topics.into_iter().map(Grant::Topic);
        let subscribe = record.subscribe().iter().cloned().chain(topics).collect();
        Some(Principal { publish, subscribe, destinations: record.destinations(), ..who })
    }
}

fn takes(record: &Record, is_taken: bool, what: &'static str) -> Result<(), ApiKeyError> {
    if is_taken { Ok(()) } else { Err(ApiKeyError::Kind { kind: record.kind, what }) }
}

fn entry(record: &Record) -> RegistryChange {
    RegistryChange { kind: KIND.into(), key: record.id.to_string(), value: Some(record.bytes()) }
}

fn name(record: &Record, id: Option<Vec<u8>>) -> RegistryChange {
    RegistryChange { kind: NAME_KIND.into(), key: record.name.clone(), value: id.map(Into::into) }
}

fn parse_id(name: &str, bytes: &[u8]) -> Result<Uuid, Error> {
    let id = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let doing = || format!("reading the id of API key {name}");
    id.ok_or_else(|| tidings_log::Error::Store { doing: doing(), what: "it is no UUID".into() }.into())
}

fn admin(caller: &Principal) -> Result<(), Error> {
    if caller.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}
