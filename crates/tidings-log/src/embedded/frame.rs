//! How a segment frames its records: a head per file, and a frame around each batch.
//!
//! Segment head (24 bytes): magic (8), number (4), salt (4), flags (4), CRC-32C of these (4).
//! Frame (12 bytes): length of the body (4), CRC-32C of salt, length, group_back and body (4), group_back (4):
//! the distance from the start of the write this record was part of. All integers are little endian.
//!
//! The salt is random per segment: zeros, or bytes of an older file, are never taken for a record. A valid
//! record whose write began after an invalid one proves that the invalid one had been synced: see
//! `recover.rs`.

use std::ops::Range;

const MAGIC: [u8; 8] = *b"TIDSEG\x00\x01";
const REWRITTEN: u32 = 1;

/// Bytes before a segment's first record.
pub const HEAD: usize = 24;
/// Bytes before a record's body.
pub const FRAME: usize = 12;

/// The first bytes of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub number: u32,
    pub salt: u32,
    /// Cleaning left only a part of what was in this segment.
    pub is_rewritten: bool,
}

impl Head {
    pub fn new(number: u32, is_rewritten: bool) -> Self {
        let salt = getrandom::u32().expect("the system has randomness");
        Self { number, salt, is_rewritten }
    }

    pub fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[12..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..20].copy_from_slice(&if self.is_rewritten { REWRITTEN } else { 0 }.to_le_bytes());
        let crc = crc32c::crc32c(&out[..20]);
        out[20..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` where the bytes are not a segment's head.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let is_valid = head[..8] == MAGIC && word(head, 20) == crc32c::crc32c(&head[..20]);
        is_valid.then(|| Self {
            number: word(head, 8),
            salt: word(head, 12),
            is_rewritten: word(head, 16) & REWRITTEN != 0,
        })
    }
}

/// A valid record in a segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub body: Range<usize>,
    /// Where the write that brought this record began.
    pub group: usize,
}

/// Makes room for a frame at the end of `out`.
pub fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    start
}

/// Fills in the frame that [`begin`] left at `start`; everything after it is the body.
pub fn seal(out: &mut [u8], start: usize, group: usize, salt: u32) {
    let len = (out.len() - start - FRAME) as u32;
    let back = (start - group) as u32;
    let crc = checksum(salt, len, back, &out[start + FRAME..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out[start + 8..start + 12].copy_from_slice(&back.to_le_bytes());
}

/// The record at `at`, if there is a valid one.
pub fn read(bytes: &[u8], at: usize, salt: u32) -> Option<Frame> {
    let frame = bytes.get(at..at + FRAME)?;
    let (len, crc, back) = (word(frame, 0), word(frame, 4), word(frame, 8));
    let body = at + FRAME..(at + FRAME).checked_add(len as usize)?;
    let group = at.checked_sub(back as usize)?;
    if len == 0 || body.end > bytes.len() || checksum(salt, len, back, &bytes[body.clone()]) != crc {
        return None;
    }
    Some(Frame { body, group })
}

/// The body of the record at `at`, of bytes that are known to be records.
pub fn body(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let frame = bytes.get(at..at + FRAME)?;
    Some(at + FRAME..at + FRAME + word(frame, 0) as usize)
}

fn checksum(salt: u32, len: u32, back: u32, body: &[u8]) -> u32 {
    let mut seed = [0; 12];
    seed[..4].copy_from_slice(&salt.to_le_bytes());
    seed[4..8].copy_from_slice(&len.to_le_bytes());
    seed[8..].copy_from_slice(&back.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), body)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_valid_only_whole_and_under_its_own_salt() {
        let mut out = vec![7; 5];
        let start = begin(&mut out);
        out.extend_from_slice(b"body");
        seal(&mut out, start, 5, 42);
        assert_eq!(read(&out, 5, 42), Some(Frame { body: 17..21, group: 5 }));
        assert_eq!(read(&out, 5, 43), None);
        assert_eq!(read(&out[..20], 5, 42), None);
        for at in 5..out.len() {
            let mut damaged = out.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged, 5, 42), None, "byte {at}");
        }
        assert_eq!(read(&[0; 64], 0, 0), None);
    }
}
