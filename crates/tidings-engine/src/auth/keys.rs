//! The keys that tokens may be signed with, each pinned to its algorithm.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// A secret that is never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn encoding(&self) -> EncodingKey {
        EncodingKey::from_secret(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// A file that holds no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("no RSA, P-256 or Ed25519 public key in PEM form")]
    Pem,
    #[error("not a JWK set: {0}")]
    JwkSet(String),
    #[error("the JWK set has a key of a kind that is not supported: {0}")]
    Kind(String),
    #[error("the JWK set has no key")]
    Empty,
}

/// One key, good for exactly one algorithm: what a token's header says cannot change that.
#[derive(Clone)]
pub struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
    pub(crate) id: Option<String>,
    pub(crate) trust: Trust,
}

/// How far a key's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The data directory's own key: `admin` counts only under it.
    Own,
    /// A secret shared with us; its tokens may be those of our users.
    Shared,
    /// A secret that can be guessed: good for our own users and nothing beyond their stored grants.
    Weak,
    /// Somebody else's key; whoever it names is none of our users.
    Foreign,
}

/// All keys of this server; any one may verify a token.
#[derive(Clone, Default)]
pub struct Keys(pub(crate) Vec<Key>, Option<Secret>);

impl Keys {
    /// Adds the data directory's own secret (HS256).
    pub fn own(mut self, secret: &Secret) -> Self {
        self.0.push(Self::hmac(secret, Trust::Own));
        self.1 = Some(secret.clone());
        self
    }

    /// Adds another shared secret (HS256).
    pub fn secret(mut self, secret: &Secret) -> Self {
        self.0.push(Self::hmac(secret, Trust::Shared));
        self
    }

    /// Adds a shared secret (HS256) that is too short to be trusted with more than our own users.
    pub fn weak_secret(mut self, secret: &Secret) -> Self {
        self.0.push(Self::hmac(secret, Trust::Weak));
        self
    }

    /// The data directory's own secret, which signs.
    pub(crate) fn signer(&self) -> Option<Secret> {
        self.1.clone()
    }

    fn hmac(secret: &Secret, trust: Trust) -> Key {
        let decoding = DecodingKey::from_secret(&secret.0);
        Key { algorithm: Algorithm::HS256, decoding, id: None, trust }
    }

    /// Adds a public key in PEM form: RSA verifies RS256, P-256 ES256, Ed25519 EdDSA.
    pub fn pem(mut self, pem: &[u8]) -> Result<Self, KeyError> {
        let found = [
            (Algorithm::RS256, DecodingKey::from_rsa_pem(pem)),
            (Algorithm::ES256, DecodingKey::from_ec_pem(pem)),
            (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem)),
        ];
        let (algorithm, decoding) =
            found.into_iter().find_map(|(a, key)| key.ok().map(|k| (a, k))).ok_or(KeyError::Pem)?;
        self.0.push(Key { algorithm, decoding, id: None, trust: Trust::Foreign });
        Ok(self)
    }

    /// Adds the public keys of a JWK set (RFC 7517): RSA, EC P-256, OKP Ed25519.
    pub fn jwks(mut self, json: &[u8]) -> Result<Self, KeyError> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|e| KeyError::JwkSet(e.to_string()))?;
        if set.keys.is_empty() {
            return Err(KeyError::Empty);
        }
        for jwk in &set.keys {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Algorithm::ES256,
                AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
                    Algorithm::EdDSA
                }
                other => return Err(KeyError::Kind(format!("{other:?}").chars().take(30).collect())),
            };
            let decoding = DecodingKey::from_jwk(jwk).map_err(|e| KeyError::JwkSet(e.to_string()))?;
            self.0.push(Key { algorithm, decoding, id: jwk.common.key_id.clone(), trust: Trust::Foreign });
        }
        Ok(self)
    }
}
