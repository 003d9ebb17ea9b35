//! Whose token a client shows.
//!
//! Owns: the kinds of tokens there are here: this server's own, those of the application's table, and `TEST`.
//! Never: tells a client which of them it was not.

use crate::Door;
use std::sync::Arc;
use tidings_engine::auth::Refused;
use tidings_model::{Grant, Grants, Principal, Topic};

/// The user whom the token `TEST` stands for.
pub const TEST_USER: &str = "-1";
/// A longer token of the application's is nobody's.
const TOKEN_BYTES_MAX: usize = 4096;

/// A client whose token was taken.
pub struct Known {
    pub who: Arc<Principal>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A token that this server verifies.
    Own,
    /// One of the application's, to be looked up again.
    LookedUp,
    Test,
}

/// It could not be found out.
#[derive(Debug)]
pub struct Unsure;

/// Who shows `token`; `None` for nobody.
pub async fn verify(door: &Door, token: &str) -> Result<Option<Known>, Unsure> {
    if token == "TEST" {
        let test = || Known { who: reader(door, TEST_USER), kind: Kind::Test };
        return Ok(door.config.esink.test_token.then(test));
    }
    match door.gate.verify(token).await {
        Ok(who) => return Ok(Some(Known { who, kind: Kind::Own })),
        Err(Refused::Engine(error)) => {
            tracing::warn!(%error, "a client is sent away, to come again");
            return Err(Unsure);
        }
        Err(refused) => tracing::debug!(code = %refused.code(), "not a token of this server's"),
    }
    let lookup = door.token_lookup().filter(|_| token.len() <= TOKEN_BYTES_MAX && !token.is_empty());
    let Some(lookup) = lookup else { return Ok(None) };
    match lookup.find(&[token]).await {
        Ok(mut found) => {
            door.sessions.looked_up(true);
            Ok(found.remove(token).map(|id| Known { who: reader(door, &id), kind: Kind::LookedUp }))
        }
        Err(error) => {
            if door.sessions.looked_up(false) {
                tracing::warn!(%error, "clients are sent away, to come again");
            }
            Err(Unsure)
        }
    }
}

/// A user of the application's: may read the tables, as far as their rows are for that one, and nothing else.
fn reader(door: &Door, id: &str) -> Arc<Principal> {
    let tables = door.tables().into_iter().map(|name| Grant::Topic(Topic { name, key: None }));
    let subscribe: Grants = tables.collect();
    Arc::new(Principal { id: Some(id.into()), subscribe, ..Principal::nobody() })
}
