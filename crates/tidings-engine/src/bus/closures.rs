//! A program's own queue as a bus, by two functions: one publishes bytes, one subscribes to them.
//!
//! Owns: the form of the bytes, `{"entity":"items","id":"100"}`. Never: reconnects; that is the functions' work,
//! and what they lose meanwhile they report with [`Own::missed`].

use super::{Answer, Bus, Error, News, Signal, Sink, Status};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tidings_model::{EntityKey, TopicName};
use tokio::sync::watch;

type Done = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The two functions of a program's own queue.
pub struct OwnQueue {
    publish: Box<dyn Fn(String, Bytes) -> Done + Send + Sync>,
    subscribe: Box<dyn Fn(String, Own) -> Done + Send + Sync>,
    status: watch::Sender<Status>,
}

/// Takes in what a program's own queue delivers about one entity. Cheap to clone.
#[derive(Clone)]
pub struct Own {
    entity: TopicName,
    sink: Arc<dyn Sink>,
}

impl Own {
    /// A message has come; bytes that are no signal are passed over.
    pub fn message(&self, bytes: &[u8]) {
        match EntityKey::from_json(bytes) {
            Ok(key) if key.entity == self.entity => self.sink.hear(News::Signal(Signal(key))),
            Ok(_) | Err(_) => tracing::debug!(entity = %self.entity, "a message that is no signal"),
        }
    }

    /// The queue was out of reach: whatever is subscribed must be fetched anew.
    pub fn missed(&self) {
        self.sink.hear(News::Missed(self.entity.clone()));
    }
}

impl OwnQueue {
    /// `publish` is called with an entity's name and a message; `subscribe` once for each entity, with what
    /// takes the messages in. Both say why where they fail.
    pub fn new<P, PF, PE, S, SF, SE>(publish: P, subscribe: S) -> Self
    where
        P: Fn(String, Bytes) -> PF + Send + Sync + 'static,
        PF: Future<Output = Result<(), PE>> + Send + 'static,
        PE: std::fmt::Display,
        S: Fn(String, Own) -> SF + Send + Sync + 'static,
        SF: Future<Output = Result<(), SE>> + Send + 'static,
        SE: std::fmt::Display,
    {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        Self {
            publish: Box::new(move |entity, bytes| {
                let done = publish(entity, bytes);
                Box::pin(async move { done.await.map_err(|e| text(&e)) })
            }),
            subscribe: Box::new(move |entity, own| {
                let done = subscribe(entity, own);
                Box::pin(async move { done.await.map_err(|e| text(&e)) })
            }),
            status: watch::Sender::new(Status::Connected),
        }
    }
}

impl Bus for OwnQueue {
    fn publish(&self, signal: Signal) -> Answer<'_, ()> {
        let done = (self.publish)(signal.0.entity.to_string(), signal.0.to_json().into());
        Box::pin(self.noted(done))
    }

    fn subscribe(&self, entity: &TopicName, sink: Arc<dyn Sink>) -> Answer<'_, ()> {
        let own = Own { entity: entity.clone(), sink };
        let done = (self.subscribe)(entity.to_string(), own);
        Box::pin(self.noted(done))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl OwnQueue {
    /// The functions' own answers are all there is to tell whether the queue is within reach.
    async fn noted(&self, done: Done) -> Result<(), Error> {
        let done = match tokio::time::timeout(super::ANSWER_WITHIN, done).await {
            Ok(done) => done.map_err(Error::Unreachable),
            Err(_) => Err(Error::Unreachable("no answer in time".into())),
        };
        self.status.send_if_modified(|status| match (&done, *status) {
            (Ok(()), Status::Lost { .. }) => {
                *status = Status::Connected;
                true
            }
            (Err(_), Status::Connected) => {
                *status = Status::Lost { since: Instant::now() };
                true
            }
            _ => false,
        });
        done
    }
}
