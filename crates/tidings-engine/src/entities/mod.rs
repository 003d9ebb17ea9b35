//! Entities: an application's own things, whose rows are fetched anew and sent when somebody says that they
//! changed.
//!
//! Rows are no events: they have no offset and no cursor, and whoever connects again gets them as they are then.
//! A change marks the cell of its key; a cell fetches once, whoever watches it, and again if a change came
//! meanwhile; a reader takes the newest rows of each of its cells when its socket has room. So the last state
//! always arrives, and no queue grows with the changes.

mod cell;
mod follow;
mod kind;
mod pass_through;
mod registry;
mod resolver;
mod rows;
mod secret;
mod shelf;
mod snapshot;
mod topic;
mod watches;

pub use follow::follow;
pub use kind::{Counts, Settings};
pub use pass_through::{PassThrough, ToTopic};
pub use registry::Entities;
pub use resolver::{Answer, Closure, Error, Outcome, Resolver};
pub use rows::Rows;
pub use secret::Secret;
pub use snapshot::Snapshot;
pub use topic::NewestEvent;
pub use watches::{Access, Trouble, Watched, Watches, Wish};
