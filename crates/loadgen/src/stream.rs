//! Many events in one request: NDJSON over one connection, acknowledged at its end.

use crate::args::{Args, die};
use crate::clock::{now_ns, seconds_since};
use crate::cost::Meter;
use crate::histogram::Histogram;
use crate::http;
use crate::sample::Sample;
use crate::socket::connect;
use crate::turns::{self, Work};
use std::io::Write;
use std::time::Duration;

/// Bytes written at once.
const PART_BYTES: usize = 128 << 10;
/// A run never takes longer than this, whatever the server does.
const SECONDS_MAX: f64 = 900.0;

#[derive(Clone)]
struct Plan {
    address: String,
    path: String,
    headers: Vec<String>,
    size: usize,
    /// Keys that events are spread over; 0: events without key.
    keys: u64,
    extent: Extent,
}

#[derive(Clone, Copy)]
enum Extent {
    /// So many lines, announced by Content-Length.
    Lines(u64),
    /// As many lines as go in this time, in chunks.
    Seconds(f64),
}

pub fn command(args: &Args) {
    let extent = match args.optional("count") {
        Some(_) => Extent::Lines(args.number("count", 0)),
        None => Extent::Seconds(args.number("secs", 4.0)),
    };
    let plan = Plan {
        address: args.needed("addr"),
        path: args.text("pub-path", "/"),
        headers: args.all("pub-header"),
        size: args.number("size", 250),
        keys: args.number("keys", 0),
        extent,
    };
    let pids = args.pids("pid");
    let yardstick = args.optional("vs").map(|address| -> Work<'_> {
        let Extent::Lines(_) = extent else { die("--vs needs --count: the yardstick reads no chunks") };
        let plan = Plan { address, path: "/".into(), headers: vec![], ..plan.clone() };
        let pids = args.pids("vs-pid");
        Box::new(move || plan.run(&pids))
    });
    turns::measure(args, "stream", "events", Box::new(|| plan.run(&pids)), yardstick);
}

impl Plan {
    /// One request; the sample's latency is that of the whole.
    fn run(&self, pids: &[u32]) -> Sample {
        let meter = Meter::start(pids);
        let (sent, outcome) = self.send();
        let mut latency = Histogram::default();
        latency.add(now_ns() - meter.begun());
        let cost = meter.stop();
        match outcome {
            Ok(()) => Sample { published: sent, ..Sample::new(sent, cost.seconds, &latency, cost) },
            Err(error) => {
                eprintln!("stream: {error}");
                Sample { errors: 1, ..Sample::new(0, cost.seconds, &latency, cost) }
            }
        }
    }

    /// Writes the body while the response is read, so that neither side waits for the other.
    fn send(&self) -> (u64, std::io::Result<()>) {
        let mut lines = Lines::new(self.size, self.keys);
        let outcome = (|| {
            let mut stream = connect(&self.address)?;
            let mut reading = stream.try_clone()?;
            reading.set_read_timeout(Some(Duration::from_secs_f64(SECONDS_MAX)))?;
            stream.set_write_timeout(Some(Duration::from_secs(60)))?;
            let mut head = http::head("POST", &self.address, &self.path, &self.headers);
            head.push_str("Content-Type: application/x-ndjson\r\n");
            head.push_str(&match self.extent {
                Extent::Lines(count) => format!("Content-Length: {}\r\n\r\n", count * lines.line_bytes()),
                Extent::Seconds(_) => "Transfer-Encoding: chunked\r\n\r\n".into(),
            });
            let reader = std::thread::spawn(move || http::read_response(&mut reading, &mut vec![], 2000));
            stream.write_all(head.as_bytes())?;
            let written = self.write_body(&mut stream, &mut lines);
            // A refusal explains itself better than the broken pipe that follows it.
            let (status, body, _) = reader.join().expect("reading does not panic")?;
            if !(200..300).contains(&status) {
                return Err(std::io::Error::other(format!("{status} {}", String::from_utf8_lossy(&body))));
            }
            written
        })();
        (lines.made, outcome)
    }

    fn write_body(&self, stream: &mut impl Write, lines: &mut Lines) -> std::io::Result<()> {
        let begun = now_ns();
        loop {
            let room = PART_BYTES as u64 / lines.line_bytes().max(1);
            match self.extent {
                Extent::Lines(count) if lines.made >= count => return Ok(()),
                Extent::Lines(count) => stream.write_all(lines.next(room.min(count - lines.made)))?,
                Extent::Seconds(seconds) if seconds_since(begun) >= seconds => {
                    return stream.write_all(b"0\r\n\r\n");
                }
                Extent::Seconds(_) => {
                    let part = lines.next(room.max(1));
                    stream.write_all(format!("{:x}\r\n", part.len()).as_bytes())?;
                    stream.write_all(part)?;
                    stream.write_all(b"\r\n")?;
                }
            }
        }
    }
}

/// Lines of equal length; only the key changes from one to the next.
struct Lines {
    template: Vec<u8>,
    /// Where the key's digits stand in the template.
    key_at: usize,
    keys: u64,
    made: u64,
    part: Vec<u8>,
}

const KEY_DIGITS: usize = 9;

impl Lines {
    fn new(size: usize, keys: u64) -> Self {
        let begin = if keys > 0 { "{\"key\":\"k" } else { "{" };
        let key = if keys > 0 { "000000000\"," } else { "" };
        let template = format!("{begin}{key}\"name\":\"x\",\"data\":\"{}\"}}\n", "x".repeat(size));
        Self { template: template.into_bytes(), key_at: begin.len(), keys, made: 0, part: vec![] }
    }

    fn line_bytes(&self) -> u64 {
        self.template.len() as u64
    }

    fn next(&mut self, count: u64) -> &[u8] {
        let len = self.template.len();
        let bytes = len * count as usize;
        while self.part.len() < bytes {
            self.part.extend_from_slice(&self.template);
        }
        for i in 0..if self.keys > 0 { count } else { 0 } {
            // A multiplicative hash spreads neighbours, as real keys are spread.
            let mut key = (self.made + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.keys;
            let at = i as usize * len + self.key_at;
            for digit in self.part[at..at + KEY_DIGITS].iter_mut().rev() {
                *digit = b'0' + (key % 10) as u8;
                key /= 10;
            }
        }
        self.made += count;
        &self.part[..bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_equal_length_and_keys_within_their_number() {
        let mut lines = Lines::new(40, 1000);
        let len = lines.line_bytes() as usize;
        let text = String::from_utf8([lines.next(3).to_vec(), lines.next(2).to_vec()].concat()).unwrap();
        assert_eq!((text.len(), lines.made), (5 * len, 5));
        let mut keys: Vec<&str> = text.lines().map(|line| &line[8..18]).collect();
        assert!(keys.iter().all(|key| key.starts_with("k000000")), "{keys:?}");
        keys.dedup();
        assert!(keys.len() > 3, "{keys:?}");
        assert!(
            String::from_utf8_lossy(Lines::new(3, 0).next(1))
                .starts_with("{\"name\":\"x\",\"data\":\"xxx\"}\n")
        );
    }
}
