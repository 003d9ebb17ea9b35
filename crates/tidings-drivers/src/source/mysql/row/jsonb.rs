//! MySQL's binary JSON, from its documented format.
//!
//! A value is a byte for its type and then its bytes. Objects and arrays begin with tables of places, counted from
//! their own start. Values that are no JSON (dates, decimals, bytes) are written as MySQL itself prints them.

use super::column::base64;
use super::input::{Input, Malformed};
use super::number;
use std::io::Write as _;

/// MySQL refuses documents that are deeper.
const DEPTH_MAX: usize = 100;
/// No document becomes longer than so many times its bytes; more can only be places that point at each other.
const GROWTH_MAX: usize = 16;

const LITERAL: u8 = 4;
const OPAQUE: u8 = 15;
const DATE: u8 = 10;
const TIME: u8 = 11;
const DATETIME: u8 = 12;
const TIMESTAMP: u8 = 7;
const DECIMAL: u8 = 246;

/// Writes a document as text.
pub fn write(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut input = Input(bytes);
    // Only a column that was made before it got a default holds nothing at all.
    if input.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let kind = input.byte()?;
    let mut writer = Writer { len_max: out.len() + GROWTH_MAX * bytes.len() + 64, out };
    writer.value(kind, input.0, DEPTH_MAX)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    len_max: usize,
}

impl Writer<'_> {
    fn value(&mut self, kind: u8, bytes: &[u8], depth: usize) -> Result<(), Malformed> {
        if self.out.len() > self.len_max {
            return Err(Malformed("a JSON document"));
        }
        let mut input = Input(bytes);
        match kind {
            0..=3 => {
                let depth = depth.checked_sub(1).ok_or(Malformed("the depth of a JSON document"))?;
                return self.container(kind >= 2, kind % 2 == 1, bytes, depth);
            }
            LITERAL => {
                let word = ["null", "true", "false"].get(usize::from(input.byte()?));
                self.out.extend_from_slice(word.ok_or(Malformed("a JSON literal"))?.as_bytes());
            }
            5 => number::integer(&mut input, 2, false, self.out)?,
            6 => number::integer(&mut input, 2, true, self.out)?,
            7 => number::integer(&mut input, 4, false, self.out)?,
            8 => number::integer(&mut input, 4, true, self.out)?,
            9 => number::integer(&mut input, 8, false, self.out)?,
            10 => number::integer(&mut input, 8, true, self.out)?,
            11 => number::float(f64::from_bits(input.little(8)?), self.out),
            12 => {
                let len = variable(&mut input)?;
                self.text(input.take(len)?)?;
            }
            OPAQUE => {
                let kind = input.byte()?;
                let len = variable(&mut input)?;
                self.opaque(kind, input.take(len)?)?;
            }
            _ => return Err(Malformed("the type of a JSON value")),
        }
        Ok(())
    }

    fn container(
        &mut self,
        is_array: bool,
        is_large: bool,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), Malformed> {
        let width = if is_large { 4 } else { 2 };
        let mut input = Input(bytes);
        let count = input.little(width)? as usize;
        let size = input.little(width)? as usize;
        let bytes = bytes.get(..size).ok_or(Malformed("the size of a JSON document"))?;
        let mut keys = Input(&[]);
        if !is_array {
            let len = count.checked_mul(width + 2).ok_or(Malformed("a JSON object"))?;
            keys = Input(input.take(len)?);
        }
        self.out.push(if is_array { b'[' } else { b'{' });
        for n in 0..count {
            if n > 0 {
                self.out.push(b',');
            }
            if !is_array {
                let (place, len) = (keys.little(width)? as usize, keys.little(2)? as usize);
                let key = bytes.get(place..).and_then(|rest| rest.get(..len));
                self.text(key.ok_or(Malformed("a JSON key"))?)?;
                self.out.push(b':');
            }
            let kind = input.byte()?;
            let place = input.take(width)?;
            // Short values lie where others have their place.
            let is_inline = matches!(kind, LITERAL | 5 | 6) || is_large && matches!(kind, 7 | 8);
            if is_inline {
                self.value(kind, place, depth)?;
            } else {
                let place = Input(place).little(width)? as usize;
                self.value(kind, bytes.get(place..).ok_or(Malformed("a JSON value"))?, depth)?;
            }
        }
        self.out.push(if is_array { b']' } else { b'}' });
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a JSON text"))?;
        serde_json::to_writer(&mut *self.out, text).expect("a text into memory");
        Ok(())
    }

    fn opaque(&mut self, kind: u8, bytes: &[u8]) -> Result<(), Malformed> {
        let mut input = Input(bytes);
        match kind {
            DECIMAL => {
                let (precision, scale) = (input.byte()?, input.byte()?);
                number::decimal(&mut input, precision, scale, self.out)
            }
            DATE | DATETIME | TIMESTAMP => {
                let packed = input.little(8)?;
                let (micros, time, day) = (packed & 0xff_ffff, packed >> 24 & 0x1_ffff, packed >> 41);
                let month = day >> 5;
                let _ = write!(self.out, "\"{:04}-{:02}-{:02}", month / 13, month % 13, day & 31);
                if kind != DATE {
                    self.clock(" ", time, micros);
                }
                self.out.push(b'"');
                Ok(())
            }
            TIME => {
                let packed = input.little(8)? as i64;
                let (sign, packed) = (if packed < 0 { "\"-" } else { "\"" }, packed.unsigned_abs());
                self.clock(sign, packed >> 24, packed & 0xff_ffff);
                self.out.push(b'"');
                Ok(())
            }
            kind => {
                let _ = write!(self.out, "\"base64:type{kind}:");
                let start = self.out.len();
                base64(bytes, self.out);
                self.out.remove(start);
                Ok(())
            }
        }
    }

    fn clock(&mut self, before: &str, time: u64, micros: u64) {
        let (hours, minutes, seconds) = (time >> 12 & 1023, time >> 6 & 63, time & 63);
        let _ = write!(self.out, "{before}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}");
    }
}

/// A length in groups of seven bits, the lowest first.
fn variable(input: &mut Input<'_>) -> Result<usize, Malformed> {
    let mut len = 0;
    for n in 0..5 {
        let byte = input.byte()?;
        len |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Ok(len);
        }
    }
    Err(Malformed("a length in a JSON document"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, Malformed> {
        let mut out = Vec::new();
        write(bytes, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn values_of_every_type_are_read() {
        let mut double = vec![11];
        double.extend(1.5_f64.to_le_bytes());
        let opaque = [15, 246, 4, 3, 2, 0x80, 0x05];
        let day = ((2026_u64 * 13 + 11) << 5 | 21) << 41;
        let mut date = vec![15, 10, 8];
        date.extend(day.to_le_bytes());
        let mut datetime = vec![15, 12, 8];
        datetime.extend((day | (12 << 12 | 34 << 6 | 56) << 24 | 789).to_le_bytes());
        let mut time = vec![15, 11, 8];
        time.extend((-(((25 << 12 | 1) << 24) + 5_i64)).to_le_bytes());
        for (bytes, expected) in [
            (&[][..], "null"),
            (&[4, 0], "null"),
            (&[4, 1], "true"),
            (&[4, 2], "false"),
            (&[5, 0xff, 0xff], "-1"),
            (&[6, 0xff, 0xff], "65535"),
            (&[7, 0, 0, 0, 0x80], "-2147483648"),
            (&[10, 255, 255, 255, 255, 255, 255, 255, 255], "18446744073709551615"),
            (&double, "1.5"),
            (&[12, 3, b'a', b'"', b'b'], r#""a\"b""#),
            (&opaque, "0.05"),
            (&date, "\"2026-11-21\""),
            (&datetime, "\"2026-11-21 12:34:56.000789\""),
            (&time, "\"-25:00:01.000005\""),
            (&[15, 252, 2, 0, 255], "\"base64:type252:AP8=\""),
        ] {
            assert_eq!(text(bytes).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn objects_and_arrays_hold_each_other() {
        // {"a": 1, "bc": [true, "x"]}: two keys, two values, then the keys, then the array.
        let array: &[u8] = &[2, 0, 12, 0, 4, 1, 0, 12, 10, 0, 1, b'x'];
        let mut object = vec![0, 2, 0, 33, 0];
        object.extend([18, 0, 1, 0, 19, 0, 2, 0]);
        object.extend([5, 1, 0, 2, 21, 0]);
        object.extend(b"abc");
        object.extend(array);
        assert_eq!(text(&object).as_deref(), Ok(r#"{"a":1,"bc":[true,"x"]}"#));
        for len in 1..object.len() {
            assert!(text(&object[..len]).is_err(), "{len}");
        }
        // A large array with a number of four bytes in it.
        assert_eq!(text(&[3, 1, 0, 0, 0, 13, 0, 0, 0, 7, 1, 0, 1, 0]).as_deref(), Ok("[65537]"));
    }

    #[test]
    fn documents_that_point_at_themselves_are_refused() {
        // An array whose only value is the array itself.
        assert!(text(&[2, 1, 0, 7, 0, 2, 0, 0]).is_err());
        // Two values each, forever: the depth alone would not bound it.
        assert!(text(&[2, 2, 0, 10, 0, 2, 0, 0, 2, 0, 0]).is_err());
    }
}
