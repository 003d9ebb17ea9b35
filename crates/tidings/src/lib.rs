//! Tidings: a self-hosted real-time event hub, as a library.
//!
//! [`Embedded`] is a hub inside your own program, without a socket. [`Builder`] is the same with the server's
//! doors in front. Both give a [`Tidings`] handle: publish, schedule, cancel, read, subscribe.
//! Never: reads the environment, installs a subscriber for logs, or exits; that is `main.rs`, and [`broker()`],
//! which is a whole program in one call.

#[cfg(feature = "cli")]
mod broker;
#[cfg(feature = "server")]
mod builder;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
mod drivers;
mod embedded;
#[cfg(feature = "server")]
mod entities;
#[cfg(feature = "server")]
mod esink;
pub mod secret;
#[cfg(feature = "server")]
mod sources;

#[cfg(feature = "cli")]
pub use broker::broker;
#[cfg(feature = "server")]
pub use builder::{Builder, Nested, Running, StartError};
#[cfg(feature = "server")]
pub use config::Config;
pub use embedded::Embedded;
#[cfg(feature = "server")]
pub use entities::EntitiesError;
pub use secret::DataSecret;

pub use tidings_engine::auth::{
    ApiKey, ApiKeyError, ApiKeyPatch, ApiKeys, HashKind, IssuedApiKey, Login, NewApiKey, NewSecret, NewUser,
    SignUp, User, UserError, UserPatch, UserSettings, Users,
};
pub use tidings_engine::bus::{self, Bus, LocalBus, OwnQueue};
pub use tidings_engine::delivery::{
    Destination, DestinationError, DestinationSettings, Destinations, SigningSecret, WebhookSettings,
};
pub use tidings_engine::entities::{self as entity, Closure, Entities, PassThrough, Resolver, Rows, Secret};
pub use tidings_engine::{
    Batch, DeadEvent, Entry, Error, Fate, Gap, GapReason, Item, Page, Published, Receipt, Retention,
    Subscription, Tidings, TopicSettings, told,
};
pub use tidings_log::embedded::Options as LogOptions;
pub use tidings_log::{Bounds, Clock, Due, Error as LogError, Log, SystemClock};
pub use tidings_model::{
    Attributes, Code, Cursor, EntityKey, Epoch, Event, EventError, Filter, FilterError, From, Grant, Grants,
    Key, KeyKind, Limits, NewEvent, Offset, Position, Principal, Timestamp, Topic, TopicError, TopicName,
    UserId, Uuid,
};
#[cfg(feature = "server")]
pub use tidings_server::{BindError, Router};
