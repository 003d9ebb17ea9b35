//! A message that is bytes already.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message as _};

/// Bytes before a message on the wire: whether it is compressed, and its length.
pub const HEAD: usize = 5;

/// A message's bytes: those made once for everybody, and those of this one reader behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    bytes: Bytes,
    /// Where the message begins in them.
    at: usize,
    own: Bytes,
}

impl From<Bytes> for Encoded {
    fn from(message: Bytes) -> Self {
        Self { bytes: message, at: 0, own: Bytes::new() }
    }
}

impl Encoded {
    /// A message that stands in its frame already (see [`framed`]), with what is its reader's own.
    pub fn of_frame(frame: Bytes, own: Bytes) -> Self {
        Self { bytes: frame, at: HEAD, own }
    }

    /// The message in its frame.
    pub fn into_frame(self) -> Bytes {
        if self.at == HEAD && self.own.is_empty() {
            return self.bytes;
        }
        framed(self.encoded_len(), |out| self.encode_raw(out))
    }

    fn shared(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
}

/// A frame around a message that is not compressed, as gRPC over HTTP/2 has it; `len` is about how many bytes it will be.
pub fn framed(len: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(HEAD + len);
    out.put_u8(0);
    out.put_u32(0);
    fill(&mut out);
    let len = u32::try_from(out.len() - HEAD).expect("a message is far smaller");
    out[1..HEAD].copy_from_slice(&len.to_be_bytes());
    out.into()
}

impl prost::Message for Encoded {
    fn encode_raw(&self, out: &mut impl BufMut) {
        out.put_slice(self.shared());
        out.put_slice(&self.own);
    }

    fn encoded_len(&self) -> usize {
        self.shared().len() + self.own.len()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        kind: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        // A server never reads its own answers.
        prost::encoding::skip_field(kind, tag, buf, ctx)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_holds_what_is_everybodys_and_what_is_its_readers() {
        let frame = framed(2, |out| out.extend_from_slice(b"all"));
        assert_eq!(frame, b"\0\0\0\0\x03all"[..]);
        let encoded = Encoded::of_frame(frame.clone(), Bytes::new());
        assert_eq!(encoded.encode_to_vec(), b"all");
        // The very bytes that everybody is given.
        assert_eq!(encoded.into_frame().as_ptr(), frame.as_ptr());
        let encoded = Encoded::of_frame(frame, Bytes::from_static(b"own"));
        assert_eq!((encoded.encoded_len(), encoded.encode_to_vec()), (6, b"allown".to_vec()));
        assert_eq!(encoded.into_frame(), b"\0\0\0\0\x06allown"[..]);
        assert_eq!(Encoded::from(Bytes::from_static(b"one")).into_frame(), b"\0\0\0\0\x03one"[..]);
    }
}
