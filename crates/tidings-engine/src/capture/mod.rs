//! Rows of somebody else's database on their way into the log.
//!
//! Owns: that what a source has read and where it stands there become durable together, and that a captured
//! topic has one publisher. Never: talks to a database, or reads a row's meaning beyond whom it concerns.
//!
//! A source delivers an event per row: topic and key from `TopicName::captured` and `Key::of_columns`; name
//! `insert`, `update`, `delete` or `truncate`; data the whole row as a JSON object, of a delete the old row; in
//! `context` what else is known: `before` (the old row), `changed` (names of columns), the transaction, the
//! position. `deleted` is set for a delete. A row whose key changed is two events: a delete of the old key and
//! an insert of the new. Whom a row concerns, and which columns stay behind, is decided here.

mod owners;

pub use owners::Owners;

use crate::{Error, Receipt, Tidings};
use bytes::Bytes;
use tidings_log::{Batch, Mark};
use tidings_model::{NewEvent, Principal, TopicName};

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
        taken.iter().for_each(|name| self.tell_broker(name));
        if let Err(error) = self.log().commit(Batch { registry, ..Batch::default() }).await {
            self.owners().leave(&taken);
            taken.iter().for_each(|name| self.tell_broker(name));
            return Err(error.into());
        }
        self.owners().leave(&left);
        left.iter().for_each(|name| self.tell_broker(name));
        Ok(())
    }

    /// Which source owns a topic.
    pub fn captured_by(&self, topic: &TopicName) -> Option<std::sync::Arc<str>> {
        self.owners().of(topic)
    }

    /// Reads which topics are captured.
    pub async fn load_captured(&self) -> Result<(), Error> {
        let all = self.log().registry(owners::KIND).await?;
        for name in all.iter().filter_map(|(name, owner)| self.owners().load(name, owner)) {
            self.tell_broker(&name);
        }
        Ok(())
    }

    /// Broker's interface does not reach what not everybody may see.
    fn tell_broker(&self, name: &TopicName) {
        self.reach().close(name, self.owners().of(name).is_some());
    }

    /// Appends what was captured and moves the source's position, in one commit: after `Ok` both are durable,
    /// after `Err` neither, unless the log says that it cannot tell.
    ///
    /// # Errors
    /// When the source does not own the topic of a row, when an event breaks a rule, when a message would be
    /// refused by [`Tidings::check_message`], or when the log refuses, also since there is too much at once.
    pub async fn capture(&self, capture: Capture) -> Result<Receipt, Error> {
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
        events.extend(messages);
        self.store(&Principal::nobody(), events, Batch { marks, ..Batch::default() }).await
    }

    /// Whether an event that an application published through its database would be taken. A source asks before
    /// it delivers: the application's transaction is over, so what is refused can only be left out.
    ///
    /// # Errors
    /// As `publish`.
    pub fn check_message(&self, message: &NewEvent) -> Result<(), Error> {
        self.check(&Principal::admin(), message, 0, None)
    }

    /// What `mark` says of where a source stands; `None` before its first delivery.
    pub async fn position(&self, mark: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.log().mark(mark).await?)
    }
}
