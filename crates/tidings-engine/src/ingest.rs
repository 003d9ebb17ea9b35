//! The only door into the log.
//!
//! Owns: authorising, validating and stamping new events. Order: kept within one call; a call is all or
//! nothing. Never: opens a socket, knows a transport, retries.

use crate::{Error, Tidings, schedule};
use tidings_log::{Append, Batch, Due, DuePut};
use tidings_model::{
    Cursor, Epoch, NewEvent, Offset, Position, Principal, RecordWriter, Sight, Timestamp, Topic, TopicName,
    Uuid,
};

/// What became of one event, in the order of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub id: Uuid,
    pub topic: Topic,
    pub fate: Fate,
    /// The id was known already: this is the first receipt, nothing changed.
    pub duplicate: bool,
}

/// Stored now, or kept for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stored { epoch: Epoch, offset: Offset, published_at: Timestamp },
    Scheduled { available_at: Timestamp },
}

/// Events that have passed their checks and only have to be committed.
pub(crate) struct Prepared {
    events: Vec<Published>,
    batch: Batch,
}

/// The answer to a publish: everything in it is durable (I1).
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub events: Vec<Published>,
}

impl Receipt {
    /// After the newest stored event of each topic; resumes behind what was published here.
    pub fn cursor(&self) -> Cursor {
        let mut cursor = Cursor::default();
        for event in &self.events {
            let Fate::Stored { epoch, offset, .. } = event.fate else { continue };
            match cursor.positions.iter_mut().find(|p| p.topic == event.topic.name) {
                Some(p) => p.offset = p.offset.max(offset),
                None => cursor.positions.push(Position {
                    topic: event.topic.name.clone(),
                    epoch,
                    offset,
                    in_state: false,
                }),
            }
        }
        cursor
    }
}

impl Tidings {
    /// Publishes `events`, all or none. Those with `available_at` in the future are scheduled.
    ///
    /// An id that was published to its topic before (24 hours, 1,000,000 events) changes nothing and is
    /// answered with the first receipt, marked as a duplicate.
    ///
    /// # Errors
    /// Without the grant for one of the topics, when an event breaks a rule or a limit, or when the log
    /// refuses; nothing was stored then, unless the log says that it cannot tell.
    pub async fn publish(&self, who: &Principal, events: Vec<NewEvent>) -> Result<Receipt, Error> {
        let limits = self.limits();
        if events.len() > limits.batch_events {
            return Err(Error::BatchTooLarge { found: events.len(), max: limits.batch_events });
        }
        let mut previous = None;
        for (index, event) in events.iter().enumerate() {
            self.check(who, event, index, previous)?;
            previous = Some(&event.topic);
        }
        // Decided on the way: events are large to move about.
        let decided = events.into_iter().enumerate().map(|(index, event)| self.decide_one(index, event));
        self.store(who, decided, Batch::default()).await
    }

    /// Commits events that have passed their checks, each with who may see it, together with what `batch` holds
    /// already. An error among them is returned, and nothing is stored.
    pub(crate) async fn store(
        &self,
        who: &Principal,
        events: impl ExactSizeIterator<Item = Result<(NewEvent, Sight), Error>>,
        batch: Batch,
    ) -> Result<Receipt, Error> {
        let prepared = self.encode(who, events, batch)?;
        self.commit(prepared).await
    }

    /// The first half of [`Tidings::store`]: changes nothing.
    pub(crate) fn encode(
        &self,
        who: &Principal,
        events: impl ExactSizeIterator<Item = Result<(NewEvent, Sight), Error>>,
        mut batch: Batch,
    ) -> Result<Prepared, Error> {
        let now = self.clock().now();
        let mut receipts = Vec::with_capacity(events.len());
        batch.appends.reserve_exact(events.len());
        let mut references = Vec::new();
        for decided in events {
            let (event, sight) = decided?;
            let id = event.id.unwrap_or_else(Uuid::now_v7);
            let record = RecordWriter::encode_for(&event, id, &sight);
            let is_due_later = event.available_at.is_some_and(|at| at > now);
            self.reach().refer(&event, id, is_due_later, &mut references);
            let fate = match event.available_at {
                Some(at) if is_due_later => {
                    let notice = Some(schedule::scheduled(&event, id, at, who.id.as_deref()));
                    let owner = who.id.as_deref().map(str::to_owned);
                    let due = Due { id, at, topic: event.topic.name.clone(), owner, record };
                    batch.due_put.push(DuePut { due, notice });
                    Fate::Scheduled { available_at: at }
                }
                _ => {
                    batch.appends.push(Append { topic: event.topic.name.clone(), record });
                    // The log fills in the place.
                    Fate::Stored { epoch: Epoch(0), offset: Offset::ZERO, published_at: now }
                }
            };
            receipts.push(Published { id, topic: event.topic, fate, duplicate: false });
        }
        // Behind the events themselves, so that the answers stay in their order.
        batch.appends.append(&mut references);
        Ok(Prepared { events: receipts, batch })
    }

    /// The second half: after `Ok` all of it is durable, after `Err` nothing, unless the log says that it cannot tell.
    pub(crate) async fn commit(&self, prepared: Prepared) -> Result<Receipt, Error> {
        let Prepared { events: mut receipts, batch } = prepared;
        if receipts.is_empty() && batch.is_empty() {
            return Ok(Receipt { events: receipts });
        }
        let done = self.log().commit(batch).await?;
        let (mut appended, mut due) = (done.appended.into_iter(), done.due_duplicate.into_iter());
        for event in &mut receipts {
            match &mut event.fate {
                Fate::Stored { epoch, offset, published_at } => {
                    let at = appended.next().expect("one receipt for each append");
                    (*epoch, *offset, *published_at) = (at.epoch, at.offset, at.published_at);
                    event.duplicate = at.duplicate;
                }
                Fate::Scheduled { .. } => event.duplicate = due.next().expect("one answer for each due"),
            }
        }
        self.counters().published(receipts.len());
        Ok(Receipt { events: receipts })
    }

    /// Whether [`Tidings::publish`] would take `event` as the one at `index` of its call, as far as that can
    /// be said without asking the log to store it. For doors that hand over a long stream in parts and must
    /// know which event is at fault. `previous` is the address of the event before it, which has passed.
    ///
    /// # Errors
    /// As `publish`.
    pub fn check(
        &self,
        who: &Principal,
        event: &NewEvent,
        index: usize,
        previous: Option<&Topic>,
    ) -> Result<(), Error> {
        self.check_form(event, index)?;
        if previous == Some(&event.topic) {
            return Ok(()); // The same address as the event before, which has passed.
        }
        if event.topic.name.is_system() {
            return Err(Error::SystemTopic(event.topic.name.clone()));
        }
        if !who.may_publish(&event.topic) {
            return Err(Error::MayNotPublish(event.topic.clone()));
        }
        self.check_free(&event.topic.name)?;
        self.check_room(&event.topic.name)
    }

    /// Whether `event` keeps the rules and limits that hold whoever sends it.
    pub(crate) fn check_form(&self, event: &NewEvent, index: usize) -> Result<(), Error> {
        event.check().map_err(|source| Error::Event { index, source })?;
        let max = self.limits().event_bytes;
        let bytes = event.payload_bytes();
        if bytes > max {
            return Err(Error::EventTooLarge { index, bytes, max });
        }
        if let Some(at) = event.available_at {
            self.check_ahead(at, index)?;
        }
        self.schemas().check(event).map_err(|source| Error::Schema { index, source })
    }

    /// Whether anybody with the grant may publish to the topic: no source owns it.
    pub(crate) fn check_free(&self, name: &TopicName) -> Result<(), Error> {
        match self.owners().of(name) {
            None => Ok(()),
            Some(owner) => Err(Error::TopicCaptured { topic: name.clone(), source_name: owner.to_string() }),
        }
    }

    /// Whether the topic may be made, should it be a new one.
    pub(crate) fn check_room(&self, name: &TopicName) -> Result<(), Error> {
        // Bytes are never fewer than characters.
        if name.as_str().len() > TopicName::CHARS_MAX && self.log().bounds(name).is_none() {
            name.check_new()?;
        }
        let max = self.limits().topics;
        if self.log().topic_count() >= max && self.log().bounds(name).is_none() {
            return Err(Error::TopicsFull(max));
        }
        Ok(())
    }

    /// Whether an event may be scheduled for that time.
    pub(crate) fn check_ahead(&self, at: Timestamp, index: usize) -> Result<(), Error> {
        let max_ms = self.limits().schedule_ahead_ms;
        let ahead = at.as_millis().saturating_sub(self.clock().now().as_millis());
        if ahead > i64::try_from(max_ms).unwrap_or(i64::MAX) {
            return Err(Error::ScheduleTooFar { index, at, max_days: max_ms / 86_400_000 });
        }
        Ok(())
    }
}
