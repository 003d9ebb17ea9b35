//! Takes the framing of `Transfer-Encoding: chunked` out of a byte stream, wherever it was cut.

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within the line that tells the size; extensions after `;` are passed over.
    Size {
        value: usize,
        in_extension: bool,
    },
    Data {
        left: usize,
    },
    /// The line end after a chunk's data.
    DataEnd,
    /// After the last chunk: trailers up to an empty line.
    Trailer {
        line_bytes: usize,
    },
    Over,
}

pub struct Chunks(State);

impl Default for Chunks {
    fn default() -> Self {
        Self(State::Size { value: 0, in_extension: false })
    }
}

impl Chunks {
    /// Moves the content in `data` to its front and returns how many bytes it has.
    pub fn strip(&mut self, data: &mut [u8]) -> usize {
        let (mut read, mut written) = (0, 0);
        while read < data.len() {
            let byte = data[read];
            self.0 = match self.0 {
                State::Data { left } => {
                    let take = left.min(data.len() - read);
                    data.copy_within(read..read + take, written);
                    (read, written) = (read + take, written + take);
                    if take == left { State::DataEnd } else { State::Data { left: left - take } }
                }
                State::Over => break,
                state => {
                    read += 1;
                    state.step(byte)
                }
            };
        }
        written
    }

    pub fn is_over(&self) -> bool {
        self.0 == State::Over
    }
}

impl State {
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Size { value: 0, .. } if byte == b'\n' => Self::Trailer { line_bytes: 0 },
            Self::Size { value, .. } if byte == b'\n' => Self::Data { left: value },
            Self::Size { value, in_extension } => match char::from(byte).to_digit(16) {
                Some(digit) if !in_extension => {
                    Self::Size { value: value.saturating_mul(16) + digit as usize, in_extension }
                }
                _ => Self::Size { value, in_extension: in_extension || byte == b';' },
            },
            Self::DataEnd if byte == b'\n' => Self::Size { value: 0, in_extension: false },
            Self::Trailer { line_bytes: 0 } if byte == b'\n' => Self::Over,
            Self::Trailer { .. } if byte == b'\n' => Self::Trailer { line_bytes: 0 },
            Self::Trailer { line_bytes } => {
                Self::Trailer { line_bytes: line_bytes + usize::from(byte != b'\r') }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_out_whole_however_it_was_cut() {
        let wire = b"5\r\nhello\r\n1a;x=1\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\ntrailer: 1\r\n\r\n";
        for step in 1..wire.len() {
            let (mut chunks, mut out) = (Chunks::default(), vec![]);
            for part in wire.chunks(step) {
                assert!(!chunks.is_over());
                let mut part = part.to_vec();
                let len = chunks.strip(&mut part);
                out.extend_from_slice(&part[..len]);
            }
            assert_eq!(out, b"helloabcdefghijklmnopqrstuvwxyz", "step {step}");
            assert!(chunks.is_over());
        }
    }
}
