//! MariaDB's types of a few bytes that have a text of their own: UUIDs and addresses.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Which type it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    Uuid,
    Inet4,
    Inet6,
}

impl Fixed {
    /// By the schema's name for it.
    pub fn of(kind: &str) -> Option<Self> {
        match kind {
            "uuid" => Some(Self::Uuid),
            "inet4" => Some(Self::Inet4),
            "inet6" => Some(Self::Inet6),
            _ => None,
        }
    }

    /// Writes a value as a text in quotes. Zeros at its end are not stored.
    pub fn write(self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut whole = [0; 16];
        let len = bytes.len().min(whole.len());
        whole[..len].copy_from_slice(&bytes[..len]);
        let [a, b, c, d, ..] = whole;
        let _ = match self {
            Self::Uuid => write!(out, "\"{}\"", uuid::Uuid::from_bytes(in_order(whole))),
            Self::Inet4 => write!(out, "\"{}\"", Ipv4Addr::new(a, b, c, d)),
            Self::Inet6 => write!(out, "\"{}\"", Ipv6Addr::from(whole)),
        };
    }
}

/// UUIDs that begin with their time are stored with their parts in the other order, so that an index keeps together
/// what was made together. Versions from 6 on, and what is no UUID by the book, are stored as they are written.
fn in_order(stored: [u8; 16]) -> [u8; 16] {
    let is_turned = stored[6] & 0x80 != 0 && (1..0x60).contains(&stored[8]);
    if !is_turned {
        return stored;
    }
    let mut uuid = [0; 16];
    for (from, to, len) in [(12, 0, 4), (10, 4, 2), (8, 6, 2), (6, 8, 2), (0, 10, 6)] {
        uuid[to..to + len].copy_from_slice(&stored[from..from + len]);
    }
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Fixed, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        kind.write(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_read_whatever_their_order_and_their_zeros() {
        let turned =
            [0x00, 0x16, 0x3e, 0xaa, 0xbb, 0xcc, 0x80, 0x01, 0x11, 0xee, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc];
        assert_eq!(text(Fixed::Uuid, &turned), "\"56789abc-1234-11ee-8001-00163eaabbcc\"");
        let plain = uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
        assert_eq!(text(Fixed::Uuid, plain.as_bytes()), format!("\"{plain}\""));
        assert_eq!(text(Fixed::Uuid, &[]), "\"00000000-0000-0000-0000-000000000000\"");
        assert_eq!(text(Fixed::Inet4, &[10]), "\"10.0.0.0\"");
        assert_eq!(text(Fixed::Inet6, &[0x20, 0x01, 0x0d, 0xb8]), "\"2001:db8::\"");
    }
}
