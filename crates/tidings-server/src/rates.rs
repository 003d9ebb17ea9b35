//! How often one caller may make calls of a kind.
//!
//! Owns: the settings under `[rates]`, and a count for each caller in bounded memory. EventRelay's calls have
//! EventRelay's figures, others none unless they are set. Never: waits; a call too many is refused.

use crate::refusal::Refusal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use tidings_engine::auth::Attempts;
use tidings_model::{Code, Principal, Timestamp};

/// Settings under `[rates]`: for each caller, a number of calls in some seconds, such as `"10000/1s"`; `"off"` does
/// not bound.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Publishing over `/v1`, WebSockets and `tidings.v1`.
    pub publish: Rate,
    /// Everything else there.
    pub other: Rate,
    /// EventRelay's interface: publishing what is stored, and what is not.
    pub relay_publish: Rate,
    pub relay_publish_passing: Rate,
    pub relay_create_topic: Rate,
    pub relay_other: Rate,
}

/// A number of calls in a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// 0 does not bound.
    pub calls: u32,
    pub seconds: u32,
}

impl Rate {
    pub const OFF: Self = Self { calls: 0, seconds: 0 };

    fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Self::OFF);
        }
        let (calls, seconds) = text.split_once('/')?;
        let rate = Self { calls: calls.parse().ok()?, seconds: seconds.strip_suffix('s')?.parse().ok()? };
        // In microseconds, one call must take at least one.
        let is_sound = rate.calls > 0 && (1..=86_400).contains(&rate.seconds);
        (is_sound && rate.calls / rate.seconds <= 1_000_000).then_some(rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::OFF { f.write_str("off") } else { write!(f, "{}/{}s", self.calls, self.seconds) }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let refuse = || serde::de::Error::custom("a rate is `off`, or calls and seconds such as `10000/1s`");
        Self::parse(&text).ok_or_else(refuse)
    }
}

impl Default for Rates {
    fn default() -> Self {
        let each_second = |calls| Rate { calls, seconds: 1 };
        Self {
            publish: Rate::OFF,
            other: Rate::OFF,
            relay_publish: each_second(10_000),
            relay_publish_passing: each_second(20_000),
            relay_create_topic: each_second(5),
            relay_other: each_second(10_000),
        }
    }
}

/// Calls that count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Publish,
    Other,
    RelayPublish,
    RelayPublishPassing,
    RelayCreateTopic,
    RelayOther,
}

/// The counts of one server.
pub struct Meter(Vec<(Rate, Attempts)>);

impl Meter {
    pub fn new(rates: &Rates) -> Self {
        let Rates { publish, other, relay_publish, relay_publish_passing, relay_create_topic, relay_other } =
            *rates;
        // In the order of `Call`.
        let all = [publish, other, relay_publish, relay_publish_passing, relay_create_topic, relay_other];
        Self(all.into_iter().map(|rate| (rate, Attempts::each(rate.calls, rate.seconds))).collect())
    }

    /// Whether there is anything to check.
    pub fn is_bounded(&self, call: Call) -> bool {
        self.0[call as usize].0 != Rate::OFF
    }

    /// Counts a call of `who`, or refuses it. Callers without an id count by their address; whoever knows none
    /// counts them as one. `name` is what the refusal calls it.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which there may be another.
    pub fn check(
        &self,
        who: &Principal,
        peer: Option<IpAddr>,
        call: Call,
        name: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (rate, attempts) = &self.0[call as usize];
        if *rate == Rate::OFF {
            return Ok(());
        }
        let taken = match &who.id {
            Some(id) => attempts.take(&(true, &**id), now),
            None => attempts.take(&(false, peer.map(|peer| peer.to_canonical())), now),
        };
        taken.map_err(|seconds| {
            let Rate { calls, seconds: window } = rate;
            let detail = format!("Rate limit exceeded for {name} at {calls} requests per {window} second(s)");
            Refusal { retry_after: Some(seconds), ..Refusal::new(Code::RateLimited, detail) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms).unwrap()
    }

    #[test]
    fn each_caller_has_a_count_of_its_own_that_recovers() {
        let meter = Meter::new(&Rates::default());
        let named = |id: &str| Principal { id: Some(id.into()), ..Principal::nobody() };
        let (ann, bob) = (named("ann"), named("bob"));
        let check =
            |who: &Principal, ms| meter.check(who, None, Call::RelayCreateTopic, "create_topic", at(ms));
        assert!((0..5).all(|_| check(&ann, 0).is_ok()));
        let refusal = check(&ann, 0).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::RateLimited, Some(1)));
        assert_eq!(refusal.detail, "Rate limit exceeded for create_topic at 5 requests per 1 second(s)");
        assert!(check(&bob, 0).is_ok() && check(&Principal::nobody(), 0).is_ok());
        assert!((0..5).all(|_| check(&ann, 1000).is_ok()));
        let free = |_| meter.check(&ann, None, Call::Publish, "publish", at(0)).is_ok();
        assert!((0..100_000).all(free), "what is not set does not bound");
    }

    #[test]
    fn callers_without_an_id_count_by_their_address() {
        let rates = Rates { other: Rate { calls: 1, seconds: 60 }, ..Rates::default() };
        let (meter, nobody) = (Meter::new(&rates), Principal::nobody());
        let check = |peer: &str| meter.check(&nobody, peer.parse().ok(), Call::Other, "x", at(0)).is_ok();
        assert!(
            check("192.0.2.1") && !check("192.0.2.1") && !check("::ffff:192.0.2.1") && check("192.0.2.2")
        );
    }

    #[test]
    fn a_rate_is_read_back_and_nonsense_refused() {
        for text in ["off", "5/1s", "100000/60s"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "5", "5/s", "5/1m", "0/1s", "5/0s", "-1/1s", "9000000/1s", "5/100000s"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }
}
