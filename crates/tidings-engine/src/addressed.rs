//! Publishing for some readers only.
//!
//! Owns: the audience that a publisher names itself. Never: lets it reach beyond the grants of its readers.

use crate::{Error, Receipt, Tidings};
use tidings_model::{NewEvent, Principal};

/// Whom an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// Everybody with the grant.
    Everyone,
    /// The users with these ids, and nobody else but admins.
    Users(&'a [&'a str]),
}

impl Tidings {
    /// Publishes one event that only `to` may see.
    ///
    /// # Errors
    /// As [`Tidings::publish`].
    pub async fn publish_to(&self, who: &Principal, event: NewEvent, to: To<'_>) -> Result<Receipt, Error> {
        self.check_form(&event, 0)?;
        if event.topic.name.is_system() {
            return Err(Error::SystemTopic(event.topic.name));
        }
        if !who.may_publish(&event.topic) {
            return Err(Error::MayNotPublish(event.topic));
        }
        self.check_room(&event.topic.name)?;
        let audience = match to {
            To::Everyone => None,
            To::Users(users) => Some(users),
        };
        self.store_for(who, vec![event], Vec::new(), audience).await
    }
}
