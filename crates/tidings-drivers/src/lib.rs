//! Doors out: everything that talks to somebody else's server.
//!
//! Owns: clients of time servers, queues, databases and HTTP endpoints, behind traits of the engine; the sources, which
//! bring in what changed in a database.
//! Never: opens a listening socket, decides who may see what, imports the server.

mod backoff;
pub mod bus;
mod postgres;
pub mod resolver;
pub mod source;
pub mod time;
pub mod webhook;
