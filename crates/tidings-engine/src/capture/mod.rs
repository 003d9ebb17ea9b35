//! Rows of somebody else's database on their way into the log.
//!
//! Owns: that what a source has read and where it stands there become durable together, and that a captured
//! topic has one publisher. Never: talks to a database, or reads a row's meaning beyond whom it concerns.
//!
//! A source delivers an event per row: topic and key from `TopicName::captured` and `Key::of_columns`; name
//! `insert`, `update`, `delete` or `truncate`; data the whole row as a JSON object, of a delete the old row; in
//! `context` what else is known: `before` (the old row), `changed` (names of columns), the transaction, the
//! position. `deleted` is set for a delete. A source that cannot say how a row was leaves `before` out, and gives
//! of a deleted row what it has: where that matters, it is taken from the row's newest event. A row whose key
//! changed is two events: a delete of the old key and an insert of the new. Whom a row concerns, and which columns
//! stay behind, is decided here.

mod known;
mod owners;

pub(crate) use owners::Owners;

use crate::{Error, Receipt, Tidings};
use bytes::Bytes;
use tidings_log::{Batch, Mark};
use tidings_model::{NewEvent, Principal, Rows, Sight, TopicName};

/// The name of the event that says that a table was emptied.
const TRUNCATE: &str = "truncate";

/// What a source has read: a transaction, or a piece of one.
///
/// A transaction of more than a few MiB is delivered in pieces, each with marks that say which piece it is: each
/// becomes durable and visible by itself, in order, and none is delivered twice.
#[derive(Debug, Clone, Default)]
pub struct Capture {
    /// The source's name; it owns the topics of `events`.
    pub source: Box<str>,
    /// Changed rows, in their order.
    pub events: Vec<NewEvent>,
    /// What the application itself published within the transaction, to topics that no source owns.
    pub messages: Vec<NewEvent>,
    /// Where the source stands once it has delivered this.
    pub marks: Vec<Mark>,
}

/// Whom an event is for that somebody adds to a captured topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee<'a> {
    Everyone,
    User(&'a str),
}

impl Tidings {
    /// Makes `topics` those that `source` owns from now on: other publishers are refused with `topic_captured`,
    /// also while the source is down. What it owned before and is not named is anybody's again.
    ///
    /// # Errors
    /// When another source owns one of them, one is the system's, or the log refuses; nothing changed then.
    pub async fn captured(&self, source: &str, topics: &[TopicName]) -> Result<(), Error> {
        let _turn = self.owners().turn().await;
        if let Some(system) = topics.iter().find(|name| name.is_system()) {
            return Err(Error::SystemTopic(system.clone()));
        }
        for name in topics {
            if let Some(owner) = self.owners().of(name).filter(|owner| **owner != *source) {
                return Err(Error::CapturedByAnother { topic: name.clone(), source_name: owner.to_string() });
            }
        }
        let (taken, left) = self.owners().difference(source, topics);
        let registry: Vec<_> = owners::changes(source, &taken, &left);
        if registry.is_empty() {
            return Ok(());
        }
        // Closed before it is stored: nobody publishes between the two.
        self.owners().take(source, &taken);
        taken.iter().for_each(|name| self.rules_captured(name));
        if let Err(error) = self.log().commit(Batch { registry, ..Batch::default() }).await {
            self.owners().leave(&taken);
            taken.iter().for_each(|name| self.rules_captured(name));
            return Err(error.into());
        }
        self.owners().leave(&left);
        left.iter().for_each(|name| self.rules_captured(name));
        Ok(())
    }

    /// Which source owns a topic.
    pub fn captured_by(&self, topic: &TopicName) -> Option<std::sync::Arc<str>> {
        self.owners().of(topic)
    }

    /// All captured topics, also those of a source that is down.
    pub fn captured_topics(&self) -> Vec<TopicName> {
        self.owners().all()
    }

    /// Reads which topics are captured.
    pub async fn load_captured(&self) -> Result<(), Error> {
        let all = self.log().registry(owners::KIND).await?;
        for name in all.iter().filter_map(|(name, owner)| self.owners().load(name, owner)) {
            self.rules_captured(&name);
        }
        Ok(())
    }

    /// Appends what was captured and moves the source's position, in one commit.
    ///
    /// # Errors
    /// When the source does not own the topic of a row, when an event breaks a rule, when a message would be
    /// refused by [`Tidings::check_message`], or when the log cannot be read or refuses.
    pub async fn capture(&self, capture: Capture) -> Result<Receipt, Error> {
        self.capture_with(capture, Batch::default()).await
    }

    /// The same with what else is in `batch`.
    pub(crate) async fn capture_with(&self, capture: Capture, batch: Batch) -> Result<Receipt, Error> {
        let Capture { source, mut events, messages, marks } = capture;
        for (index, event) in events.iter_mut().enumerate() {
            // Without a key there is no State to leave.
            event.deleted &= event.topic.key.is_some();
            event.check().map_err(|source| Error::Event { index, source })?;
            if self.owners().of(&event.topic.name).is_none_or(|owner| *owner != *source) {
                return Err(Error::NotCaptured {
                    topic: event.topic.name.clone(),
                    source_name: source.into(),
                });
            }
        }
        for message in &messages {
            self.check_message(message)?;
        }
        let mut decided = self.decide_rows(events).await?;
        decided.extend(self.decide(messages)?);
        let events = decided.into_iter().map(Ok);
        let prepared = self.encode(&Principal::nobody(), events, Batch { marks, ..batch })?;
        self.commit(prepared).await
    }

    /// Whether an event that an application published through its database would be taken. A source asks before
    /// it delivers: the application's transaction is over, so what is refused can only be left out.
    ///
    /// # Errors
    /// As `publish`.
    pub fn check_message(&self, message: &NewEvent) -> Result<(), Error> {
        self.check(&Principal::admin(), message, 0, None)
    }

    /// Adds an event to a topic whoever owns it: without a key, so that it is no row and not in State, and for `to`
    /// alone. Admins may address anybody, others themselves.
    ///
    /// # Errors
    /// When `who` may not, the topic is the system's, the event breaks a rule or a limit, or the log refuses.
    pub async fn publish_to_captured(
        &self,
        who: &Principal,
        mut event: NewEvent,
        to: Addressee<'_>,
    ) -> Result<Receipt, Error> {
        let name = event.topic.name.clone();
        if name.is_system() {
            return Err(Error::SystemTopic(name));
        }
        let is_own = matches!(to, Addressee::User(id) if who.id.as_deref() == Some(id));
        if !who.is_admin && !is_own {
            return Err(Error::MayNotPublish(event.topic));
        }
        (event.topic.key, event.deleted, event.available_at) = (None, false, None);
        self.check_form(&event, 0)?;
        if self.owners().of(&name).is_none() {
            self.check_room(&name)?;
        }
        let filter_columns = self.rules().of(&name).map_or(Vec::new(), |rows| rows.filter_columns.clone());
        let refuse = |source| Error::Event { index: 0, source };
        Rows { filter_columns, ..Rows::default() }.apply(&mut event, false).map_err(refuse)?;
        let audience = match to {
            Addressee::Everyone => None,
            Addressee::User(id) => Some(vec![id.into()]),
        };
        let sight = Sight { audience, is_routed: true, ..Sight::default() };
        self.store(who, std::iter::once(Ok((event, sight))), Batch::default()).await
    }

    /// What `mark` says of where a source stands; `None` before its first delivery.
    pub async fn position(&self, mark: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.log().mark(mark).await?)
    }
}

/// Whether a captured `event` says that its table was emptied.
pub(crate) fn is_truncate(event: &NewEvent) -> bool {
    event.topic.key.is_none() && event.name.as_deref() == Some(TRUNCATE)
}
