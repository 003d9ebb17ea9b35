//! From a token to a principal.
//!
//! Owns: the keys, and a memory of tokens already verified so that a busy client costs one signature.
//! Never: reads a header or a cookie; that is the door's.

use super::keys::{Keys, Secret};
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tidings_log::Clock;
use tidings_model::{Claims, ClaimsError, Code, Principal};

/// Verified tokens remembered; the memory is emptied when it is full.
const REMEMBERED_MAX: usize = 10_000;
/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// Verifies tokens.
pub struct Gate {
    keys: Keys,
    clock: Arc<dyn Clock>,
    remembered: Mutex<HashMap<Box<str>, Arc<Principal>>>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the token is not a JWT that a key of this server has signed")]
    Signature,
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

impl Refused {
    pub fn code(&self) -> Code {
        match self {
            Self::Claims(ClaimsError::Expired) => Code::TokenExpired,
            _ => Code::TokenInvalid,
        }
    }
}

impl Gate {
    pub fn new(keys: Keys, clock: Arc<dyn Clock>) -> Self {
        Self { keys, clock, remembered: Mutex::default() }
    }

    /// The principal of `token`, if a key of ours signed it with that key's own algorithm and it is valid now.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Signature);
        }
        let now = self.clock.now();
        let known = self.remembered.lock().expect("no panic while holding the lock").get(token).cloned();
        if let Some(who) = known {
            return match who.expires_at {
                Some(end) if end <= now => Err(ClaimsError::Expired.into()),
                _ => Ok(who),
            };
        }
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
            let claims = Claims::parse(payload.to_string().as_bytes())?;
            let who = Arc::new(claims.principal(now, key.is_own)?);
            let mut remembered = self.remembered.lock().expect("no panic while holding the lock");
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(token.into(), Arc::clone(&who));
            return Ok(who);
        }
        Err(Refused::Signature)
    }
}

impl Secret {
    /// Signs claims with this secret (HS256).
    pub fn sign(&self, claims: &impl serde::Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        encode(&Header::new(Algorithm::HS256), claims, &self.encoding())
    }
}
