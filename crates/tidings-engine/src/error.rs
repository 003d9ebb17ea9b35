//! What the engine refuses, and why.

use crate::auth::{ApiKeyError, UserError};
use crate::delivery::DestinationError;
use crate::inbound::InboundError;
use crate::{SchemaError, bus, entities};
use tidings_model::{Code, EventError, Timestamp, Topic, TopicError, TopicName, Uuid};

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
    #[error("topic {topic} holds the rows that source {source_name} captures; only it publishes there")]
    TopicCaptured { topic: TopicName, source_name: String },
    #[error("topic {topic} belongs to source {source_name} already")]
    CapturedByAnother { topic: TopicName, source_name: String },
    #[error("topic {topic} does not belong to source {source_name}")]
    NotCaptured { topic: TopicName, source_name: String },
    #[error("topic {0} exists already")]
    TopicExists(TopicName),
    #[error("no topic has the id {0}")]
    TopicIdUnknown(Uuid),
    #[error("there are {0} topics already; no new one can be created")]
    TopicsFull(usize),
    #[error("a stream names at most {max} topics, this one {found}")]
    TopicsTooMany { found: usize, max: usize },
    #[error("event {index}: {source}")]
    Event { index: usize, source: EventError },
    #[error("event {index}: {source}")]
    Schema { index: usize, source: SchemaError },
    #[error("schemas.{name}: {source}")]
    TopicSchema { name: String, source: SchemaError },
    #[error("event {index} has {bytes} bytes of data, context and attributes, at most {max} are allowed")]
    EventTooLarge { index: usize, bytes: usize, max: usize },
    #[error("{found} events in one call, at most {max} are allowed")]
    BatchTooLarge { found: usize, max: usize },
    #[error("event {index} is scheduled for {at}, at most {max_days} days ahead are allowed")]
    ScheduleTooFar { index: usize, at: Timestamp, max_days: u64 },
    #[error("no scheduled event {0}")]
    ScheduledUnknown(Uuid),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Inbound(#[from] InboundError),
    #[error(transparent)]
    ApiKey(#[from] ApiKeyError),
    #[error("a token could not be signed: {0}")]
    Sign(String),
    #[error("{field}: {why}")]
    Settings { field: &'static str, why: String },
    #[error(transparent)]
    Log(#[from] tidings_log::Error),
    #[error(transparent)]
    NameInvalid(#[from] TopicError),
    #[error("no entity is called {0}")]
    EntityUnknown(TopicName),
    #[error("at most {0} entities may be subscribed to at once")]
    EntitiesTooMany(usize),
    #[error(transparent)]
    Rows(#[from] entities::Error),
    #[error(transparent)]
    Bus(#[from] bus::Error),
    #[error(
        "topic {0} is not one of Broker's: it was not first used there and `broker.topics` does not name it"
    )]
    NotBrokers(TopicName),
    #[error("`timestamp` {0} lies outside the years 0000 to 9999")]
    TimestampRange(i64),
    #[error(transparent)]
    Destination(#[from] DestinationError),
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
            Self::SystemTopic(_) | Self::NotBrokers(_) => Code::Forbidden,
            Self::TimestampRange(_) => Code::EventInvalid,
            Self::TopicUnknown(_) => Code::TopicUnknown,
            Self::TopicCaptured { .. } | Self::CapturedByAnother { .. } => Code::TopicCaptured,
            Self::NotCaptured { .. } => Code::Internal,
            Self::TopicIdUnknown(_) => Code::TopicUnknown,
            Self::TopicExists(_) => Code::TopicExists,
            Self::TopicsFull(_) => Code::TopicsFull,
            Self::TopicsTooMany { .. } => Code::TopicsTooMany,
            Self::Event { source, .. } => source.code(),
            Self::Schema { source, .. } | Self::TopicSchema { source, .. } => source.code(),
            Self::EventTooLarge { .. } => Code::EventTooLarge,
            Self::BatchTooLarge { .. } => Code::BatchTooLarge,
            Self::ScheduleTooFar { .. } => Code::ScheduleTooFar,
            Self::ScheduledUnknown(_) => Code::ScheduledUnknown,
            Self::User(e) => e.code(),
            Self::Inbound(e) => e.code(),
            Self::ApiKey(e) => e.code(),
            Self::Sign(_) => Code::Internal,
            Self::Settings { .. } => Code::ParameterInvalid,
            Self::Log(e) => e.code(),
            Self::NameInvalid(_) => Code::TopicInvalid,
            Self::EntityUnknown(_) => Code::EntityUnknown,
            Self::EntitiesTooMany(_) => Code::SubscriptionsTooMany,
            Self::Rows(e) => e.code(),
            Self::Bus(e) => e.code(),
            Self::Destination(e) => e.code(),
            Self::Draining => Code::Draining,
        }
    }

    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }
}

/// The error and its causes, but no cause that the one before it has told already.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |told, cause| {
        if told.ends_with(&cause) { told } else { format!("{told}: {cause}") }
    })
}
