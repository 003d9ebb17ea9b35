//! Broker's view of the log: who reaches which topics, inserts, lists, and the latest event of each collection.
//!
//! Owns: what Broker's words mean here. An event name is a topic, a collection is a key, the newest event of a
//! collection is the one with the greatest (timestamp, offset). Never: knows a URL or a frame; passwords and
//! tokens are `auth`'s business.

mod entry;
mod follower;
mod insert;
mod latest;
mod lists;
mod reach;

pub use entry::{BrokerEvent, timestamp};
pub use follower::{Change, Follower};
pub use insert::Insert;
pub use latest::Place;
pub use lists::Listing;
pub use reach::Reach;

use crate::{Error, Tidings};
use tidings_model::{Principal, Topic, TopicName};

/// What Broker's doors call. Cheap to clone.
#[derive(Clone)]
pub struct Broker(Tidings);

impl Broker {
    pub fn new(tidings: Tidings) -> Self {
        Self(tidings)
    }

    /// The topics that Broker's interface reaches.
    pub fn names(&self) -> Vec<TopicName> {
        self.0.reach().names()
    }

    pub fn reaches(&self, name: &TopicName) -> bool {
        self.0.reach().has(name)
    }

    /// A way through one topic that keeps to the latest event of each collection.
    pub async fn follow(&self, name: TopicName) -> Result<Follower, Error> {
        Follower::open(self.0.clone(), name).await
    }
}

/// Whether `who` may see `topic` through Broker's interface, which is assumed to reach it: every user of our
/// own, and others with the grant for it.
pub fn may_see(who: &Principal, topic: &Topic) -> bool {
    is_user(who) || who.may_subscribe(topic)
}

fn may_insert(who: &Principal, topic: &Topic) -> bool {
    is_user(who) || who.may_publish(topic)
}

/// Whether the caller is a user of our own, with a token that is not narrowed to certain topics.
fn is_user(who: &Principal) -> bool {
    who.session.as_ref().is_some_and(|session| !session.names_topics)
}
