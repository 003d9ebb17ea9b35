//! The bus: how nodes tell each other that an entity changed.
//!
//! Owns: the contract ([`Bus`]), the in-process driver, the adaptor for a program's own queue, and the suite
//! every driver must pass. Signals are hints: they carry a key and no rows, may come twice and in any order.
//! Never: carries events, waits for a reader.

mod closures;
#[cfg(feature = "conformance")]
pub mod conformance;
mod local;

pub use closures::{Own, OwnQueue};
pub use local::LocalBus;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tidings_model::{Code, EntityKey, TopicName};
use tokio::sync::watch;

/// What a bus's methods return: a boxed future, so that the engine holds any bus behind one pointer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Carries signals between all nodes that share a queue.
///
/// Making a bus never fails because its queue is down: it begins as [`Status::Lost`] and goes on trying, with
/// growing pauses, until it is dropped. Dropping the last handle ends its connections and tasks; a sink
/// hears nothing after that. Every method resolves within [`ANSWER_WITHIN`], also when the queue hangs.
pub trait Bus: Send + Sync + 'static {
    /// Tells every node that subscribes to the signal's entity, this one included if it does.
    ///
    /// After `Ok`: the queue has taken the signal. Every sink that is connected hears it at least once; one
    /// whose connection breaks before that hears [`News::Missed`] instead when it is back.
    /// After `Err`: some nodes may have heard it, perhaps none. Nothing is kept for later; asking again is safe.
    /// Cancel safe: dropping the future may still publish.
    fn publish(&self, signal: Signal) -> Answer<'_, ()>;

    /// Hands what there is to hear about `entity` to `sink`, from now on for the life of the bus. Called once
    /// for each entity; it may be called from several tasks at once.
    ///
    /// After `Ok`: every signal published by any node after this call reaches `sink`.
    /// After `Err`, or after dropping the future: `sink` is registered all the same. It hears
    /// [`News::Missed`] as soon as the bus listens for it, and every signal published after that. Only
    /// [`Error::Name`] is final.
    fn subscribe(&self, entity: &TopicName, sink: Arc<dyn Sink>) -> Answer<'_, ()>;

    /// Whether the queue is within reach. The receiver sees every change that lasts.
    fn status(&self) -> watch::Receiver<Status>;
}

/// No method of a bus takes longer.
pub const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// An entity changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signal(pub EntityKey);

/// What a sink hears.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum News {
    Signal(Signal),
    /// The connection is there again, and signals about this entity may have been lost before: whatever is
    /// subscribed must be fetched anew.
    Missed(TopicName),
}

/// Where signals arrive.
///
/// Called on the driver's own task or the publisher's: it only leaves a note and never waits. What it keeps
/// must be bounded by itself; the driver calls it for every signal.
pub trait Sink: Send + Sync + 'static {
    fn hear(&self, news: News);
}

impl<F: Fn(News) + Send + Sync + 'static> Sink for F {
    fn hear(&self, news: News) {
        self(news);
    }
}

/// Whether a queue is within reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Publishing works, and every subscribed entity is listened for.
    Connected,
    Lost {
        since: Instant,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no connection, or it broke while the answer was awaited.
    #[error("the queue cannot be reached: {0}")]
    Unreachable(String),
    /// The queue answered, and refused.
    #[error("the queue refused: {0}")]
    Refused(String),
    /// The queue cannot carry an entity of this name.
    #[error("the queue cannot carry signals of entity {entity}: {why}")]
    Name { entity: TopicName, why: &'static str },
}

impl Error {
    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) | Self::Refused(_) => Code::BusUnavailable,
            Self::Name { .. } => Code::TopicInvalid,
        }
    }

    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }
}
