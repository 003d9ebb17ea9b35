//! Dates and times as they are stored, without a calendar of our own: `0000-00-00` stays what it is.

use super::input::{Input, Malformed};
use std::io::Write as _;

/// Days of 400 years.
const CYCLE: i64 = 146_097;

pub fn date(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let packed = input.little(3)?;
    let _ = write!(out, "\"{:04}-{:02}-{:02}\"", packed >> 9, packed >> 5 & 15, packed & 31);
    Ok(())
}

pub fn year(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let n = u16::from(input.byte()?);
    let _ = write!(out, "{}", if n == 0 { 0 } else { 1900 + n });
    Ok(())
}

/// A date and a time in no zone.
pub fn datetime(input: &mut Input<'_>, digits: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let packed = input.big(5)? as i64 - 0x80_0000_0000;
    let micros = fraction(input, digits)?;
    // Only a value from outside the type is negative.
    let packed = u64::try_from(packed).map_err(|_| Malformed("a date and time"))?;
    let (day, time) = (packed >> 17, packed & 0x1_ffff);
    let (month, day) = (day >> 5, day & 31);
    let _ = write!(out, "\"{:04}-{:02}-{day:02}T", month / 13, month % 13);
    clock(time >> 12, time >> 6 & 63, time & 63, micros, digits, out);
    out.push(b'"');
    Ok(())
}

/// A moment, which is stored in UTC.
pub fn timestamp(input: &mut Input<'_>, digits: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let seconds = input.big(4)?;
    let micros = fraction(input, digits)?;
    unix(seconds, micros, digits, out);
    Ok(())
}

/// A span, or a time of day: up to 838 hours in either direction.
pub fn time(input: &mut Input<'_>, digits: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let bytes = usize::from(digits.div_ceil(2));
    let width = 8 * (3 + bytes as u32);
    let packed = input.big(3 + bytes)? as i64 - (1 << (width - 1));
    let packed_abs = packed.unsigned_abs();
    let (whole, rest) = (packed_abs >> (8 * bytes), packed_abs & ((1 << (8 * bytes)) - 1));
    let micros = rest * [1_000_000, 10_000, 100, 1][bytes.min(3)];
    out.push(b'"');
    if packed < 0 {
        out.push(b'-');
    }
    clock(whole >> 12 & 1023, whole >> 6 & 63, whole & 63, micros, digits, out);
    out.push(b'"');
    Ok(())
}

/// `YYYYMMDDhhmmss` as one number: columns of tables older than MySQL 5.6.
pub fn old_datetime(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let n = input.little(8)?;
    let (date, time) = (n / 1_000_000, n % 1_000_000);
    let _ = write!(out, "\"{:04}-{:02}-{:02}T", date / 10_000, date / 100 % 100, date % 100);
    clock(time / 10_000, time / 100 % 100, time % 100, 0, 0, out);
    out.push(b'"');
    Ok(())
}

pub fn old_timestamp(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let seconds = input.little(4)?;
    unix(seconds, 0, 0, out);
    Ok(())
}

pub fn old_time(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let packed = ((input.little(3)? << 40) as i64) >> 40;
    let n = packed.unsigned_abs();
    out.extend_from_slice(if packed < 0 { b"\"-" } else { b"\"" });
    clock(n / 10_000, n / 100 % 100, n % 100, 0, 0, out);
    out.push(b'"');
    Ok(())
}

/// Seconds since 1970 as RFC 3339; 0 is MySQL's `0000-00-00 00:00:00`.
pub fn unix(seconds: u64, micros: u64, digits: u8, out: &mut Vec<u8>) {
    let (days, time) = ((seconds / 86_400) as i64, seconds % 86_400);
    let (year, month, day) = if seconds == 0 && micros == 0 { (0, 0, 0) } else { civil(days) };
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T");
    clock(time / 3600, time / 60 % 60, time % 60, micros, digits, out);
    out.extend_from_slice(b"Z\"");
}

fn clock(hours: u64, minutes: u64, seconds: u64, micros: u64, digits: u8, out: &mut Vec<u8>) {
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}");
    if digits > 0 {
        let digits = usize::from(digits.min(6));
        let fraction = micros / 10_u64.pow(6 - digits as u32);
        let _ = write!(out, ".{fraction:0digits$}");
    }
}

fn fraction(input: &mut Input<'_>, digits: u8) -> Result<u64, Malformed> {
    match digits.div_ceil(2) {
        bytes @ 0..=3 => Ok(input.big(usize::from(bytes))? * [0, 10_000, 100, 1][usize::from(bytes)]),
        _ => Err(Malformed("a fraction of a second")),
    }
}

/// The date of a day counted from 1970-01-01, for days from then on.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from a 1 March, so that the day that is sometimes there is the last of a year.
    let days = days + 719_468;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + cycle * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(
        read: impl FnOnce(&mut Input<'_>, &mut Vec<u8>) -> Result<(), Malformed>,
        bytes: &[u8],
    ) -> String {
        let (mut input, mut out) = (Input(bytes), Vec::new());
        read(&mut input, &mut out).unwrap();
        assert!(input.is_empty());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_beyond_a_day_and_before_zero_keep_their_value() {
        assert_eq!(text(|i, o| time(i, 0, o), &[0x80, 0x00, 0x01]), "\"00:00:01\"");
        assert_eq!(text(|i, o| time(i, 0, o), &[0x7f, 0xff, 0xff]), "\"-00:00:01\"");
        // -00:00:01.1 in TIME(1), and -00:00:00.000001 in TIME(6).
        assert_eq!(text(|i, o| time(i, 1, o), &[0x7f, 0xff, 0xfe, 0xf6]), "\"-00:00:01.1\"");
        assert_eq!(text(|i, o| time(i, 6, o), &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]), "\"-00:00:00.000001\"");
        assert_eq!(text(old_time, &[0x4f, 0x6f, 0xfc]), "\"-23:36:49\"");
    }

    #[test]
    fn dates_that_are_none_stay_what_they_are() {
        assert_eq!(text(date, &[0, 0, 0]), "\"0000-00-00\"");
        assert_eq!(text(|i, o| datetime(i, 0, o), &[0x80, 0, 0, 0, 0]), "\"0000-00-00T00:00:00\"");
        assert_eq!(text(|i, o| timestamp(i, 0, o), &[0, 0, 0, 0]), "\"0000-00-00T00:00:00Z\"");
        assert_eq!(
            text(|i, o| timestamp(i, 3, o), &[0, 0, 0, 1, 0x04, 0xce]),
            "\"1970-01-01T00:00:01.123Z\""
        );
    }

    #[test]
    fn moments_have_the_right_date() {
        for (seconds, expected) in [
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_294_967_295, "2106-02-07T06:28:15Z"),
            (1_795_262_400, "2026-11-21T12:00:00Z"),
        ] {
            let mut out = Vec::new();
            unix(seconds, 0, 0, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
        }
    }
}
