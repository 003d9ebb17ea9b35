//! `tidings.v1.Events` as far as a load generator speaks it, and what is measured with it: one stream of publishes,
//! and pages of a topic one after the other.

use crate::args::{Args, die};
use crate::clock::{now_ns, seconds_since};
use crate::cost::Meter;
use crate::h2::{Client, Event, message};
use crate::histogram::Histogram;
use crate::sample::Sample;
use crate::turns::{self, Work};
use std::io::{Error, Result};

pub const PUBLISH: &str = "/tidings.v1.Events/Publish";
pub const SUBSCRIBE: &str = "/tidings.v1.Events/Subscribe";
const PUBLISH_STREAM: &str = "/tidings.v1.Events/PublishStream";
const PULL: &str = "/tidings.v1.Events/Pull";

/// Requests sent and not yet acknowledged, at most.
const AHEAD_MAX: u64 = 2000;

/// Appends a text field of a message.
fn text(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    let mut len = value.len();
    while len >= 128 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(value);
}

/// A publish of one event.
pub fn publish(topic: &str, data: &str) -> Vec<u8> {
    let (mut request, mut event) = (Vec::new(), Vec::new());
    text(&mut event, 4, b"x");
    text(&mut event, 9, data.as_bytes());
    text(&mut request, 1, topic.as_bytes());
    text(&mut request, 2, &event);
    request
}

/// A subscription from now on.
pub fn subscribe(topic: &str) -> Vec<u8> {
    let mut request = Vec::new();
    text(&mut request, 1, topic.as_bytes());
    request
}

fn page(topic: &str, cursor: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    text(&mut request, 1, topic.as_bytes());
    text(&mut request, 2, cursor);
    // limit: 1000
    request.extend_from_slice(&[3 << 3, 0xe8, 0x07]);
    request
}

/// The fields of a message: number, value of a number, bytes of anything else.
fn fields(mut data: &[u8], mut found: impl FnMut(u64, u64, &[u8])) -> Option<()> {
    fn number(data: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = data.split_first()?;
            *data = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    while !data.is_empty() {
        let key = number(&mut data)?;
        match key & 7 {
            0 => found(key >> 3, number(&mut data)?, &[]),
            2 => {
                let len = number(&mut data)? as usize;
                let (part, rest) = data.split_at_checked(len)?;
                found(key >> 3, 0, part);
                data = rest;
            }
            _ => return None,
        }
    }
    Some(())
}

struct Plan {
    address: String,
    headers: Vec<String>,
    topic: String,
    size: usize,
    seconds: f64,
    /// Events of one request.
    each: u64,
}

impl Plan {
    fn from_args(args: &Args) -> Self {
        Self {
            address: args.needed("addr"),
            headers: args.all("pub-header"),
            topic: args.text("topic", "t"),
            size: args.number("size", 250),
            seconds: args.number("secs", 4.0),
            each: args.number("each", 1).max(1),
        }
    }

    fn open(&self, path: &str) -> Result<Client> {
        Client::open(&self.address, path, &self.headers)
    }

    fn run(&self, pids: &[u32], work: impl Fn(&Self) -> Result<u64>) -> Sample {
        let meter = Meter::start(pids);
        let done = work(self);
        let mut latency = Histogram::default();
        latency.add(now_ns() - meter.begun());
        let cost = meter.stop();
        match done {
            Ok(events) => Sample { published: events, ..Sample::new(events, cost.seconds, &latency, cost) },
            Err(error) => {
                eprintln!("rpc: {error}");
                Sample { errors: 1, ..Sample::new(0, cost.seconds, &latency, cost) }
            }
        }
    }

    /// One stream; ends when everything sent is acknowledged.
    fn publish_stream(&self) -> Result<u64> {
        let mut client = self.open(PUBLISH_STREAM)?;
        client.take_settings()?;
        let request = {
            let (mut event, mut request) = (Vec::new(), Vec::new());
            text(&mut event, 4, b"x");
            text(&mut event, 9, format!("\"{}\"", "x".repeat(self.size)).as_bytes());
            text(&mut request, 1, self.topic.as_bytes());
            (0..self.each).for_each(|_| text(&mut request, 2, &event));
            request
        };
        let mut one = Vec::new();
        message(&mut one, &request);
        let at_once = (64 << 10) / one.len() as u64 + 1;
        let part = one.repeat(at_once as usize);
        let (begun, mut sent) = (now_ns(), 0u64);
        let mut answers = Answers::default();
        let mut out = Vec::new();
        client.head(&mut out);
        loop {
            let is_over = seconds_since(begun) >= self.seconds;
            client.send(std::mem::take(&mut out), if is_over { &[] } else { &part }, is_over)?;
            sent += if is_over { 0 } else { at_once };
            while is_over || sent - answers.requests > AHEAD_MAX {
                if answers.requests == sent && is_over {
                    return Ok(sent * self.each);
                }
                answers.take(&mut client)?;
            }
        }
    }

    /// Reads the topic from its beginning, again and again.
    fn pull(&self) -> Result<u64> {
        let mut client = self.open(PULL)?;
        client.take_settings()?;
        let (begun, mut events, mut cursor) = (now_ns(), 0, Vec::new());
        while seconds_since(begun) < self.seconds {
            let answer = client.call(&page(&self.topic, &cursor))?;
            let (mut found, mut next, mut more) = (0, Vec::new(), false);
            fields(&answer, |field, value, part| match field {
                1 => found += 1,
                2 => next = part.to_vec(),
                5 => more = value == 1,
                _ => {}
            })
            .ok_or_else(|| Error::other("an answer that is no page"))?;
            events += found;
            cursor = if more { next } else { Vec::new() };
        }
        Ok(events)
    }
}

/// The acknowledgements of a stream.
#[derive(Default)]
struct Answers {
    requests: u64,
    carry: Vec<u8>,
}

impl Answers {
    /// Waits for the next part and reads what is whole.
    fn take(&mut self, client: &mut Client) -> Result<()> {
        if let Event::End = client.event(&mut self.carry)? {
            return Err(Error::other("the stream ended before everything was acknowledged"));
        }
        let mut at = 0;
        while let Some(head) = self.carry.get(at..at + 5) {
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let Some(answer) = self.carry.get(at + 5..at + 5 + len) else { break };
            fields(answer, |field, value, _| {
                if field == 1 {
                    self.requests = value;
                }
            })
            .ok_or_else(|| Error::other("an answer that is no acknowledgement"))?;
            at += 5 + len;
        }
        self.carry.drain(..at);
        Ok(())
    }
}

pub fn command(args: &Args) {
    let (plan, pids) = (Plan::from_args(args), args.pids("pid"));
    let work: fn(&Plan) -> Result<u64> = match args.text("what", "stream").as_str() {
        "stream" => Plan::publish_stream,
        "pull" => Plan::pull,
        other => die(format!("--what is stream or pull, not {other}")),
    };
    let server: Work<'_> = Box::new(move || plan.run(&pids, work));
    turns::measure(args, "rpc", "events", server, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_field_by_field() {
        let long = "x".repeat(300);
        let mut events = 0;
        fields(&publish("t", &long), |field, _, part| match field {
            1 => assert_eq!(part, b"t"),
            2 => fields(part, |field, _, part| {
                events += 1;
                assert_eq!(part.len(), if field == 9 { 300 } else { 1 });
            })
            .unwrap(),
            _ => panic!("field {field}"),
        })
        .unwrap();
        assert_eq!(events, 2);
        let mut limit = 0;
        fields(&page("t", b""), |field, value, _| limit = if field == 3 { value } else { limit }).unwrap();
        assert_eq!(limit, 1000);
        assert!(fields(&[0x0a, 9, 1], |_, _, _| {}).is_none());
    }
}
