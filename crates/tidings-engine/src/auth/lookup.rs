//! Tokens that an application keeps in a table of its own.
//!
//! Owns: the contract between doors that are shown such tokens and the database that knows them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

/// What a look-up answers with: a boxed future, so that doors hold any database behind one pointer.
pub type Found<'a> = Pin<Box<dyn Future<Output = Result<HashMap<String, String>, LookupError>> + Send + 'a>>;

/// The database could not be asked. The text is for whoever runs the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tokens cannot be looked up: {0}")]
pub struct LookupError(pub String);

/// Finds the users of tokens.
pub trait TokenLookup: Send + Sync + 'static {
    /// How many tokens one call may ask for.
    fn tokens_max(&self) -> usize;

    /// The id of the user of each token, for those tokens that exactly one row holds as they are, letter by letter.
    ///
    /// After `Ok`: whatever is missing is nobody's. After `Err`: nothing is known about any of them.
    /// Cancel safe; it ends by itself within a few seconds.
    fn find<'a>(&'a self, tokens: &'a [&'a str]) -> Found<'a>;
}
