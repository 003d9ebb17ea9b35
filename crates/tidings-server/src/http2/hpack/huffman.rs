//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B).
//!
//! Owns: the length of each byte's code. The code is canonical: codes of one length follow each other in the order of
//! their bytes, so the lengths say everything.

use super::Broken;
use std::sync::LazyLock;

/// How long each byte's code is, in bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];
const LENGTH_MAX: u32 = 30;

/// The codes of one length.
struct Level {
    bits: u32,
    /// The first of them, with its highest bit where that of a `u32` is.
    first: u64,
    /// Behind the last of them, as `first`.
    end: u64,
    /// Their bytes, in order.
    bytes: Vec<u8>,
}

static LEVELS: LazyLock<Vec<Level>> = LazyLock::new(|| {
    let (mut levels, mut next) = (Vec::new(), 0_u64);
    for bits in 1..=LENGTH_MAX {
        let bytes: Vec<u8> =
            (0..=255).filter(|&byte| u32::from(LENGTHS[usize::from(byte)]) == bits).collect();
        if !bytes.is_empty() {
            let end = next + ((bytes.len() as u64) << (32 - bits));
            levels.push(Level { bits, first: next, end, bytes });
            next = end;
        }
    }
    levels
});

/// Appends what `coded` says.
///
/// # Errors
/// Where a code is that of no byte, or what is left at the end is no padding.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    // The bits that were read and not yet understood, the first of them at the top.
    let (mut bits, mut count) = (0_u64, 0);
    let mut rest = coded.iter();
    loop {
        while count <= 56 {
            let Some(&byte) = rest.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let code = bits >> 32;
        let level = LEVELS.iter().find(|level| code < level.end).filter(|level| level.bits <= count);
        let Some(level) = level else { break };
        out.push(level.bytes[((code - level.first) >> (32 - level.bits)) as usize]);
        bits <<= level.bits;
        count -= level.bits;
    }
    // Less than a byte of ones is what fills up the last byte.
    let is_padding = count < 8 && bits == !(u64::MAX >> count);
    if is_padding { Ok(()) } else { Err(Broken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let level = LEVELS.iter().find(|level| level.bytes.contains(byte)).unwrap();
            let at = level.bytes.iter().position(|own| own == byte).unwrap() as u64;
            let code = (level.first >> (32 - level.bits)) + at;
            bits += &format!("{code:0width$b}", width = level.bits as usize);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|c| u8::from_str_radix(std::str::from_utf8(c).unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).ok().map(|()| out)
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&www).unwrap(), b"www.example.com");
        assert_eq!(encode(b"www.example.com"), www);
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decoded(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn what_is_no_code_is_refused() {
        // The code that ends everything, padding of a whole byte, padding with a zero, half a code.
        for coded in [&[0xff, 0xff, 0xff, 0xff][..], &[0x1f, 0xff], &[0x1e], &[0xff], &[0xfe]] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
        // All codes together leave room for the one that ends everything and for nothing else.
        assert_eq!(LEVELS.last().unwrap().end, (1 << 32) - (1 << 2));
    }

    proptest! {
        #[test]
        fn what_was_coded_reads_back(text in any::<Vec<u8>>()) {
            prop_assert_eq!(decoded(&encode(&text)), Some(text));
        }

        #[test]
        fn whatever_is_sent_is_read_to_an_end(coded in any::<Vec<u8>>()) {
            if let Some(text) = decoded(&coded) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }
}
