//! Server-sent events, as a browser reads them.

/// One block of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The cursor behind this block.
    pub id: Option<String>,
    pub event: Option<String>,
    /// Lines joined; `None` if the block has no data.
    pub data: Option<String>,
    /// When to come back after a disconnect, in milliseconds.
    pub retry_ms: Option<u64>,
}

/// Takes bytes as they come and gives whole frames.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Up to here there is no end of a line.
    searched: usize,
    frame: Frame,
}

impl Reader {
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole frame; comments are skipped.
    pub fn next(&mut self) -> Option<Frame> {
        let mut start = 0;
        let mut done = None;
        while done.is_none() {
            let from = start.max(self.searched);
            let Some(end) = self.bytes[from..].iter().position(|b| *b == b'\n').map(|i| from + i) else {
                self.searched = self.bytes.len();
                break;
            };
            let line = &self.bytes[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                done = Some(std::mem::take(&mut self.frame)).filter(|f| *f != Frame::default());
            } else {
                self.frame.line(&String::from_utf8_lossy(line));
            }
            start = end + 1;
        }
        self.bytes.drain(..start);
        self.searched = self.searched.saturating_sub(start);
        done
    }
}

impl Frame {
    fn line(&mut self, line: &str) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.event = Some(value.to_owned()),
            "retry" => self.retry_ms = value.parse().ok(),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_the_bytes_are_cut() {
        let stream = ": hello\n\nid: c1\nevent: placed\ndata: {\"a\":\ndata: 1}\n\nid: c2\n\nretry: 50\r\ndata: é\r\n\r\n";
        let frame = |id: Option<&str>, event: Option<&str>, data: Option<&str>, retry_ms| Frame {
            id: id.map(Into::into),
            event: event.map(Into::into),
            data: data.map(Into::into),
            retry_ms,
        };
        let expected = [
            frame(Some("c1"), Some("placed"), Some("{\"a\":\n1}"), None),
            frame(Some("c2"), None, None, None),
            frame(None, None, Some("é"), Some(50)),
        ];
        for size in 1..stream.len() {
            let mut reader = Reader::default();
            let mut frames = Vec::new();
            for chunk in stream.as_bytes().chunks(size) {
                reader.push(chunk);
                frames.extend(std::iter::from_fn(|| reader.next()));
            }
            assert_eq!(frames, expected, "cut every {size} bytes");
        }
    }
}
