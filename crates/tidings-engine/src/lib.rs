//! Tidings without a socket: what an embedding program takes.
//!
//! Owns: authorising, stamping and committing new events; the hub and its subscriptions; the schedule;
//! what sources capture and how they are doing; retention; the verification of tokens; entities and the bus that
//! says that one changed; destinations. Never: opens a socket, knows a transport's frames.

pub mod auth;
pub mod broker;
pub mod bus;
mod capture;
mod dead;
pub mod delivery;
mod directory;
pub mod entities;
mod error;
mod feed;
mod hold;
mod hub;
pub mod inbound;
mod ingest;
mod leg;
mod listeners;
mod passing;
mod retention;
mod rules;
mod schedule;
mod schema;
mod services;
mod sources;
mod subscription;
mod tidings;

pub use capture::{Addressee, Capture};
pub use dead::DeadEvent;
pub use directory::NamedTopic;
pub use error::{Error, told};
pub use feed::{Entry, Format};
pub use hold::Hold;
pub use hub::{Hub, TopicWatcher};
pub use ingest::{Fate, Published, Receipt};
pub use listeners::{Listener, Place};
pub use retention::{Retention, TopicSettings};
pub use schedule::{Cancelled, Scheduled};
pub use schema::SchemaError;
pub use services::Services;
pub use sources::{SourceReport, SourceState, SourceStatus, Sources};
pub use subscription::{Batch, Gap, GapReason, Item, Step, Stretch, Subscription, Track};
pub use tidings::{Counters, Page, Tidings};
