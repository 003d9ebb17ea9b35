//! Users: sign-up, and what an admin does with them.
//!
//! Owns: the records in the log's registry, one by id and one by name in the same commit, so that a name is
//! taken once whatever happens at the same time or breaks in between. Order: one change at a time. Never:
//! knows a transport, or keeps users in memory.

use super::Secret;
use super::attempts::Attempts;
use super::leases::Leases;
use super::passwords::Passwords;
use super::refusal::UserError;
use super::settings::{SignUp, UserSettings};
use super::user::{NewSecret, NewUser, Record, Rules, User, UserPatch};
use crate::{Error, Tidings};
use std::net::IpAddr;
use std::sync::Arc;
use tidings_log::{Batch, RegistryChange};
use tidings_model::{Lease, Principal, Timestamp, Uuid};
use tokio::sync::Mutex;

const KIND: &str = "user";
/// Key: the name; value: the id.
const NAME_KIND: &str = "user_name";

/// The users of one Tidings. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Users(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) tidings: Tidings,
    pub(super) settings: UserSettings,
    pub(super) signer: Secret,
    pub(super) passwords: Passwords,
    by_address: Attempts,
    pub(super) by_name: Attempts,
    /// Held while a change is checked and committed. How many users there are, once somebody has asked.
    pub(super) changes: Mutex<Option<usize>>,
    leases: Leases,
}

impl Users {
    /// Users in the log of `tidings`, whose tokens `signer` signs.
    pub fn new(tidings: Tidings, settings: UserSettings, signer: Secret) -> Self {
        let passwords = Passwords::new(&settings);
        let by_address = Attempts::new(settings.address_burst, settings.address_per_minute);
        let by_name = Attempts::new(settings.name_burst, settings.name_per_minute);
        let (changes, leases) = (Mutex::default(), Leases::default());
        Self(Arc::new(Inner { tidings, settings, signer, passwords, by_address, by_name, changes, leases }))
    }

    pub(super) fn tidings(&self) -> &Tidings {
        &self.0.tidings
    }

    pub fn settings(&self) -> &UserSettings {
        &self.0.settings
    }

    /// The rules of the native interface.
    pub fn rules(&self) -> Rules {
        Rules { name_bytes_min: 1, password_chars_min: self.0.settings.password_chars_min }
    }

    /// Creates a user as `users.sign_up` allows it to `caller`, under `rules`.
    ///
    /// # Errors
    /// Where the policy, the rules or the pace refuse it, or the name is taken; nothing is stored then.
    pub async fn sign_up(
        &self,
        caller: Option<&Principal>,
        new: NewUser,
        rules: Rules,
        peer: IpAddr,
    ) -> Result<User, Error> {
        let is_admin = caller.is_some_and(|who| who.is_admin);
        match self.0.settings.sign_up {
            SignUp::Open => {}
            SignUp::Admin if is_admin => {}
            SignUp::Admin | SignUp::Closed => return Err(UserError::SignUpClosed.into()),
        }
        if is_admin {
            return self.create(new, rules).await;
        }
        let is_plain = new.publish.is_empty() && new.subscribe.is_empty() && new.id.is_none();
        if !is_plain || matches!(new.secret, NewSecret::Hash(_)) {
            return Err(UserError::AdminOnly.into());
        }
        self.pace_address(peer)?;
        rules.check_name(&new.name)?;
        self.pace_name(&new.name)?;
        self.create(new, rules).await
    }

    /// Creates a user for an admin, whatever the policy for others is. A hash made elsewhere may stand for
    /// the password, and an id be given.
    pub async fn add(&self, caller: &Principal, new: NewUser) -> Result<User, Error> {
        admin(caller)?;
        let rules = self.rules();
        self.create(new, rules).await
    }

    async fn create(&self, new: NewUser, rules: Rules) -> Result<User, Error> {
        rules.check_name(&new.name)?;
        // Asked before the work of hashing, and again when nobody else can take it.
        if self.id_of(&new.name).await?.is_some() {
            return Err(UserError::NameTaken.into());
        }
        let hash = self.hash(&new.secret, rules).await?;
        let mut count = self.0.changes.lock().await;
        let id = new.id.unwrap_or_else(Uuid::new_v4);
        if self.id_of(&new.name).await?.is_some() || self.record(id).await?.is_some() {
            return Err(UserError::NameTaken.into());
        }
        let users = match *count {
            Some(users) => users,
            None => self.count().await?,
        };
        let max = self.0.settings.max;
        *count = Some(users);
        if users >= max {
            return Err(UserError::Full(max).into());
        }
        let record = Record::new(&new, id, hash, self.now());
        // Forgotten first: if it cannot be said whether the commit took place, they are counted anew.
        *count = None;
        let name = RegistryChange {
            kind: NAME_KIND.into(),
            key: new.name,
            value: Some(id.to_string().into_bytes().into()),
        };
        self.commit(vec![entry(&record), name]).await?;
        *count = Some(users + 1);
        self.0.leases.end(id);
        Ok(record.user())
    }

    async fn count(&self) -> Result<usize, Error> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.0.tidings.log().registry_page(NAME_KIND, after.as_deref(), 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            (count, after) = (count + page.len(), Some(last.clone()));
        }
    }

    pub(super) async fn hash(&self, secret: &NewSecret, rules: Rules) -> Result<String, Error> {
        match secret {
            NewSecret::Password(password) => {
                rules.check_password(password)?;
                self.0.passwords.check_length(password)?;
                Ok(self.0.passwords.hash(password).await?)
            }
            NewSecret::Hash(hash) => {
                Passwords::check_hash(hash)?;
                Ok(hash.clone())
            }
        }
    }

    /// One user, for an admin and for the user.
    pub async fn by_id(&self, caller: &Principal, id: Uuid) -> Result<User, Error> {
        if caller.session.as_ref().is_none_or(|session| session.user != id) {
            admin(caller)?;
        }
        Ok(self.known(id).await?.user())
    }

    /// The user of a name, for an admin.
    pub async fn by_name(&self, caller: &Principal, name: &str) -> Result<Option<User>, Error> {
        admin(caller)?;
        match self.id_of(name).await? {
            Some(id) => Ok(self.record(id).await?.map(|record| record.user())),
            None => Ok(None),
        }
    }

    /// Up to `max` users in name order after `after`, for an admin.
    pub async fn list(
        &self,
        caller: &Principal,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<User>, Error> {
        admin(caller)?;
        let mut users = Vec::new();
        for (name, id) in self.0.tidings.log().registry_page(NAME_KIND, after, max).await? {
            // One that was deleted since the page was read is left out.
            if let Some(record) = self.record(parse_id(&name, &id)?).await? {
                users.push(record.user());
            }
        }
        Ok(users)
    }

    /// Changes what an admin may change about a user. A new password ends every token so far; other changes
    /// count at once, also for connections that are open.
    pub async fn update(&self, caller: &Principal, id: Uuid, patch: UserPatch) -> Result<User, Error> {
        admin(caller)?;
        self.known(id).await?;
        let hash = match &patch.password {
            Some(secret) => Some(self.hash(secret, self.rules()).await?),
            None => None,
        };
        let now = self.now();
        let changed = self.change(id, |record| {
            if let Some(collection_id) = patch.collection_id {
                record.collection_id = collection_id;
            }
            if let Some(grants) = &patch.publish {
                record.set_publish(grants);
            }
            if let Some(grants) = &patch.subscribe {
                record.set_subscribe(grants);
            }
            if let Some(hash) = hash {
                record.hash = hash;
                record.renew(now);
            }
            Ok(())
        });
        Ok(changed.await?.user())
    }

    /// Ends every token and connection of a user, who cannot log in until restored.
    pub async fn revoke(&self, caller: &Principal, id: Uuid) -> Result<User, Error> {
        self.set_revoked(caller, id, true).await
    }

    /// Lets a revoked user log in again. Tokens from before stay refused.
    pub async fn restore(&self, caller: &Principal, id: Uuid) -> Result<User, Error> {
        self.set_revoked(caller, id, false).await
    }

    async fn set_revoked(&self, caller: &Principal, id: Uuid, revoked: bool) -> Result<User, Error> {
        admin(caller)?;
        let now = self.now();
        let changed = self.change(id, |record| {
            record.revoked = revoked;
            record.renew(now);
            Ok(())
        });
        Ok(changed.await?.user())
    }

    /// Forgets a user, whose name is free then. Ends every token and connection.
    pub async fn delete(&self, caller: &Principal, id: Uuid) -> Result<(), Error> {
        admin(caller)?;
        let mut count = self.0.changes.lock().await;
        let record = self.known(id).await?;
        let users = count.take();
        let gone = |kind: &str, key| RegistryChange { kind: kind.into(), key, value: None };
        self.commit(vec![gone(KIND, id.to_string()), gone(NAME_KIND, record.name)]).await?;
        *count = users.map(|n| n.saturating_sub(1));
        self.0.leases.end(id);
        Ok(())
    }

    /// Changes one record, alone, and lets those who rely on it know.
    pub(super) async fn change(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut Record) -> Result<(), UserError>,
    ) -> Result<Record, Error> {
        let _changes = self.0.changes.lock().await;
        let mut record = self.known(id).await?;
        change(&mut record)?;
        let done = self.commit(vec![entry(&record)]).await;
        // Also after an error, which may leave open whether it took place: whoever asks again will see.
        self.0.leases.end(id);
        done.map(|()| record)
    }

    pub(super) async fn commit(&self, registry: Vec<RegistryChange>) -> Result<(), Error> {
        self.0.tidings.log().commit(Batch { registry, ..Batch::default() }).await?;
        Ok(())
    }

    /// The record that a token of `id` rests on, and what ends when it changes.
    pub(super) async fn leased(&self, id: Uuid) -> Result<Option<(Record, Arc<Lease>)>, Error> {
        // Taken before the record is read: a change between the two ends it.
        let lease = self.0.leases.of(id);
        Ok(self.record(id).await?.map(|record| (record, lease)))
    }

    pub(super) async fn known(&self, id: Uuid) -> Result<Record, Error> {
        self.record(id).await?.ok_or_else(|| UserError::Unknown.into())
    }

    pub(super) async fn record(&self, id: Uuid) -> Result<Option<Record>, Error> {
        let key = id.to_string();
        let Some(bytes) = self.0.tidings.log().registered(KIND, &key).await? else { return Ok(None) };
        let refuse = |what| tidings_log::Error::Store { doing: format!("reading user {id}"), what };
        Ok(Some(Record::parse(&bytes).map_err(refuse)?))
    }

    pub(super) async fn id_of(&self, name: &str) -> Result<Option<Uuid>, Error> {
        // Nobody is called that, and the store is not asked about texts without end.
        if (Rules { name_bytes_min: 0, password_chars_min: 0 }).check_name(name).is_err() {
            return Ok(None);
        }
        match self.0.tidings.log().registered(NAME_KIND, name).await? {
            Some(id) => parse_id(name, &id).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn pace_address(&self, peer: IpAddr) -> Result<(), UserError> {
        let taken = self.0.by_address.take(&network(peer), self.now());
        taken.map_err(|retry_after_s| UserError::TooMany { retry_after_s })
    }

    pub(super) fn pace_name(&self, name: &str) -> Result<(), UserError> {
        let taken = self.0.by_name.take(&name, self.now());
        taken.map_err(|retry_after_s| UserError::TooMany { retry_after_s })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.tidings.clock().now()
    }
}

/// Whose attempts count together: an IPv4 address, or the /64 that one customer of IPv6 has.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

pub(super) fn entry(record: &Record) -> RegistryChange {
    RegistryChange { kind: KIND.into(), key: record.id.to_string(), value: Some(record.bytes()) }
}

fn parse_id(name: &str, bytes: &[u8]) -> Result<Uuid, Error> {
    let id = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let doing = || format!("reading the id of user {name}");
    id.ok_or_else(|| tidings_log::Error::Store { doing: doing(), what: "it is no UUID".into() }.into())
}

fn admin(caller: &Principal) -> Result<(), Error> {
    if caller.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}
