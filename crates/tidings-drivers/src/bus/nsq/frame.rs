//! NSQ's protocol V2 as bytes: commands that go out, frames that come in.
//!
//! Owns: lengths, the bound of a frame, and names that nsqd accepts. Never: decides what to do about a frame.

use bytes::{Buf as _, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a connection begins with.
pub const MAGIC: &[u8] = b"  V2";
/// A sign of life, asked for by nsqd's `_heartbeat_`.
pub const NOP: &[u8] = b"NOP\n";
pub const OK: &[u8] = b"OK";
pub const HEARTBEAT: &[u8] = b"_heartbeat_";

/// The largest frame that is read into memory; the rest of a larger one is skipped.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Kind, then of a message: time, attempts and id.
const KIND_BYTES: usize = 4;
const ID_AT: usize = 8 + 2;
const HEAD_BYTES: usize = ID_AT + 16;

/// The longest name of a topic.
pub const NAME_BYTES_MAX: usize = 64;

/// Identifies one delivery of a message.
pub type MessageId = [u8; 16];

/// What nsqd says.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    Response(Bytes),
    Error(String),
    /// A message; without its body if that is longer than anything we would have sent.
    Message(MessageId, Option<Bytes>),
}

/// Whether nsqd accepts `name` as a topic.
pub fn is_topic(name: &str) -> bool {
    let plain = name.strip_suffix("#ephemeral").unwrap_or(name);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !plain.is_empty() && name.len() <= NAME_BYTES_MAX && plain.bytes().all(is_plain)
}

pub fn identify(json: &[u8]) -> Vec<u8> {
    with_body("IDENTIFY\n", json)
}

pub fn publish(topic: &str, body: &[u8]) -> Vec<u8> {
    with_body(&format!("PUB {topic}\n"), body)
}

pub fn subscribe(topic: &str, channel: &str) -> Vec<u8> {
    format!("SUB {topic} {channel}\n").into_bytes()
}

pub fn ready(messages: usize) -> Vec<u8> {
    format!("RDY {messages}\n").into_bytes()
}

pub fn finish(id: &MessageId) -> Vec<u8> {
    [b"FIN ", id.as_slice(), b"\n"].concat()
}

fn with_body(line: &str, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("bodies are bounded");
    [line.as_bytes(), &length.to_be_bytes(), body].concat()
}

/// Reads frames from one connection.
pub struct Frames<R> {
    input: R,
    buffer: BytesMut,
    /// What is left to skip of a frame that was too long.
    skip: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: BytesMut::new(), skip: 0 }
    }

    /// The next frame. Cancel safe. The end of the stream is an error: nsqd never ends one in peace.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            self.buffer.reserve(4 << 10);
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "nsqd closed the connection"));
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Frame>> {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        let is_long = length > FRAME_BYTES_MAX;
        let wanted = if is_long { KIND_BYTES + HEAD_BYTES } else { length };
        if rest.len() < wanted {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(wanted).freeze();
        self.skip = length - wanted;
        if frame.len() < KIND_BYTES {
            return Err(invalid("a frame without a kind"));
        }
        match frame.get_u32() {
            0 if !is_long => Ok(Some(Frame::Response(frame))),
            1 if !is_long => Ok(Some(Frame::Error(String::from_utf8_lossy(&frame).into_owned()))),
            2 if frame.len() >= HEAD_BYTES => {
                frame.advance(ID_AT);
                let mut id = [0; 16];
                frame.copy_to_slice(&mut id);
                Ok(Some(Frame::Message(id, (!is_long).then_some(frame))))
            }
            _ => Err(invalid("a frame that is none of NSQ's")),
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u32, parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        [&(body.len() as u32 + 4).to_be_bytes(), &kind.to_be_bytes(), body.as_slice()].concat()
    }

    #[tokio::test]
    async fn frames_are_read_however_the_stream_is_cut() {
        let id = *b"0123456789abcdef";
        let long = vec![b'x'; FRAME_BYTES_MAX];
        let stream = [
            frame(0, &[OK]),
            frame(2, &[&[0; 10], &id, b"{}"]),
            frame(2, &[&[0; 10], &id, &long]),
            frame(1, &[b"E_BAD_TOPIC no"]),
            frame(2, &[&[0; 10], &id]),
        ]
        .concat();
        for cut in [1, 2, 3, 7, 31, 4096, stream.len()] {
            let (mut tx, rx) = tokio::io::duplex(cut);
            let all = stream.clone();
            let feed = tokio::spawn(async move {
                for part in all.chunks(cut) {
                    tokio::io::AsyncWriteExt::write_all(&mut tx, part).await.unwrap();
                }
            });
            let mut frames = Frames::new(rx);
            assert_eq!(frames.next().await.unwrap(), Frame::Response(Bytes::from_static(OK)));
            assert_eq!(frames.next().await.unwrap(), Frame::Message(id, Some(Bytes::from_static(b"{}"))));
            assert_eq!(frames.next().await.unwrap(), Frame::Message(id, None));
            assert_eq!(frames.next().await.unwrap(), Frame::Error("E_BAD_TOPIC no".to_owned()));
            assert_eq!(frames.next().await.unwrap(), Frame::Message(id, Some(Bytes::new())));
            assert!(frames.next().await.is_err());
            feed.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_of_nsq_is_an_error() {
        for bytes in
            [frame(7, &[b"x"]), frame(2, &[b"short"]), vec![0, 0, 0, 1, 0], frame(0, &[&[0; 70_000]])]
        {
            assert!(Frames::new(bytes.as_slice()).next().await.is_err());
        }
    }

    #[test]
    fn only_names_that_nsqd_takes_are_topics() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["items", "a.b_c-d", "A1#ephemeral", &long[1..]] {
            assert!(is_topic(name), "{name}");
        }
        for name in ["", "#ephemeral", "two words", "käse", "a#b", "a:b", "a/b", "a\n", &long] {
            assert!(!is_topic(name), "{name}");
        }
    }
}
