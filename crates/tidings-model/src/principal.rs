//! Who is asking, and what that one may do.

use crate::{Destinations, Event, Grants, KeyHold, Lease, Session, Timestamp, Topic, Uuid, View};
use std::sync::Arc;

/// The `sub` of a token: what row rules compare with.
pub type UserId = Arc<str>;

/// A caller whose token has been verified. No engine call works without one.
#[derive(Debug, Clone)]
pub struct Principal {
    pub id: Option<UserId>,
    pub publish: Grants,
    pub subscribe: Grants,
    /// Destinations whose events the caller may take; see [`Principal::may_consume`].
    pub destinations: Destinations,
    /// May do everything on every interface; exempt from row rules.
    pub is_admin: bool,
    /// When the token ends; connections end with it.
    pub expires_at: Option<Timestamp>,
    /// Set when the token is that of one of our own users.
    pub session: Option<Session>,
    /// Set when the caller showed an API key, or a token made from one.
    pub api_key: Option<KeyHold>,
}

impl Principal {
    /// The program that embeds Tidings, or the server itself.
    pub fn admin() -> Self {
        let (publish, subscribe) = (Grants::all(), Grants::all());
        Self { publish, subscribe, is_admin: true, ..Self::nobody() }
    }

    /// A caller without any rights.
    pub fn nobody() -> Self {
        let (publish, subscribe) = (Grants::none(), Grants::none());
        Self {
            id: None,
            publish,
            subscribe,
            destinations: Destinations::default(),
            is_admin: false,
            expires_at: None,
            session: None,
            api_key: None,
        }
    }

    /// What ends when something about the caller's user or API key changes; `None` for others.
    pub fn lease(&self) -> Option<&Arc<Lease>> {
        let session = self.session.as_ref().map(|session| &session.lease);
        session.or(self.api_key.as_ref().map(|key| &key.lease))
    }

    /// Whether nothing has changed about the user or API key since the token was verified; for others always.
    pub fn is_current(&self) -> bool {
        self.lease().is_none_or(|lease| !lease.is_over())
    }

    /// Whether the token has not ended at `now`.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    pub fn may_publish(&self, topic: &Topic) -> bool {
        !topic.name.is_system() && (self.is_admin || self.publish.cover(topic))
    }

    pub fn may_subscribe(&self, topic: &Topic) -> bool {
        if topic.name.is_system() {
            // Each event of the schedule names its owner as the only audience: no grant is needed to see one's own.
            return self.is_admin || (topic.name.is_schedule() && self.id.is_some());
        }
        self.is_admin || self.subscribe.cover(topic)
    }

    /// Whether the caller may take the events of a destination.
    pub fn may_consume(&self, destination: Uuid) -> bool {
        self.is_admin || self.destinations.contains(destination)
    }

    /// What of the event this caller may see, if anything (I6).
    pub fn view(&self, event: &Event) -> Option<View> {
        if self.is_admin {
            return Some(View::Whole);
        }
        event.view_of(self.id.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_system_only_the_schedule_is_open_and_only_to_whoever_has_an_id() {
        let may = |who: &Principal, topic: &str| who.may_subscribe(&Topic::parse(topic).unwrap());
        let nobody = Principal { is_admin: false, ..Principal::admin() };
        let ann = Principal { id: Some("ann".into()), subscribe: Grants::none(), ..nobody.clone() };
        assert!(may(&ann, "$schedule") && may(&ann, "$schedule:1") && !may(&ann, "$dead") && !may(&ann, "a"));
        assert!(!may(&nobody, "$schedule") && may(&nobody, "a") && may(&Principal::admin(), "$dead"));
        assert!(!Principal::admin().may_publish(&Topic::parse("$schedule").unwrap()));
    }
}
