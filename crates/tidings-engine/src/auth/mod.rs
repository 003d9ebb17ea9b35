//! Who is asking: verification of tokens. Users, passwords and API keys are not here yet.

mod gate;
mod keys;

pub use gate::{Gate, Refused};
pub use keys::{Key, KeyError, Keys, Secret};
