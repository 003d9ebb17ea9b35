//! From a token or an API key to a principal.
//!
//! Owns: the keys, and a memory of tokens already verified so that a busy client costs one signature. A token
//! of one of our users counts as long as the user lets it, and carries the user's grants; an API key, and what
//! is made from it, counts until the key is revoked. Never: reads a header or a cookie; that is the door's.

use super::api_keys::{self, ApiKeys};
use super::keys::{Keys, Secret, Trust};
use super::user::Record;
use super::users::Users;
use crate::Error;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tidings_model::{Claims, ClaimsError, Code, Destinations, Lease, Principal, Session, Timestamp, Uuid};

/// Verified tokens remembered; the memory is emptied when it is full.
const REMEMBERED_MAX: usize = 10_000;
/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Verifies tokens.
pub struct Gate {
    keys: Keys,
    users: Users,
    api_keys: ApiKeys,
    remembered: Mutex<HashMap<Box<str>, Arc<Principal>>>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    #[error("the token is neither a JWT that a key of this server has signed nor an API key of its own")]
    Signature,
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error("the token no longer counts: log in again")]
    Revoked,
    #[error("the API key no longer counts: an admin has revoked it")]
    KeyRevoked,
    /// Whether it counts could not be found out.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl Refused {
    pub fn code(&self) -> Code {
        match self {
            Self::Claims(ClaimsError::Expired) => Code::TokenExpired,
            Self::Revoked | Self::KeyRevoked => Code::TokenRevoked,
            Self::Signature | Self::Claims(_) => Code::TokenInvalid,
            Self::Engine(error) => error.code(),
        }
    }
}

impl Gate {
    pub fn new(keys: Keys, users: Users) -> Self {
        let api_keys = ApiKeys::new(users.tidings().clone(), keys.signer());
        Self { keys, users, api_keys, remembered: Mutex::default() }
    }

    pub fn api_keys(&self) -> &ApiKeys {
        &self.api_keys
    }

    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The principal of `token`, if a key of ours signed it with that key's own algorithm, it is valid now,
    /// and its user, if it is one of ours, has not ended it; or if it is `key:secret` of an API key in base64.
    pub async fn verify(&self, token: &str) -> Result<Arc<Principal>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Signature);
        }
        let now = self.users.now();
        let known = self.remembered.lock().expect("no panic while holding the lock").get(token).cloned();
        if let Some(who) = known.filter(|who| who.is_current()) {
            return in_time(&who, now).map(|()| who);
        }
        // Boxed: it happens once for a token, and would be part of every request.
        Box::pin(self.verify_new(token, now)).await
    }

    async fn verify_new(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, Refused> {
        let who = match api_keys::open(token) {
            Some((id, secret)) => {
                let holder = self.api_keys.verified(id, &secret).await?.ok_or(Refused::Signature)?;
                holder.principal(None).ok_or(Refused::KeyRevoked)?
            }
            None => {
                let (claims, trust) = self.open(token)?;
                self.principal(&claims, trust, now).await?
            }
        };
        let who = Arc::new(who);
        let mut remembered = self.remembered.lock().expect("no panic while holding the lock");
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(token.into(), Arc::clone(&who));
        Ok(who)
    }

    /// The same caller with the rights of now. Costs nothing while nothing about the user has changed; whoever
    /// acts for a caller over a longer time asks again when [`Principal::is_current`] no longer holds.
    ///
    /// # Errors
    /// When the token no longer counts.
    pub async fn renew(&self, who: &Arc<Principal>) -> Result<Arc<Principal>, Refused> {
        in_time(who, self.users.now())?;
        if let Some(hold) = who.api_key.as_ref().filter(|hold| hold.lease.is_over()) {
            let renewed = self.key_principal(hold.id, who.expires_at).await?;
            return Ok(Arc::new(renewed));
        }
        let Some(old) = who.session.as_ref().filter(|session| session.lease.is_over()) else {
            return Ok(Arc::clone(who));
        };
        let (record, lease) = self.users.leased(old.user).await?.ok_or(Refused::Revoked)?;
        let session = Session { lease, ..old.clone() };
        bound(Principal::clone(who), &record, session).map(Arc::new)
    }

    fn open(&self, token: &str) -> Result<(Claims, Trust), Refused> {
        let header = decode_header(token).map_err(|_| Refused::Signature)?;
        for key in &self.keys.0 {
            let is_candidate = key.algorithm == header.alg
                && (key.id.is_none() || header.kid.is_none() || key.id == header.kid);
            if !is_candidate {
                continue;
            }
            // The time is ours to judge, by our own clock.
            let mut rules = Validation::new(key.algorithm);
            rules.validate_exp = false;
            rules.validate_aud = false;
            rules.required_spec_claims.clear();
            let payload = match decode::<serde_json::Value>(token, &key.decoding, &rules) {
                Ok(data) => data.claims,
                Err(_) => continue,
            };
            return Ok((Claims::parse(payload.to_string().as_bytes())?, key.trust));
        }
        Err(Refused::Signature)
    }

    /// The rights of an API key that was verified before.
    async fn key_principal(&self, id: Uuid, until: Option<Timestamp>) -> Result<Principal, Refused> {
        let holder = self.api_keys.held(id).await?;
        holder.and_then(|holder| holder.principal(until)).ok_or(Refused::KeyRevoked)
    }

    async fn principal(&self, claims: &Claims, trust: Trust, now: Timestamp) -> Result<Principal, Refused> {
        let mut who = claims.principal(now, trust == Trust::Own)?;
        if trust == Trust::Weak {
            who.destinations = Destinations::default();
        }
        if let Some(id) = claims.api_key_id.as_ref().filter(|_| trust == Trust::Own) {
            // Made by us from an API key: the key's rights of now, whatever else the token says.
            let id = id.as_str().and_then(|id| id.parse().ok()).ok_or(Refused::KeyRevoked)?;
            return self.key_principal(id, who.expires_at).await;
        }
        let found = match user_of(claims, trust) {
            Some(id) => self.users.leased(id).await?,
            None => None,
        };
        let is_weak = trust == Trust::Weak;
        match found {
            Some((record, lease)) => {
                let names_topics = claims.names_topics() && !is_weak;
                let session = session(claims, &record, lease, names_topics);
                bound(who, &record, session)
            }
            // Whoever guesses a weak secret could sign anything but a user who is there.
            None if is_weak => Err(Refused::Signature),
            None if trust != Trust::Foreign && claims.user_generation.is_some() => Err(Refused::Revoked),
            None => Ok(who),
        }
    }
}

/// The user that a token may be of: only secrets shared with us speak for users.
fn user_of(claims: &Claims, trust: Trust) -> Option<Uuid> {
    let id = claims.sub.as_deref().filter(|_| trust != Trust::Foreign)?;
    // Only in the form that we write.
    id.parse().ok().filter(|uuid: &Uuid| uuid.to_string() == id)
}

/// A token that others have signed with a secret of ours knows no generation: its `iat` stands for it, and
/// without that it counts until its user ends tokens for the first time.
fn session(claims: &Claims, record: &Record, lease: Arc<Lease>, names_topics: bool) -> Session {
    let issued = claims.iat.map(|seconds| (seconds * 1000.0) as u64 + 999);
    let given = claims.user_generation.as_ref().map(|value| value.as_u64().unwrap_or(0));
    let generation = given.or(issued).unwrap_or(record.created_at.max(0) as u64);
    Session { user: record.id, generation, names_topics, lease }
}

/// `who` with the rights that `record` gives.
fn bound(mut who: Principal, record: &Record, session: Session) -> Result<Principal, Refused> {
    if record.revoked || session.generation < record.generation {
        return Err(Refused::Revoked);
    }
    if !session.names_topics {
        (who.publish, who.subscribe) = (record.publish(), record.subscribe());
    }
    who.session = Some(session);
    Ok(who)
}

fn in_time(who: &Principal, now: Timestamp) -> Result<(), Refused> {
    match who.expires_at {
        Some(end) if end <= now => Err(ClaimsError::Expired.into()),
        _ => Ok(()),
    }
}

impl Secret {
    /// Signs claims with this secret (HS256).
    pub fn sign(&self, claims: &impl serde::Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        encode(&Header::new(Algorithm::HS256), claims, &self.encoding())
    }
}
