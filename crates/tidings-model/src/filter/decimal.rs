//! Numbers as JSON writes them, compared by their digits without rounding.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// A number, read once: comparing two costs no more than the digits they have in common.
///
/// Its value is 0.`whole``fraction` times ten to the power of `point`; the first and the last digit are not 0.
/// Exponents beyond 18 digits count as one very large exponent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    /// As it was written.
    text: Cow<'a, str>,
    is_negative: bool,
    whole: Range<usize>,
    fraction: Range<usize>,
    point: i64,
}

impl<'a> Decimal<'a> {
    const EXPONENT_MAX: i64 = 1_000_000_000_000_000_000;

    pub fn read(text: impl Into<Cow<'a, str>>) -> Self {
        let text: Cow<'a, str> = text.into();
        let is_negative = text.starts_with('-');
        let begin = usize::from(is_negative);
        let end = text.find(['e', 'E']).unwrap_or(text.len());
        let exponent = text.get(end + 1..).map_or(0, exponent_of);
        let mantissa = &text[begin..end];
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let fraction_end = end - (fraction.len() - fraction.trim_end_matches('0').len());
        let mut whole = begin..begin + whole.len();
        let mut fraction = end - fraction.len()..fraction_end.max(end - fraction.len());
        let leading = |part: &Range<usize>| {
            let digits = &text[part.clone()];
            digits.len() - digits.trim_start_matches('0').len()
        };
        whole.start += leading(&whole);
        let mut point = exponent + whole.len() as i64;
        if whole.is_empty() {
            let zeros = leading(&fraction);
            fraction.start += zeros;
            point -= zeros as i64;
        }
        if fraction.is_empty() {
            whole.end = whole.start + text[whole.clone()].trim_end_matches('0').len();
        }
        Self { text, is_negative, whole, fraction, point }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// By value.
    pub fn compare(&self, other: &Decimal<'_>) -> Ordering {
        match (self.sign(), other.sign()) {
            (-1, -1) => other.magnitude(self),
            (1, 1) => self.magnitude(other),
            (own, other) => own.cmp(&other),
        }
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        }
    }

    fn magnitude(&self, other: &Decimal<'_>) -> Ordering {
        self.point.cmp(&other.point).then_with(|| self.digits().cmp(other.digits()))
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        let [whole, fraction] = [&self.whole, &self.fraction].map(|part| &self.text[part.clone()]);
        whole.bytes().chain(fraction.bytes())
    }
}

fn exponent_of(text: &str) -> i64 {
    let max = Decimal::EXPONENT_MAX;
    match text.parse::<i64>() {
        Ok(exponent) => exponent.clamp(-max, max),
        Err(_) if text.starts_with('-') => -max,
        Err(_) => max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compare(left: &str, right: &str) -> Ordering {
        Decimal::read(left).compare(&Decimal::read(right))
    }

    /// `mantissa` divided by ten to the power of `scale`, in one of the ways JSON can say it.
    fn spelled(mantissa: i64, scale: u32, shift: i32, zeros: usize) -> String {
        let digits = format!("{:0width$}", mantissa.unsigned_abs(), width = scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
        let sign = if mantissa < 0 { "-" } else { "" };
        if shift == 0 {
            let dot = if scale == 0 && zeros == 0 { "" } else { "." };
            return format!("{sign}{whole}{dot}{fraction}{}", "0".repeat(zeros));
        }
        let exponent = -(scale as i32) - zeros as i32;
        format!("{sign}{}{}E{exponent:+}", mantissa.unsigned_abs(), "0".repeat(zeros))
    }

    proptest! {
        #[test]
        fn all_spellings_compare_like_the_numbers(
            a in prop_oneof![any::<i64>(), -20i64..20], b in prop_oneof![any::<i64>(), -20i64..20],
            scale_a in 0u32..6, scale_b in 0u32..6, shifts: [bool; 2], zeros in 0usize..4,
        ) {
            let left = spelled(a, scale_a, shifts[0].into(), zeros);
            let right = spelled(b, scale_b, shifts[1].into(), 0);
            let value = |n: i64, scale: u32| i128::from(n) * 10i128.pow(6 - scale);
            prop_assert_eq!(
                compare(&left, &right), value(a, scale_a).cmp(&value(b, scale_b)), "{} {}", left, right
            );
        }
    }

    #[test]
    fn digits_beyond_a_float_count() {
        for (left, right, order) in [
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("18446744073709551615", "18446744073709551616", Ordering::Less),
            ("0.1", "0.1000000000000000055511151231257827", Ordering::Less),
            ("-0", "0.000e9", Ordering::Equal),
            ("1e400", "1e-400", Ordering::Greater),
            ("-1e99999999999999999999", "1e99999999999999999999", Ordering::Less),
            ("100", "1e2", Ordering::Equal),
            ("0.001", "1E-3", Ordering::Equal),
        ] {
            assert_eq!(compare(left, right), order, "{left} {right}");
            assert_eq!(compare(right, left), order.reverse(), "{right} {left}");
        }
    }
}
