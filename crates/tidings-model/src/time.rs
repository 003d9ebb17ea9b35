//! Points in time as the wire and the log write them: UTC, milliseconds.

use jiff::civil;
use jiff::fmt::temporal::Pieces;
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
        // In pieces: as a whole, the last day of the range would be out of the parser's own.
        let pieces = Pieces::parse(text).map_err(|_| refuse())?;
        let (time, offset) = pieces.time().zip(pieces.to_numeric_offset()).ok_or_else(refuse)?;
        let since = pieces.date().to_datetime(time).duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
        let ms = since.as_millis() - i128::from(offset.seconds()) * 1000;
        i64::try_from(ms).ok().and_then(Self::from_millis).ok_or_else(refuse)
    }

    /// As it is displayed: RFC 3339 in UTC with milliseconds. By hand: every receipt and every event shows one.
    pub fn to_ascii(self) -> [u8; 24] {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = date(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |end: usize, digits: usize, mut number: i64| {
            for place in text[end - digits..end].iter_mut().rev() {
                *place = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(4, 4, year);
        put(7, 2, month);
        put(10, 2, day);
        put(13, 2, ms / 3_600_000);
        put(16, 2, ms / 60_000 % 60);
        put(19, 2, ms / 1000 % 60);
        put(23, 3, ms % 1000);
        text
    }

    /// This point moved by `ms`, kept within the range.
    pub fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms).clamp(Self::MIN_MS, Self::MAX_MS))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.to_ascii()).expect("ASCII"))
    }
}

/// Proleptic Gregorian date of a day number counted from 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
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
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time as text, such as \"2030-01-31T12:00:00Z\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                Timestamp::parse(text).map_err(E::custom)
            }
        }
        d.deserialize_str(Text)
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
            if let Ok(oracle) = jiff::Timestamp::from_millisecond(ms) {
                prop_assert_eq!(at.to_string().parse::<jiff::Timestamp>().unwrap(), oracle);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_and_offsets_are_understood() {
        for (text, ms) in [
            ("9999-12-31T23:59:59.999Z", Timestamp::MAX_MS),
            ("0000-01-01T00:00:00Z", Timestamp::MIN_MS),
            ("1970-01-01T02:30:00.0019+02:30", 1),
            ("1969-12-31t23:59:59.999-00:00", -1),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().as_millis(), ms, "{text}");
        }
        assert!(Timestamp::parse("9999-12-31T23:59:59-01:00").is_err());
    }

    #[test]
    fn a_number_is_refused_with_what_is_wanted_instead() {
        let complaint = serde_json::from_str::<Timestamp>("-5").unwrap_err().to_string();
        assert!(complaint.contains("`-5`, expected an RFC 3339 time as text"), "{complaint}");
        let complaint =
            serde_json::from_str::<Timestamp>("\"-000001-01-01T00:00:00Z\"").unwrap_err().to_string();
        assert!(complaint.contains("between years 0000 and 9999"), "{complaint}");
    }

    #[test]
    fn years_out_of_range_are_refused() {
        for bad in ["10000-01-01T00:00:00Z", "yesterday", "", "2026-13-01T00:00:00Z", "2026-01-01"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }
}
