//! Bytes of the server, read from front to back.
//!
//! Never: panics on what a server sends, or allocates by a length that it has only claimed.

/// Bytes that are not what the format says. Carries what was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not what the format says")]
pub struct Malformed(pub &'static str);

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed("a length"))?;
        self.0 = rest;
        Ok(head)
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// A number of up to eight bytes, the least significant first.
    pub fn little(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// A number of up to eight bytes, the most significant first.
    pub fn big(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// A number whose first byte tells how many bytes it has.
    pub fn length(&mut self) -> Result<usize, Malformed> {
        let n = match self.byte()? {
            n @ 0..=250 => u64::from(n),
            252 => self.little(2)?,
            253 => self.little(3)?,
            254 => self.little(8)?,
            _ => return Err(Malformed("a packed number")),
        };
        usize::try_from(n).map_err(|_| Malformed("a packed number"))
    }

    /// Bytes after their length.
    pub fn packed(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.length()?;
        self.take(len)
    }

    /// Bytes after a length of so many bytes.
    pub fn prefixed(&mut self, prefix: u8) -> Result<&'a [u8], Malformed> {
        let len = self.little(usize::from(prefix))?;
        self.take(usize::try_from(len).map_err(|_| Malformed("a length"))?)
    }
}
