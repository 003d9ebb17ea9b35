//! Numbers as JSON writes them, compared by their digits without rounding.

use std::cmp::Ordering;

/// Compares two JSON numbers by value. Exponents beyond 18 digits count as one very large exponent.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Decimal::read(left), Decimal::read(right));
    match (left.sign(), right.sign()) {
        (-1, -1) => right.magnitude(&left),
        (1, 1) => left.magnitude(&right),
        (left, right) => left.cmp(&right),
    }
}

/// 0.`whole``fraction` times ten to the power of `point`; the first and the last digit are not 0.
struct Decimal<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    point: i64,
}

impl<'a> Decimal<'a> {
    const EXPONENT_MAX: i64 = 1_000_000_000_000_000_000;

    fn read(text: &'a str) -> Self {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let significant = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
        let zeros = fraction.len() - significant.len();
        let point = exponent_of(exponent) + whole.len() as i64 - zeros as i64;
        let whole = if significant.is_empty() { whole.trim_end_matches('0') } else { whole };
        Self { is_negative, whole, fraction: significant, point }
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.is_negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        }
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        self.point.cmp(&other.point).then_with(|| self.digits().cmp(other.digits()))
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
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
