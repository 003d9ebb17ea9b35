//! Positions in the log, and the one opaque text that carries them over every transport.

use crate::{Timestamp, TopicName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;

/// The place of an event in its topic: 1, 2, 3 ... without gaps (I2). 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

impl Offset {
    pub const ZERO: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which life of a topic an offset belongs to; drawn at random when a topic's offsets restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

impl Epoch {
    /// Of no life: a topic that did not exist yet, or whose life is not known any more.
    pub const NONE: Self = Self(0);
}

/// "Everything of this topic up to and including `offset` has been seen."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub topic: TopicName,
    pub epoch: Epoch,
    pub offset: Offset,
    /// The reader was still being sent State (the newest event of each key) when this was made.
    pub in_state: bool,
}

/// A position in one or several topics, printed as one opaque text.
///
/// The text is base64url of: version byte 1, then for each topic a flag byte (bit 0: in State), the epoch
/// (4 bytes, little endian), the offset (LEB128), the name's length (1 byte) and the name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    pub positions: Vec<Position>,
}

/// A text that is no cursor of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct CursorError;

const VERSION: u8 = 1;

impl Cursor {
    /// The text that clients keep: URL-safe base64.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        for position in &self.positions {
            position.encode(&mut bytes);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Topics a cursor may name; a longer text is refused before it is decoded.
    pub const TOPICS_MAX: usize = 256;
    const TEXT_MAX: usize = Self::TOPICS_MAX * 300;

    pub fn parse(text: &str) -> Result<Self, CursorError> {
        if text.len() > Self::TEXT_MAX {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (&version, mut rest) = bytes.split_first().ok_or(CursorError)?;
        if version != VERSION {
            return Err(CursorError);
        }
        let mut positions = Vec::new();
        while !rest.is_empty() {
            if positions.len() == Self::TOPICS_MAX {
                return Err(CursorError);
            }
            positions.push(Position::decode(&mut rest)?);
        }
        Ok(Self { positions })
    }

    pub fn of(position: Position) -> Self {
        Self { positions: vec![position] }
    }

    pub fn position(&self, topic: &TopicName) -> Option<&Position> {
        self.positions.iter().find(|p| &p.topic == topic)
    }
}

impl Position {
    /// Before everything a topic will ever hold, while it does not exist yet.
    pub fn before_all(topic: TopicName) -> Self {
        Self { topic, epoch: Epoch::NONE, offset: Offset::ZERO, in_state: false }
    }

    /// Whether the topic did not exist when this was made: then nothing of it has been seen or missed.
    pub fn is_before_all(&self) -> bool {
        self.epoch == Epoch::NONE && self.offset == Offset::ZERO
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.in_state));
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        let mut left = self.offset.0;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
        out.push(self.topic.as_str().len() as u8);
        out.extend_from_slice(self.topic.as_str().as_bytes());
    }

    fn decode(rest: &mut &[u8]) -> Result<Self, CursorError> {
        let flags = take(rest, 1)?[0];
        if flags > 1 {
            return Err(CursorError);
        }
        let epoch = u32::from_le_bytes(take(rest, 4)?.try_into().map_err(|_| CursorError)?);
        let mut offset = 0u64;
        for shift in (0..).step_by(7) {
            let byte = take(rest, 1)?[0];
            if shift == 63 && byte > 1 {
                return Err(CursorError);
            }
            offset |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        let len = take(rest, 1)?[0] as usize;
        let name = std::str::from_utf8(take(rest, len)?).map_err(|_| CursorError)?;
        let topic = TopicName::parse_captured(name).map_err(|_| CursorError)?;
        Ok(Self { topic, epoch: Epoch(epoch), offset: Offset(offset), in_state: flags == 1 })
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], CursorError> {
    let (head, tail) = rest.split_at_checked(n).ok_or(CursorError)?;
    *rest = tail;
    Ok(head)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode())
    }
}

/// Where a subscription starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum From {
    /// What is published from now on.
    #[default]
    Latest,
    /// The oldest event that is kept.
    Earliest,
    /// The newest event of each key, then what follows.
    State,
    /// The first event published at or after this time.
    Time(Timestamp),
    /// After what this cursor has seen.
    Cursor(Cursor),
}

/// A `from` that is none of `latest`, `earliest`, `state`, an RFC 3339 time or a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`from` is `latest`, `earliest`, `state`, an RFC 3339 time or a cursor")]
pub struct FromError;

impl From {
    pub fn parse(text: &str) -> Result<Self, FromError> {
        match text {
            "latest" => Ok(Self::Latest),
            "earliest" => Ok(Self::Earliest),
            "state" => Ok(Self::State),
            _ => match Timestamp::parse(text) {
                Ok(at) => Ok(Self::Time(at)),
                Err(_) => Cursor::parse(text).map(Self::Cursor).map_err(|_| FromError),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_position() -> impl Strategy<Value = Position> {
        ("[a-z][a-z.é]{0,20}", any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
            |(name, epoch, offset, in_state)| Position {
                topic: TopicName::parse(&name).unwrap(),
                epoch: Epoch(epoch),
                offset: Offset(offset),
                in_state,
            },
        )
    }

    proptest! {
        #[test]
        fn a_cursor_parses_back(positions in prop::collection::vec(any_position(), 0..5)) {
            let cursor = Cursor { positions };
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text in "\\PC{0,80}") {
            let _ = Cursor::parse(&text);
        }
    }

    #[test]
    fn from_reads_words_times_and_cursors() {
        assert_eq!(From::parse("earliest"), Ok(From::Earliest));
        assert!(matches!(From::parse("2026-01-01T00:00:00Z"), Ok(From::Time(_))));
        assert!(From::parse("somewhere").is_err());
    }
}
