//! Real queues and databases for tests, each started privately: an own directory, free ports, loopback only.
//!
//! Owns: finding the programs, their start, their end. A peer is ready when it has answered in its own
//! protocol. It can be killed and started again on the same ports, keeps its data meanwhile, and ends
//! with its handle, or with the test's process.
//! Never: installs anything (`cargo xtask test` does), uses a server that is already there.

mod database;
mod peer;
pub mod port;
mod program;
mod queue;

pub use database::{mariadb, postgres};
pub use peer::Peer;
pub use program::{GRPCURL, H2SPEC, NSQD, PYTHON, find, needed};
pub use queue::{nats, nsqd, redis};
