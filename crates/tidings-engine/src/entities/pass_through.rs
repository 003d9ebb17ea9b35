//! Where messages go that are no message of ours.

use super::{Secret, resolver};
use crate::Tidings;
use bytes::Bytes;
use std::future::Future;
use tidings_model::{NewEvent, Principal, Topic};

/// Takes messages of clients that the dialect does not know: JSON objects without an action, byte for byte.
///
/// Called in the order of each client's messages, one at a time for each client and at once for many; the next
/// message of that client is read when this has resolved, so a slow one slows its own client only.
/// After `Err` the message is counted as lost; the client stays. Cancel safe: dropped when its client goes or
/// its time is up.
pub trait PassThrough: Send + Sync + 'static {
    fn take<'a>(&'a self, secret: &'a Secret, message: Bytes) -> resolver::Answer<'a>;
}

/// Any asynchronous function may be it.
impl<F, Done> PassThrough for F
where
    F: Fn(Secret, Bytes) -> Done + Send + Sync + 'static,
    Done: Future<Output: resolver::Outcome> + Send + 'static,
{
    fn take<'a>(&'a self, secret: &'a Secret, message: Bytes) -> resolver::Answer<'a> {
        let done = self(secret.clone(), message);
        Box::pin(async move { resolver::Outcome::into_result(done.await) })
    }
}

/// Publishes each message as an event of a topic. The secret is not stored.
pub struct ToTopic {
    tidings: Tidings,
    topic: Topic,
}

impl ToTopic {
    pub fn new(tidings: &Tidings, topic: Topic) -> Self {
        Self { tidings: tidings.clone(), topic }
    }
}

impl PassThrough for ToTopic {
    fn take<'a>(&'a self, _: &'a Secret, message: Bytes) -> resolver::Answer<'a> {
        let failed = |e: &dyn std::fmt::Display| resolver::Error::Failed(e.to_string());
        Box::pin(async move {
            let text = String::from_utf8(message.into()).map_err(|e| failed(&e))?;
            let event = NewEvent::new(self.topic.clone(), text);
            self.tidings.publish(&Principal::admin(), vec![event]).await.map_err(|e| failed(&e))?;
            Ok(())
        })
    }
}
