//! Points in time as the wire and the log write them: UTC, milliseconds.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, from year 0 to the end of year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// A text or number that is no point in time Tidings can keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time between years 0000 and 9999: {0:?}")]
pub struct TimestampError(String);

impl Timestamp {
    const MIN_MS: i64 = -62_167_219_200_000;
    const MAX_MS: i64 = 253_402_300_799_999;

    /// From milliseconds since the epoch; `None` outside years 0000 to 9999.
    pub fn from_millis(ms: i64) -> Option<Self> {
        (Self::MIN_MS..=Self::MAX_MS).contains(&ms).then_some(Self(ms))
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// RFC 3339 with any offset; finer parts than a millisecond are cut.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let refuse = || TimestampError(text.chars().take(40).collect());
        let at: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        Self::from_millis(at.as_millisecond()).ok_or_else(refuse)
    }

    /// This point moved by `ms`, kept within the range.
    pub fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms).clamp(Self::MIN_MS, Self::MAX_MS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(86_400_000);
        let ms = self.0.rem_euclid(86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// Proleptic Gregorian date of a day number counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_parses_back_and_agrees_with_jiff(ms in Timestamp::MIN_MS..=Timestamp::MAX_MS) {
            let at = Timestamp::from_millis(ms).unwrap();
            prop_assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
            let oracle: jiff::Timestamp = at.to_string().parse().unwrap();
            prop_assert_eq!(oracle.as_millisecond(), ms);
        }
    }

    #[test]
    fn years_out_of_range_are_refused() {
        for bad in ["10000-01-01T00:00:00Z", "yesterday", "", "2026-13-01T00:00:00Z", "2026-01-01"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }
}
