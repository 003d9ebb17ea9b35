//! Numbers as digits: integers of three bytes, decimals of any length, floats.

use super::input::{Input, Malformed};
use std::io::Write as _;

/// Bytes that so many digits take within a group of nine.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

pub fn integer(
    input: &mut Input<'_>,
    bytes: u8,
    is_unsigned: bool,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let n = input.little(usize::from(bytes))?;
    // Writing into memory cannot fail.
    let _ = if is_unsigned {
        write!(out, "{n}")
    } else {
        let shift = 64 - 8 * u32::from(bytes);
        write!(out, "{}", (n << shift) as i64 >> shift)
    };
    Ok(())
}

/// What JSON has no number for becomes null.
pub fn float(value: impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a plain number into memory");
}

/// Digits in groups of nine, each in four bytes, the most significant first; the sign is the first bit, and a
/// negative number has all bits the other way round.
pub fn decimal(input: &mut Input<'_>, precision: u8, scale: u8, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let whole = usize::from(precision.checked_sub(scale).ok_or(Malformed("a decimal"))?);
    let scale = usize::from(scale);
    let len = whole / 9 * 4 + DIGIT_BYTES[whole % 9] + scale / 9 * 4 + DIGIT_BYTES[scale % 9];
    let mut bytes = [0; 40];
    let bytes = bytes.get_mut(..len).ok_or(Malformed("a decimal"))?;
    bytes.copy_from_slice(input.take(len)?);
    let first = bytes.first_mut().ok_or(Malformed("a decimal"))?;
    let is_negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if is_negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        out.push(b'-');
    }
    let mut groups = Input(bytes);
    let start = out.len();
    group(&mut groups, whole % 9, out)?;
    for _ in 0..whole / 9 {
        group(&mut groups, 9, out)?;
    }
    // JSON allows no zeros in front.
    let zeros = out[start..].iter().take_while(|digit| **digit == b'0').count();
    out.drain(start..start + zeros);
    if out.len() == start {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        for _ in 0..scale / 9 {
            group(&mut groups, 9, out)?;
        }
        group(&mut groups, scale % 9, out)?;
    }
    Ok(())
}

fn group(input: &mut Input<'_>, digits: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if digits > 0 {
        let n = input.big(DIGIT_BYTES[digits])?;
        let _ = write!(out, "{n:0digits$}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal_of(bytes: &[u8], precision: u8, scale: u8) -> String {
        let mut out = Vec::new();
        let mut input = Input(bytes);
        decimal(&mut input, precision, scale, &mut out).unwrap();
        assert!(input.is_empty());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_keep_every_digit() {
        // The example of MySQL's manual: 1234567890.1234 in DECIMAL(14, 4).
        assert_eq!(decimal_of(&[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], 14, 4), "1234567890.1234");
        assert_eq!(decimal_of(&[0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d], 14, 4), "-1234567890.1234");
        assert_eq!(decimal_of(&[0x80, 0x00, 0x00], 5, 0), "0");
        assert_eq!(decimal_of(&[0x80, 0x05], 3, 2), "0.05");
        assert!(decimal(&mut Input(&[0x80]), 5, 0, &mut Vec::new()).is_err());
        assert!(decimal(&mut Input(&[0x80; 99]), 255, 30, &mut Vec::new()).is_err());
        assert!(decimal(&mut Input(&[]), 0, 0, &mut Vec::new()).is_err());
    }

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        for (bytes, is_unsigned, expected) in [
            (&[0xff][..], false, "-1"),
            (&[0xff], true, "255"),
            (&[0xff, 0xff, 0x7f], false, "8388607"),
            (&[0x00, 0x00, 0x80], false, "-8388608"),
            (&[0xff; 8], true, "18446744073709551615"),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], false, "-9223372036854775808"),
        ] {
            let mut out = Vec::new();
            integer(&mut Input(bytes), bytes.len() as u8, is_unsigned, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
