//! How an entity's rows are fetched.
//!
//! Owns: the contract ([`Resolver`]) and the adaptor for closures. Time limit, concurrency limit, sharing and
//! counting are the caller's work and the same for every resolver.

use super::{Rows, Secret};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tidings_model::{Code, EntityKey};

/// What a resolver returns: a boxed future, so that the engine holds any resolver behind one pointer.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Fetches the rows of an entity as they are now.
///
/// Called from many tasks at once, up to the entity's concurrency limit, but never twice at once for the same
/// key and secret.
pub trait Resolver: Send + Sync + 'static {
    /// Whether rows or leave depend on the secret. Where they do not, one fetch serves all subscribers of a
    /// key, and the secret given to it is empty; where they do, one fetch serves all with the same secret.
    /// Always answers the same.
    fn secret_matters(&self) -> bool;

    /// Hands the rows of `key` to `out`, in the order in which clients get them.
    ///
    /// The rows reflect everything that was stored before this call. After `Ok`: what was handed over is the
    /// whole answer; no row at all means that there is nothing to send.
    /// After `Err`: nothing is sent, whatever was handed over. [`Error::Refused`] is an answer, not a failure.
    /// Cancel safe: the future is dropped when its time is up; rows handed over after that are refused.
    fn fetch<'a>(&'a self, key: &'a EntityKey, secret: &'a Secret, out: Rows) -> Answer<'a>;
}

/// Why there are no rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Whoever shows this secret may not see the entity.
    #[error("refused")]
    Refused,
    #[error("more than {rows_max} rows or {bytes_max} bytes")]
    TooLarge { rows_max: usize, bytes_max: usize },
    #[error("no answer within {0} ms")]
    Timeout(u64),
    /// The text is for whoever runs the server; clients never see it.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The stable word for it.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused => Code::Forbidden,
            Self::Timeout(_) => Code::ResolverTimeout,
            Self::TooLarge { .. } | Self::Failed(_) => Code::ResolverFailed,
        }
    }

    pub fn retryable(&self) -> bool {
        self.code().retryable()
    }
}

/// What a closure may answer: nothing, or why it failed.
pub trait Outcome {
    fn into_result(self) -> Result<(), Error>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Error> {
        Ok(())
    }
}

impl<E: Into<Failure>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), Error> {
        self.map_err(|e| e.into().0)
    }
}

/// Anything that can be printed is a failure; an [`Error`] of a resolver stays what it is.
pub struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(Error::Failed(text))
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self(Error::Failed(text.into()))
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Failure {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self(match error.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::Failed((&other as &dyn Display).to_string()),
        })
    }
}

/// A resolver made of an asynchronous function.
pub struct Closure<F> {
    fetch: F,
    secret_matters: bool,
}

impl<F, Done> Closure<F>
where
    F: Fn(EntityKey, Secret, Rows) -> Done + Send + Sync + 'static,
    Done: Future<Output: Outcome> + Send + 'static,
{
    /// One fetch for each key and secret.
    pub fn new(fetch: F) -> Self {
        Self { fetch, secret_matters: true }
    }

    /// One fetch for each key: everybody may see the same.
    pub fn shared(fetch: F) -> Self {
        Self { fetch, secret_matters: false }
    }

    /// Behind the pointer that holds any resolver.
    pub fn boxed(self) -> Arc<dyn Resolver> {
        Arc::new(self)
    }
}

impl<F, Done> Resolver for Closure<F>
where
    F: Fn(EntityKey, Secret, Rows) -> Done + Send + Sync + 'static,
    Done: Future<Output: Outcome> + Send + 'static,
{
    fn secret_matters(&self) -> bool {
        self.secret_matters
    }

    fn fetch<'a>(&'a self, key: &'a EntityKey, secret: &'a Secret, out: Rows) -> Answer<'a> {
        let done = (self.fetch)(key.clone(), secret.clone(), out);
        Box::pin(async move { done.await.into_result() })
    }
}
