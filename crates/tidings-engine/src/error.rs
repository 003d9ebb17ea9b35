//! What the engine refuses, and why.

use tidings_model::{Code, EventError, Timestamp, Topic, TopicName, Uuid};

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("no grant to publish to {0}")]
    MayNotPublish(Topic),
    #[error("no grant to subscribe to {0}")]
    MayNotSubscribe(Topic),
    #[error("only an admin may do this")]
    AdminOnly,
    #[error("only the owner or an admin may see, move or cancel this event")]
    NotOwner,
    #[error("topic {0} belongs to the system")]
    SystemTopic(TopicName),
    #[error("nothing has been published to topic {0}")]
    TopicUnknown(TopicName),
    #[error("there are {0} topics already; no new one can be created")]
    TopicsFull(usize),
    #[error("a stream names at most {max} topics, this one {found}")]
    TopicsTooMany { found: usize, max: usize },
    #[error("event {index}: {source}")]
    Event { index: usize, source: EventError },
    #[error("event {index} has {bytes} bytes of data, context and attributes, at most {max} are allowed")]
    EventTooLarge { index: usize, bytes: usize, max: usize },
    #[error("{found} events in one call, at most {max} are allowed")]
    BatchTooLarge { found: usize, max: usize },
    #[error("event {index} is scheduled for {at}, at most {max_days} days ahead are allowed")]
    ScheduleTooFar { index: usize, at: Timestamp, max_days: u64 },
    #[error("no scheduled event {0}")]
    ScheduledUnknown(Uuid),
    #[error("{field}: {why}")]
    Settings { field: &'static str, why: String },
    #[error(transparent)]
    Log(#[from] tidings_log::Error),
    #[error("shutting down")]
    Draining,
}

impl Error {
    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::MayNotPublish(_) | Self::MayNotSubscribe(_) | Self::AdminOnly | Self::NotOwner => {
                Code::Forbidden
            }
            Self::SystemTopic(_) => Code::Forbidden,
            Self::TopicUnknown(_) => Code::TopicUnknown,
            Self::TopicsFull(_) => Code::TopicsFull,
            Self::TopicsTooMany { .. } => Code::TopicsTooMany,
            Self::Event { source, .. } => source.code(),
            Self::EventTooLarge { .. } => Code::EventTooLarge,
            Self::BatchTooLarge { .. } => Code::BatchTooLarge,
            Self::ScheduleTooFar { .. } => Code::ScheduleTooFar,
            Self::ScheduledUnknown(_) => Code::ScheduledUnknown,
            Self::Settings { .. } => Code::ParameterInvalid,
            Self::Log(e) => e.code(),
            Self::Draining => Code::Draining,
        }
    }

    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }
}
