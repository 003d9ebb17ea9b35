//! Entities whose rows lie in our own log: the newest event of `topic:id`.

use super::{Answer, Error, Resolver, Rows, Secret};
use std::sync::Arc;
use tidings_log::{Log, ReadMax};
use tidings_model::{Audience, EntityKey, TopicName};

/// Yields the data of the newest event as one row; nothing if there is none or it was deleted. Events that are
/// not for everyone are not shown: nobody's grant is known here (I6).
pub struct NewestEvent {
    log: Arc<dyn Log>,
    topic: TopicName,
}

impl NewestEvent {
    pub(crate) fn new(log: Arc<dyn Log>, topic: TopicName) -> Self {
        Self { log, topic }
    }

    async fn newest(&self, key: &EntityKey, out: &Rows) -> Result<(), tidings_log::Error> {
        if self.log.bounds(&self.topic).is_none() {
            return Ok(());
        }
        let state = self.log.state(&self.topic, Some(&key.id)).await?;
        let max = ReadMax { events: 1, bytes: usize::MAX };
        let newest = self.log.read_at(&self.topic, &state.offsets, max).await?.into_iter().next();
        if let Some(event) = newest.filter(|e| matches!(e.audience(), Audience::Everyone)) {
            // A refusal shows when the fetch is closed.
            let _ = out.push(event.data().unwrap_or("null").to_owned());
        }
        Ok(())
    }
}

impl Resolver for NewestEvent {
    fn secret_matters(&self) -> bool {
        false
    }

    fn fetch<'a>(&'a self, key: &'a EntityKey, _: &'a Secret, out: Rows) -> Answer<'a> {
        Box::pin(async move { self.newest(key, &out).await.map_err(|e| Error::Failed(e.to_string())) })
    }
}
