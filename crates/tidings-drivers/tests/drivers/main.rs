//! The drivers against the real servers of others, each started privately.

mod bus;
mod http;
mod sql;
mod webhook;
