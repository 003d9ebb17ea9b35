//! What carries a webhook out.

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// One attempt.
#[derive(Debug, Clone)]
pub struct Request {
    pub url: Box<str>,
    pub headers: Vec<(Box<str>, Box<str>)>,
    pub body: Bytes,
    /// The whole of it takes no longer.
    pub timeout: Duration,
    /// Whether the receiver may lie in a network that only this server reaches.
    pub allow_private: bool,
    /// How much of the answer is wanted.
    pub answer_bytes: usize,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status {
        status: u16,
        retry_after: Option<Box<str>>,
        /// Its beginning.
        body: Bytes,
    },
    /// There was none, and why.
    Failed(Box<str>),
}

/// What [`Courier::send`] returns.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Sends webhooks.
///
/// Follows no redirect, and refuses private addresses where they are not allowed, also after looking up a name.
/// Every outcome is an answer. Dropping the future may still send.
pub trait Courier: Send + Sync + 'static {
    fn send(&self, request: Request) -> Sending<'_>;
}
