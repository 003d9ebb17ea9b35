//! Doors out: everything that talks to somebody else's server.
//!
//! Owns: clients of time servers, queues, databases and HTTP endpoints, behind traits of the engine.
//! Never: opens a listening socket, decides who may see what, imports the server.

pub mod bus;
pub mod resolver;
pub mod time;
pub mod webhook;
