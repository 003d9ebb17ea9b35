//! The destinations of one Tidings: what an admin does with them, and what doors ask.
//!
//! Owns: the records in the log's registry, and all of them in memory. Order: one change at a time. Whoever serves
//! a destination goes by its lease, which ends with any change. Never: sends anything.

use super::State;
use super::destination::Destination;
use super::mark::Mark;
use super::refusal::DestinationError;
use super::secret::SigningSecret;
use super::settings::{DestinationSettings, Kind};
use super::settled::Settled;
use crate::{Error, Tidings};
use serde_json::{Map, Value};
use std::sync::Arc;
use tidings_log::{Batch, RegistryChange};
use tidings_model::{Cursor, Epoch, From, Lease, Offset, Position, Principal, Topic, Uuid};

const KIND: &str = "destination";

/// The destinations of one Tidings. Cheap to clone.
#[derive(Clone)]
pub struct Destinations(pub(super) Tidings);

/// How far a destination has come.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Everything before it was delivered, is dead, or did not match.
    pub cursor: Cursor,
    /// Offsets from there to the topic's newest event.
    pub behind: u64,
}

/// What may not be changed: a position means something in one topic only.
const FIXED: [&str; 3] = ["kind", "topic", "from"];

impl Destinations {
    pub(super) fn state(&self) -> &State {
        self.0.delivery()
    }

    /// Creates a destination that begins at `from`. Without `paused` it is active at once.
    ///
    /// # Errors
    /// When the caller is no admin, the description makes no sense, or the name is taken; nothing is stored then.
    pub async fn create(
        &self,
        who: &Principal,
        mut settings: DestinationSettings,
        from: &From,
    ) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        if settings.kind == Kind::Webhook && settings.secrets.is_empty() {
            settings.secrets.push(SigningSecret::generate());
        }
        let state = self.state();
        let made = Destination::check(Uuid::new_v4(), self.0.clock().now(), settings, state.rules())?;
        let _changes = state.changes.lock().await;
        let max = self.0.limits().destinations;
        if state.shelf().len() >= max {
            return Err(DestinationError::Full(max).into());
        }
        self.check_name(&made)?;
        let mark = self.start(who, &made, from).await?;
        let batch =
            Batch { registry: vec![entry(&made)], marks: vec![mark.stored(made.id)], ..Batch::default() };
        self.0.log().commit(batch).await?;
        Ok(state.put(made))
    }

    fn check_name(&self, made: &Destination) -> Result<(), DestinationError> {
        match self.state().shelf().by_name(made.name()) {
            Some(other) if other.id != made.id => Err(DestinationError::NameTaken),
            _ => Ok(()),
        }
    }

    /// Where a new destination stands.
    async fn start(&self, who: &Principal, made: &Destination, from: &From) -> Result<Mark, Error> {
        if *from == From::State {
            return Err(DestinationError::invalid("from", "a destination does not begin with State").into());
        }
        let at = |epoch, offset: Offset| Mark { settled: Settled::up_to(offset.0), ..Mark::at(epoch) };
        // Of a topic that does not exist yet, all is news.
        let Some(bounds) = self.0.log().bounds(&made.topic.name) else {
            return Ok(at(Epoch::NONE, Offset::ZERO));
        };
        let (offset, is_gap) = self.0.offset_of(who, &made.topic, from).await?;
        if is_gap {
            return Err(DestinationError::invalid(
                "from",
                "the position is gone, or of another topic's life",
            )
            .into());
        }
        Ok(at(bounds.epoch, offset))
    }

    /// One destination, for an admin.
    pub fn get(&self, who: &Principal, id: Uuid) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        self.known(id)
    }

    /// The destination of a name, for an admin.
    pub fn by_name(&self, who: &Principal, name: &str) -> Result<Option<Arc<Destination>>, Error> {
        admin(who)?;
        Ok(self.state().shelf().by_name(name))
    }

    /// How far a destination has come, for an admin.
    pub async fn progress(&self, who: &Principal, id: Uuid) -> Result<Progress, Error> {
        let name = self.get(who, id)?.topic.name.clone();
        let mark = self.stored_mark(id).await?;
        let bounds = self.0.log().bounds(&name);
        let behind = bounds.map_or(0, |b| {
            b.tail.0.saturating_sub(if b.epoch == mark.epoch { mark.settled.floor() } else { 0 })
        });
        let position = match mark.epoch {
            Epoch::NONE => Position::before_all(name),
            epoch => Position { topic: name, epoch, offset: Offset(mark.settled.floor()), in_state: false },
        };
        Ok(Progress { cursor: Cursor::of(position), behind })
    }

    /// Up to `max` in name order after `after`, for an admin.
    pub fn list(
        &self,
        who: &Principal,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<Arc<Destination>>, Error> {
        admin(who)?;
        Ok(self.state().shelf().after(after).take(max).collect())
    }

    /// Up to `max` in name order after the first `skip`, and how many there are, for an admin.
    pub fn page(
        &self,
        who: &Principal,
        skip: usize,
        max: usize,
    ) -> Result<(Vec<Arc<Destination>>, usize), Error> {
        admin(who)?;
        let shelf = self.state().shelf();
        Ok((shelf.after(None).skip(skip).take(max).collect(), shelf.len()))
    }

    /// One destination and the lease that ends with its next change, for doors that serve it to `who`: an admin, or
    /// whoever may consume it. A paused one is answered too; it has nothing to give.
    pub fn leased(&self, who: &Principal, id: Uuid) -> Result<(Arc<Destination>, Arc<Lease>), Error> {
        let found = self.state().shelf().leased(id);
        let (destination, lease) = found.ok_or(DestinationError::Unknown(id))?;
        if !may_consume(who, &destination) {
            return Err(DestinationError::MayNotConsume(id).into());
        }
        Ok((destination, lease))
    }

    /// Changes what `patch` names; `null` takes a setting away. It counts at once.
    pub async fn update(
        &self,
        who: &Principal,
        id: Uuid,
        patch: Map<String, Value>,
    ) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        if let Some(field) = FIXED.iter().find(|field| patch.contains_key(**field)) {
            return Err(DestinationError::invalid(field, "it stays as it was created").into());
        }
        self.change(id, |settings| {
            let Ok(Value::Object(mut all)) = serde_json::to_value(&*settings) else {
                unreachable!("plain fields")
            };
            for (name, value) in patch {
                match value {
                    Value::Null => drop(all.remove(&name)),
                    value => drop(all.insert(name, value)),
                }
            }
            *settings = serde_json::from_value(all.into())
                .map_err(|error| DestinationError::invalid("destination", error.to_string()))?;
            Ok(())
        })
        .await
    }

    /// Sends nothing from now on; what is on its way still counts.
    pub async fn pause(&self, who: &Principal, id: Uuid) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        self.set_paused(id, true).await
    }

    /// Goes on with the first event that was not delivered.
    pub async fn resume(&self, who: &Principal, id: Uuid) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        self.set_paused(id, false).await
    }

    pub(super) async fn set_paused(&self, id: Uuid, paused: bool) -> Result<Arc<Destination>, Error> {
        let changed = self.change(id, |settings| {
            settings.paused = paused;
            Ok(())
        });
        changed.await
    }

    /// Signs with a new secret, and with the newest one so far until that is taken away.
    pub async fn rotate(&self, who: &Principal, id: Uuid) -> Result<Arc<Destination>, Error> {
        admin(who)?;
        if self.known(id)?.kind() != Kind::Webhook {
            return Err(DestinationError::NotWebhook(id).into());
        }
        let changed = self.change(id, |settings| {
            settings.secrets.truncate(1);
            settings.secrets.insert(0, SigningSecret::generate());
            Ok(())
        });
        changed.await
    }

    /// Forgets a destination with its progress and deliveries.
    pub async fn delete(&self, who: &Principal, id: Uuid) -> Result<(), Error> {
        admin(who)?;
        let state = self.state();
        let _changes = state.changes.lock().await;
        self.known(id)?;
        let gone = RegistryChange { kind: KIND.into(), key: id.to_string(), value: None };
        let batch = Batch { registry: vec![gone], marks: vec![Mark::removed(id)], ..Batch::default() };
        self.0.log().commit(batch).await?;
        state.remove(id);
        // Who might read the topic for the sake of this destination may no longer.
        self.0.key_leases().end_all();
        Ok(())
    }

    /// Changes one record, alone, and lets those who rely on it know.
    async fn change(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut DestinationSettings) -> Result<(), DestinationError>,
    ) -> Result<Arc<Destination>, Error> {
        let state = self.state();
        let _changes = state.changes.lock().await;
        let known = self.known(id)?;
        let mut settings = known.settings.clone();
        change(&mut settings)?;
        if settings == known.settings {
            return Ok(known);
        }
        if settings.kind == Kind::Webhook && settings.secrets.is_empty() {
            settings.secrets.push(SigningSecret::generate());
        }
        let made = Destination::check(id, known.created_at, settings, state.rules())?;
        self.check_name(&made)?;
        self.0.log().commit(Batch { registry: vec![entry(&made)], ..Batch::default() }).await?;
        Ok(state.put(made))
    }

    /// Where a destination takes its events from.
    pub(crate) fn topic_of(&self, id: Uuid) -> Option<Topic> {
        self.state().shelf().by_id(id).map(|destination| destination.topic.clone())
    }

    pub(super) fn known(&self, id: Uuid) -> Result<Arc<Destination>, Error> {
        Ok(self.state().shelf().by_id(id).ok_or(DestinationError::Unknown(id))?)
    }
}

impl Tidings {
    /// The stored ways out.
    pub fn destinations(&self) -> Destinations {
        Destinations(self.clone())
    }

    /// Reads all destinations. To be called before any door opens.
    pub async fn load_destinations(&self) -> Result<(), Error> {
        for (key, bytes) in self.log().registry(KIND).await? {
            let refuse =
                |what| tidings_log::Error::Store { doing: format!("reading destination {key}"), what };
            self.delivery().put(Destination::parse(&bytes).map_err(refuse)?);
        }
        Ok(())
    }
}

/// Whether `who` may take the events of a destination (I6).
///
/// An API key, and a token that names destinations, reaches those alone; another token those of its topics.
fn may_consume(who: &Principal, destination: &Destination) -> bool {
    let names_destinations = who.api_key.is_some() || !who.destinations.is_empty();
    who.may_consume(destination.id) || (!names_destinations && who.may_subscribe(&destination.topic))
}

fn admin(who: &Principal) -> Result<(), Error> {
    if who.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}

fn entry(made: &Destination) -> RegistryChange {
    RegistryChange { kind: KIND.into(), key: made.id.to_string(), value: Some(made.bytes()) }
}
