//! The words of Tidings: what an event, a topic, a cursor and a grant are.
//!
//! Owns: parsing and printing of everything that crosses a door, and the stored form of an event.
//! Never: does I/O, reads a clock, draws randomness, or knows a transport.

mod api_key;
mod captured;
mod claims;
mod code;
mod cursor;
mod entity;
mod event;
pub mod event_relay;
mod filter;
mod grant;
mod lease;
mod limits;
mod members;
mod new_event;
pub mod op;
pub mod phoenix;
mod principal;
mod record;
mod row_rule;
mod sight;
mod time;
mod topic;

pub use api_key::{Destinations, KeyHold, KeyKind};
pub use claims::{Claims, ClaimsError, TopicList};
pub use code::Code;
pub use cursor::{Cursor, CursorError, Epoch, From, FromError, Offset, Position};
pub use entity::{EntityKey, EntityKeyError};
pub use event::Event;
pub use filter::{Filter, FilterError};
pub use grant::{Grant, Grants};
pub use lease::{Lease, Session, Watcher};
pub use limits::Limits;
pub use new_event::{Attributes, EventError, NewEvent};
pub use principal::{Principal, UserId};
pub use record::{Record, RecordError, Writer as RecordWriter};
pub use row_rule::{RowRule, RowRuleError, Rows, Sight, check_column};
pub use sight::{Audience, Routing, Users, View};
pub use time::{Timestamp, TimestampError};
pub use topic::{Key, Topic, TopicError, TopicName};
pub use uuid::Uuid;
