//! Where entities' rows come from: databases and an application's own endpoints.

pub mod http;
pub mod sql;
