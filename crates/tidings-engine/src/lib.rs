//! Tidings without a socket: what an embedding program takes.
//!
//! Owns: authorising, stamping and committing new events; the hub and its subscriptions; the schedule;
//! retention; the verification of tokens; entities and the bus that says that one changed; how sources are doing. Never: opens a socket, knows a transport's frames.

mod addressed;
pub mod auth;
pub mod broker;
pub mod bus;
pub mod entities;
mod error;
mod feed;
mod hub;
mod ingest;
mod leg;
mod listeners;
mod passing;
mod retention;
mod schedule;
mod services;
mod sources;
mod subscription;
mod tidings;

pub use addressed::To;
pub use error::Error;
pub use feed::{Entry, Format};
pub use hub::{Hub, TopicWatcher};
pub use ingest::{Fate, Published, Receipt};
pub use listeners::{Listener, Place};
pub use retention::{Retention, TopicSettings};
pub use schedule::{Cancelled, Scheduled};
pub use services::Services;
pub use sources::{SourceReport, SourceState, SourceStatus, Sources};
pub use subscription::{Batch, Gap, GapReason, Item, Step, Subscription};
pub use tidings::{Counters, Page, Tidings};
