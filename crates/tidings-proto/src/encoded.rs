//! A message that is bytes already.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType};

/// A message's bytes: those made once for everybody, and those of this one reader behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    pub shared: Bytes,
    pub own: Bytes,
}

impl From<Bytes> for Encoded {
    fn from(shared: Bytes) -> Self {
        Self { shared, own: Bytes::new() }
    }
}

impl prost::Message for Encoded {
    fn encode_raw(&self, out: &mut impl BufMut) {
        out.put_slice(&self.shared);
        out.put_slice(&self.own);
    }

    fn encoded_len(&self) -> usize {
        self.shared.len() + self.own.len()
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
