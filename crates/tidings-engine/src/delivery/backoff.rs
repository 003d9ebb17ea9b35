//! When a failed delivery is tried again.
//!
//! Owns: the wait. Never: reads a clock or draws randomness.

use super::destination::Policy;
use tidings_model::Timestamp;

/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX_MS: u64 = 86_400_000;

/// The wait after `tries` failures: the base doubled with each, up to the most, and up to a quarter more by
/// `jitter` (from 0 to 1), so that receivers that fell together are not met together. What the receiver itself
/// asked for goes before.
pub fn wait_ms(policy: &Policy, tries: u32, jitter: f64, retry_after_ms: Option<u64>) -> u64 {
    if let Some(asked) = retry_after_ms {
        return asked.clamp(policy.retry_base_ms, RETRY_AFTER_MAX_MS.max(policy.retry_base_ms));
    }
    let doublings = tries.saturating_sub(1).min(40);
    let wait = policy.retry_base_ms.saturating_mul(1 << doublings).min(policy.retry_max_ms);
    wait + (wait as f64 / 4.0 * jitter.clamp(0.0, 1.0)) as u64
}

/// What `Retry-After` says: seconds, or a date in one of HTTP's three forms.
pub fn retry_after_ms(text: &str, now: Timestamp) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.parse::<u64>().map_or(u64::MAX, |seconds| seconds.saturating_mul(1000)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    Some(u64::try_from(at).ok()?.saturating_sub(u64::try_from(now.as_millis()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{OnDead, Order};

    fn policy() -> Policy {
        Policy {
            order: Order::Topic,
            on_dead: OnDead::GoOn,
            retry_base_ms: 1000,
            retry_max_ms: 3_600_000,
            max_attempts: 20,
            timeout_ms: 1,
            parallel: 1,
            allow_private: false,
        }
    }

    #[test]
    fn waits_double_up_to_an_hour_and_last_most_of_ten_hours() {
        let waits: Vec<u64> = (1..20).map(|tries| wait_ms(&policy(), tries, 0.0, None)).collect();
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert!(waits.is_sorted() && waits[18] == 3_600_000);
        let hours =
            (1..20).map(|tries| wait_ms(&policy(), tries, 1.0, None)).sum::<u64>() as f64 / 3_600_000.0;
        assert!((9.0..11.0).contains(&hours), "{hours}");
        assert_eq!(wait_ms(&policy(), u32::MAX, 0.0, None), 3_600_000);
    }

    #[test]
    fn what_the_receiver_asks_for_goes_before_within_a_day() {
        let now = Timestamp::from_millis(784_111_770_000).unwrap();
        assert_eq!(retry_after_ms("120", now), Some(120_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(7_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(0));
        assert_eq!(retry_after_ms("soon", now), None);
        assert_eq!(wait_ms(&policy(), 9, 1.0, Some(120_000)), 120_000);
        assert_eq!(wait_ms(&policy(), 9, 1.0, Some(0)), 1000);
        assert_eq!(wait_ms(&policy(), 1, 0.0, retry_after_ms("99999999999999999999", now)), 86_400_000);
    }
}
