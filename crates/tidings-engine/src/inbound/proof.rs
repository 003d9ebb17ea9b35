//! Whether a sender is who it says: a key and a password, or a signature over the bytes as they came.
//!
//! Owns: comparing in constant time, and how old a signed message may be. Never: says which part was wrong.

use super::record::{Kind, Record, digest_of};
use super::refusal::InboundError;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidings_model::Timestamp;

/// How far a signed message's time may lie from ours.
const TOLERANCE_MS: i64 = 5 * 60 * 1000;
/// Signatures of one message that are looked at; senders send several while they change secrets.
const SIGNATURES_MAX: usize = 16;
/// Bytes of a message's id.
const ID_BYTES_MAX: usize = 255;

/// The part of a request's head that speaks for its sender.
#[derive(Default)]
pub struct Shown<'a> {
    /// Key and password.
    pub basic: Option<(&'a str, &'a str)>,
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
}

impl Record {
    /// What can be said before the body is there.
    pub fn check_head(&self, shown: &Shown<'_>, now: Timestamp) -> Result<(), InboundError> {
        let is_good = shown.id.is_none_or(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
            && match self.kind {
                Kind::Webhook => self.is_password(shown),
                Kind::StandardWebhook => {
                    let at = shown.timestamp.and_then(|text| text.parse::<i64>().ok());
                    let apart_ms = at.and_then(|s| Some(s.checked_mul(1000)?.abs_diff(now.as_millis())));
                    shown.id.is_some()
                        && shown.signature.is_some()
                        && apart_ms.is_some_and(|apart| apart <= TOLERANCE_MS as u64)
                }
            };
        if is_good { Ok(()) } else { Err(InboundError::Unauthorized) }
    }

    /// The rest, over the body's bytes as they came.
    pub fn check_body(&self, shown: &Shown<'_>, body: &[u8]) -> Result<(), InboundError> {
        let is_good = match self.kind {
            Kind::Webhook => true,
            Kind::StandardWebhook => self.is_signed(shown, body).unwrap_or(false),
        };
        if is_good { Ok(()) } else { Err(InboundError::Unauthorized) }
    }

    fn is_password(&self, shown: &Shown<'_>) -> bool {
        let (Some((key, password)), Some(digest)) = (shown.basic, self.digest()) else { return false };
        // Both are compared, whatever the first says.
        let is_key = is_same(digest_of(key).as_bytes(), digest_of(&self.key).as_bytes());
        is_same(digest_of(password).as_bytes(), digest.as_bytes()) && is_key
    }

    fn is_signed(&self, shown: &Shown<'_>, body: &[u8]) -> Option<bool> {
        let (id, timestamp) = (shown.id?, shown.timestamp?);
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.signing_key()?));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        let tag = context.sign();
        let all = shown.signature?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
        let mut decoded = all.take(SIGNATURES_MAX).filter_map(|base64| STANDARD.decode(base64).ok());
        Some(decoded.any(|own| is_same(&own, tag.as_ref())))
    }
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::record::NewInbound;
    use super::*;
    use tidings_model::{Topic, Uuid};

    fn record(kind: Kind, signing: Option<&str>) -> (Record, Option<String>) {
        let new = NewInbound {
            name: "shop".into(),
            kind,
            topic: Topic::parse("t").unwrap(),
            event_name: None,
            key: None,
            secret: None,
            signing_secret: signing.map(str::to_owned),
        };
        let (record, secrets) = Record::new(new, Uuid::from_u128(1), Timestamp::default()).unwrap();
        (record, secrets.secret)
    }

    fn shown<'a>(id: &'a str, timestamp: &'a str, signature: &'a str) -> Shown<'a> {
        Shown { id: Some(id), timestamp: Some(timestamp), signature: Some(signature), basic: None }
    }

    #[test]
    fn the_published_example_is_signed_and_nothing_else_is() {
        let (record, _) = record(Kind::StandardWebhook, Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let (id, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        let now = |ms: i64| Timestamp::from_millis(1_614_265_330_000 + ms).unwrap();
        assert!(record.check_head(&shown(id, at, good), now(0)).is_ok());
        for away in [TOLERANCE_MS + 1, -TOLERANCE_MS - 1] {
            assert!(record.check_head(&shown(id, at, good), now(away)).is_err());
        }
        assert!(record.check_head(&shown(id, "9223372036854775807", good), now(0)).is_err());
        assert!(record.check_body(&shown(id, at, good), body).is_ok());
        assert!(record.check_body(&shown(id, at, &format!("v1a,x v1,AAAA {good}")), body).is_ok());
        assert!(record.check_body(&shown("msg_other", at, good), body).is_err());
        assert!(record.check_body(&shown(id, "1614265331", good), body).is_err());
        assert!(record.check_body(&shown(id, at, good), br#"{"test":2432232314}"#).is_err());
        assert!(record.check_body(&shown(id, at, ""), body).is_err());
    }

    #[test]
    fn a_password_is_stored_as_a_digest_and_both_parts_count() {
        let (record, secret) = record(Kind::Webhook, None);
        let secret = secret.unwrap();
        assert!(!String::from_utf8_lossy(&record.bytes()).contains(&secret));
        let (key, now) = (record.key.clone(), Timestamp::default());
        let shown = |basic| Shown { basic, ..Shown::default() };
        assert!(record.check_head(&shown(Some((&*key, &*secret))), now).is_ok());
        for bad in [None, Some((&*key, "x")), Some(("x", &*secret)), Some((&*key, ""))] {
            assert_eq!(record.check_head(&shown(bad), now), Err(InboundError::Unauthorized));
        }
    }
}
