//! Broker's interface: its paths, its JSON, its frames.
//!
//! Owns: what Broker's clients see. What it means is the engine's (`tidings_engine::broker`).

mod ascii;
mod board;
mod denied;
pub mod events;
mod form;
pub mod insert;
pub mod lists;
mod title;
pub mod users;
mod view;
pub mod who;

pub use board::Board;
