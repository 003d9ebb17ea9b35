//! Changes from the binary log: transactions in the order of their commits, row by row.

mod event;
mod lookahead;
#[cfg(test)]
mod mysql8;
mod reader;
mod statement;
pub mod stream;
mod tables;
mod transaction;

pub use reader::Reader;
pub use tables::Tables;
