//! EventRelay's HTTP interface: its path, its JSON, its words for refusals.
//!
//! Owns: what EventRelay's clients see. A topic here is a topic everywhere.

pub mod api_events;
mod event;
mod refused;
