//! Row images of the binary log as JSON: which bytes are which column's, and what they mean.
//!
//! Owns: the types of MySQL and MariaDB. Never: asks the server.

pub mod charset;
pub mod column;
pub mod fixed;
pub mod image;
pub mod input;
pub mod jsonb;
pub mod map;
mod moment;
mod number;
