//! The bus of a node that is alone: signals reach the sinks of this process and nobody else.
//!
//! Sinks are called on the publisher's task. Clones, and what they subscribe, are one bus.

use super::{Answer, Bus, News, Signal, Sink, Status};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use tidings_model::TopicName;
use tokio::sync::watch;

/// The in-process bus. Cheap to clone; each clone may act as a node of its own.
#[derive(Clone)]
pub struct LocalBus(Arc<Inner>);

struct Inner {
    sinks: RwLock<HashMap<TopicName, Vec<Arc<dyn Sink>>>>,
    status: watch::Sender<Status>,
}

impl LocalBus {
    pub fn new() -> Self {
        let status = watch::Sender::new(Status::Connected);
        Self(Arc::new(Inner { sinks: RwLock::default(), status }))
    }
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus for LocalBus {
    fn publish(&self, signal: Signal) -> Answer<'_, ()> {
        let sinks = self.0.sinks.read().expect("no panic while holding the lock");
        let sinks = sinks.get(&signal.0.entity).cloned().unwrap_or_default();
        sinks.iter().for_each(|sink| sink.hear(News::Signal(signal.clone())));
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe(&self, entity: &TopicName, sink: Arc<dyn Sink>) -> Answer<'_, ()> {
        let mut sinks = self.0.sinks.write().expect("no panic while holding the lock");
        sinks.entry(entity.clone()).or_default().push(sink);
        Box::pin(std::future::ready(Ok(())))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }
}
