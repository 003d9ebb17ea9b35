//! What a webhook is signed with, as Standard Webhooks has it.
//!
//! Owns: the forms of a secret and the signatures made with it. Never: prints a secret, except to who asks for it
//! by [`SigningSecret::expose`].

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt;

const SHARED: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
/// Bytes of a shared key behind `whsec_`.
const SHARED_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Characters of a text without any prefix, which is a key by its bytes.
const PLAIN_CHARS: std::ops::RangeInclusive<usize> = 32..=128;

/// `whsec_` and a shared key in base64, `whsk_` and an Ed25519 key in base64 (the seed, or seed and public key), or
/// a text of 32 to 128 characters without a prefix, whose bytes are the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SigningSecret(Box<str>);

enum Key {
    Shared(Vec<u8>),
    Private(Box<signature::Ed25519KeyPair>),
}

impl SigningSecret {
    /// How a secret has to look, for who has sent another.
    pub const FORM: &str = "a secret is `whsec_` and 24 to 64 bytes in base64, `whsk_` and an Ed25519 key in base64, \
                            or 32 to 128 plain characters";

    /// A new shared one of 32 random bytes.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        Self(format!("{SHARED}{}", STANDARD.encode(bytes)).into())
    }

    /// Whether it can sign.
    pub fn is_valid(&self) -> bool {
        self.key().is_some()
    }

    fn key(&self) -> Option<Key> {
        if let Some(text) = self.0.strip_prefix(SHARED) {
            return STANDARD.decode(text).ok().filter(|k| SHARED_BYTES.contains(&k.len())).map(Key::Shared);
        }
        if let Some(text) = self.0.strip_prefix(PRIVATE) {
            let bytes = STANDARD.decode(text).ok()?;
            let pair = match bytes.len() {
                32 => signature::Ed25519KeyPair::from_seed_unchecked(&bytes),
                64 => signature::Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
                _ => return None,
            };
            return pair.ok().map(|pair| Key::Private(Box::new(pair)));
        }
        let is_plain = PLAIN_CHARS.contains(&self.0.len()) && self.0.bytes().all(|b| b.is_ascii_graphic());
        (is_plain && !self.0.starts_with(PUBLIC)).then(|| Key::Shared(self.0.as_bytes().to_vec()))
    }

    /// The text itself, for the receiver's keeper.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the receiver of an Ed25519 signature verifies it with.
    pub fn public(&self) -> Option<String> {
        match self.key()? {
            Key::Shared(_) => None,
            Key::Private(pair) => {
                use signature::KeyPair as _;
                Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key().as_ref())))
            }
        }
    }

    /// The signature of one message: `v1,` or `v1a,` and base64.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let head = format!("{id}.{timestamp}.");
        Some(match self.key()? {
            Key::Shared(key) => {
                let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
                context.update(head.as_bytes());
                context.update(body);
                format!("v1,{}", STANDARD.encode(context.sign()))
            }
            Key::Private(pair) => {
                format!("v1a,{}", STANDARD.encode(pair.sign(&[head.as_bytes(), body].concat())))
            }
        })
    }
}

/// The header that carries a signature of every secret, so that receivers may change over one by one.
pub fn signatures(secrets: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let all: Vec<String> = secrets.iter().filter_map(|s| s.sign(id, timestamp, body)).collect();
    all.join(" ")
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SigningSecret {
        SigningSecret(text.into())
    }

    #[test]
    fn the_signature_is_that_of_the_published_example() {
        let own = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let made =
            signatures(&[own], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs_and_ed25519_has_a_public_half() {
        let seed = STANDARD.encode([7; 32]);
        let pair = secret(&format!("whsk_{seed}"));
        let public = pair.public().unwrap();
        let made = signatures(&[SigningSecret::generate(), pair], "id", 5, b"{}");
        let (first, second) = made.split_once(' ').unwrap();
        assert!(first.starts_with("v1,") && second.starts_with("v1a,"));
        let key = STANDARD.decode(&public["whpk_".len()..]).unwrap();
        let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
        let signed = STANDARD.decode(&second["v1a,".len()..]).unwrap();
        key.verify(b"id.5.{}", &signed).unwrap();
        assert!(key.verify(b"id.6.{}", &signed).is_err());
    }

    #[test]
    fn what_cannot_sign_is_no_secret_and_none_is_printed() {
        for bad in [
            "",
            "short",
            "whsec_",
            "whsec_AAAA",
            "whsec_***",
            "whsk_AAAA",
            "whpk_0123456789012345678901234567",
        ] {
            assert!(!secret(bad).is_valid(), "{bad}");
        }
        assert!(secret("0123456789abcdefghijklmnopqrstuvwxyz-_AB").is_valid());
        assert!(
            SigningSecret::generate().is_valid() && SigningSecret::generate() != SigningSecret::generate()
        );
        assert_eq!(format!("{:?}", SigningSecret::generate()), "(secret)");
    }
}
