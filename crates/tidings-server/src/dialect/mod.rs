//! Other systems' own URLs and frames, over the same engine. Wire only: no business here.

pub mod broker;
pub mod entity_sync;
pub mod esink;
pub mod eventrelay;
