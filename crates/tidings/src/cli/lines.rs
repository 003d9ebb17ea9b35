//! The lines of stdin, a bounded number at a time.
//!
//! Owns: the thread that waits for input. Backpressure: it waits when as many lines are read ahead as fit.

use anyhow::{Result, bail};
use std::io::{BufRead, Read as _};
use tokio::sync::mpsc;

/// A longer line is no event that any server takes.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Lines read ahead, beside the batch that is on its way.
const AHEAD: usize = 1000;

/// One line, without its end.
pub struct Line {
    /// 1, 2, 3 ...
    pub number: u64,
    pub text: String,
    /// Bytes it took in the input, its end included.
    pub bytes: u64,
}

pub struct Lines {
    rx: mpsc::Receiver<Result<Line>>,
    /// Taken out of the queue, but beyond what the batch may hold.
    next: Option<Line>,
    broken: Option<anyhow::Error>,
}

impl Lines {
    /// Starts to read `input` on a thread of its own, which ends with the process at the latest.
    pub fn of(input: impl std::io::Read + Send + 'static) -> Self {
        let (tx, rx) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            let mut input = std::io::BufReader::with_capacity(256 << 10, input);
            let mut number = 0;
            while let Some(line) = line(&mut input, &mut number).transpose() {
                let is_last = line.is_err();
                if tx.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        Self { rx, next: None, broken: None }
    }

    /// The next lines: at least one, then those already there, up to `lines_max` and about `bytes_max`.
    /// Empty at the end. A line that cannot be read is an error only when all before it have been given out.
    pub async fn batch(&mut self, lines_max: usize, bytes_max: u64) -> Result<Vec<Line>> {
        let mut batch: Vec<Line> = Vec::new();
        let mut bytes = 0;
        while batch.len() < lines_max && bytes < bytes_max {
            if let Some(error) = self.broken.take() {
                if batch.is_empty() {
                    return Err(error);
                }
                self.broken = Some(error);
                break;
            }
            let next = match self.next.take() {
                Some(line) => Some(Ok(line)),
                None if batch.is_empty() => self.rx.recv().await,
                // What is there now: who types lines by hand wants to see each at once.
                None => self.rx.try_recv().ok(),
            };
            match next {
                None => break,
                Some(Err(error)) => self.broken = Some(error),
                Some(Ok(line)) if !batch.is_empty() && bytes + line.bytes > bytes_max => {
                    self.next = Some(line);
                    break;
                }
                Some(Ok(line)) => {
                    bytes += line.bytes;
                    batch.push(line);
                }
            }
        }
        Ok(batch)
    }
}

fn line(input: &mut impl BufRead, number: &mut u64) -> Result<Option<Line>> {
    let mut bytes = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    *number += 1;
    if bytes.len() as u64 > LINE_BYTES_MAX {
        bail!("line {number} is longer than {LINE_BYTES_MAX} bytes (event_too_large)");
    }
    let read = bytes.len() as u64;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(Line { number: *number, text, bytes: read })),
        Err(e) => bail!(
            "line {number} is not valid UTF-8 after byte {} (utf8_invalid); convert the input first, for example with iconv",
            e.utf8_error().valid_up_to()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_in_bounded_batches() {
        let mut lines = Lines::of(&b"one\r\n\ntwo\nlast"[..]);
        let mut all = Vec::new();
        loop {
            let batch = lines.batch(2, 8).await.unwrap();
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= 2);
            all.extend(batch.into_iter().map(|l| (l.number, l.text, l.bytes)));
        }
        let expected = [(1, "one", 5), (2, "", 1), (3, "two", 4), (4, "last", 4)];
        assert_eq!(all, expected.map(|(n, t, b)| (n, t.to_owned(), b)));
    }

    #[tokio::test]
    async fn a_bad_line_is_told_after_the_good_ones() {
        let mut lines = Lines::of(&b"good\n\xff\xfe\nnever\n"[..]);
        let mut good = 0;
        let error = loop {
            match lines.batch(10, 1000).await {
                Ok(batch) => good += batch.len(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(good == 1 && error.contains("line 2") && error.contains("utf8_invalid"), "{good} {error}");
    }
}
