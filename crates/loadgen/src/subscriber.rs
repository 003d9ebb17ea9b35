//! A subscriber: opened with a blocking handshake, then read without waiting.

use crate::args::{Args, die};
use crate::chunks::Chunks;
use crate::clock::sleep_ms;
use crate::frame;
use crate::http::{self, Head, find};
use crate::marker::scan;
use crate::socket::{close, connect, send};
use crate::{h2, rpc};
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::os::fd::{IntoRawFd, RawFd};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Sse,
    WebSocket,
    Grpc,
}

/// How subscribers are opened. `{n}` in path, headers and frames is the subscriber's number.
#[derive(Clone)]
pub struct Plan {
    pub address: String,
    pub protocol: Protocol,
    pub path: String,
    pub headers: Vec<String>,
    /// WebSocket text frames to send first.
    pub send: Vec<String>,
    /// Text that says the subscription stands.
    pub ready: Option<String>,
}

impl Plan {
    pub fn from_args(args: &Args) -> Self {
        let protocol = match args.text("proto", "sse").as_str() {
            "sse" => Protocol::Sse,
            "ws" => Protocol::WebSocket,
            "grpc" => Protocol::Grpc,
            other => die(format!("--proto is sse, ws or grpc, not {other}")),
        };
        Self {
            address: args.needed("addr"),
            protocol,
            path: args.text("path", "/"),
            headers: args.all("header"),
            send: args.all("send"),
            ready: args.optional("ready"),
        }
    }

    /// The same at the yardstick.
    pub fn at_yardstick(&self, address: &str) -> Self {
        Self {
            address: address.into(),
            // It speaks no gRPC: a delivery there is compared with one over a WebSocket.
            protocol: if self.protocol == Protocol::Grpc { Protocol::WebSocket } else { self.protocol },
            path: "/".into(),
            headers: vec![],
            send: vec![],
            ready: None,
        }
    }

    /// Opens subscribers `from..to`; one that fails is tried once more after a short pause.
    pub fn open_all(&self, from: usize, to: usize) -> Vec<Subscriber> {
        let open = |number| {
            self.open(number).or_else(|first| {
                sleep_ms(200);
                self.open(number).map_err(|again| Error::other(format!("{first}; again: {again}")))
            })
        };
        (from..to).map(|n| open(n).unwrap_or_else(|error| die(format!("subscriber {n}: {error}")))).collect()
    }

    fn open(&self, number: usize) -> Result<Subscriber> {
        let fill = |text: &str| text.replace("{n}", &number.to_string());
        let headers: Vec<String> = self.headers.iter().map(|h| fill(h)).collect();
        if self.protocol == Protocol::Grpc {
            return self.call(&headers, &fill(&self.path));
        }
        let mut stream = connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        let mut request = http::head("GET", &self.address, &fill(&self.path), &headers);
        request.push_str(match self.protocol {
            Protocol::Sse => "Accept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n",
            Protocol::WebSocket => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            }
            Protocol::Grpc => "",
        });
        stream.write_all(request.as_bytes())?;
        let mut carry = Vec::new();
        let head = loop {
            if let Some(head) = Head::parse(&carry) {
                break head;
            }
            read_more(&mut stream, &mut carry)?;
        };
        let wanted = if self.protocol == Protocol::Sse { 200 } else { 101 };
        if head.status != wanted {
            return Err(Error::other(String::from_utf8_lossy(&carry).into_owned()));
        }
        carry.drain(..head.bytes);
        let mut chunks = head.is_chunked.then(Chunks::default);
        match self.protocol {
            Protocol::Sse => {
                strip_from(&mut chunks, &mut carry, 0);
                if let Some(ready) = &self.ready {
                    while find(&carry, ready.as_bytes()).is_none() {
                        let from = carry.len();
                        read_more(&mut stream, &mut carry)?;
                        strip_from(&mut chunks, &mut carry, from);
                    }
                }
            }
            Protocol::WebSocket => {
                for text in &self.send {
                    stream.write_all(&frame::of_client(frame::TEXT, fill(text).as_bytes()))?;
                }
                if let Some(ready) = &self.ready {
                    wait_for_frame(&mut stream, &mut carry, ready.as_bytes())?;
                }
            }
            Protocol::Grpc => {}
        }
        stream.set_nonblocking(true)?;
        let fd = stream.into_raw_fd();
        Ok(Subscriber { fd, protocol: self.protocol, carry, chunks, next_sequence: 0, is_closed: false })
    }

    /// One call on a connection of its own; `topic` is what the path names.
    fn call(&self, headers: &[String], topic: &str) -> Result<Subscriber> {
        let mut client = h2::Client::open(&self.address, rpc::SUBSCRIBE, headers)?;
        client.take_settings()?;
        let (mut head, mut body) = (Vec::new(), Vec::new());
        client.head(&mut head);
        h2::message(&mut body, &rpc::subscribe(topic));
        client.send(head, &body, true)?;
        // The first message says where the stream begins.
        if let h2::Event::End = client.event(&mut Vec::new())? {
            return Err(Error::other("the call was refused"));
        }
        let (stream, carry) = client.into_parts();
        stream.set_nonblocking(true)?;
        let (fd, protocol) = (stream.into_raw_fd(), self.protocol);
        Ok(Subscriber { fd, protocol, carry, chunks: None, next_sequence: 0, is_closed: false })
    }
}

fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<()> {
    let mut part = [0u8; 8192];
    match stream.read(&mut part)? {
        0 => Err(Error::other(format!("closed by the server after {:?}", String::from_utf8_lossy(into)))),
        _ if into.len() > 4 << 20 => Err(Error::other("the handshake does not end")),
        n => {
            into.extend_from_slice(&part[..n]);
            Ok(())
        }
    }
}

/// Takes the chunk framing out of `data[from..]`.
fn strip_from(chunks: &mut Option<Chunks>, data: &mut Vec<u8>, from: usize) {
    if let Some(chunks) = chunks {
        let len = chunks.strip(&mut data[from..]);
        data.truncate(from + len);
    }
}

/// Consumes whole frames until one contains `needle`; what follows it stays in `carry`.
fn wait_for_frame(stream: &mut TcpStream, carry: &mut Vec<u8>, needle: &[u8]) -> Result<()> {
    loop {
        while let Some((op, payload, bytes)) = frame::first(carry) {
            if op == frame::CLOSE {
                return Err(Error::other(format!("closed: {}", String::from_utf8_lossy(payload))));
            }
            let is_found = find(payload, needle).is_some();
            carry.drain(..bytes);
            if is_found {
                return Ok(());
            }
        }
        read_more(stream, carry)?;
    }
}

pub struct Subscriber {
    pub fd: RawFd,
    protocol: Protocol,
    /// Bytes of a frame or marker that is not whole yet.
    carry: Vec<u8>,
    chunks: Option<Chunks>,
    /// One above the newest sequence received in this run.
    pub next_sequence: u64,
    pub is_closed: bool,
}

impl Subscriber {
    /// Takes what arrived, answers pings, calls `found(sent_ns, sequence)` for every marker.
    pub fn feed(&mut self, data: &mut [u8], mut found: impl FnMut(u64, u64)) {
        let len = self.chunks.as_mut().map_or(data.len(), |chunks| chunks.strip(data));
        let joined;
        let data = if self.carry.is_empty() {
            &data[..len]
        } else {
            self.carry.extend_from_slice(&data[..len]);
            joined = std::mem::take(&mut self.carry);
            &joined[..]
        };
        let mut keep = 0;
        match self.protocol {
            Protocol::Sse => keep = scan(data, &mut found),
            Protocol::Grpc => {}
            Protocol::WebSocket => {
                while let Some((op, payload, bytes)) = frame::first(&data[keep..]) {
                    match op {
                        frame::PING => drop(send(self.fd, &frame::of_client(frame::PONG, payload))),
                        frame::CLOSE => self.is_closed = true,
                        frame::PONG => {}
                        _ => drop(scan(payload, &mut found)),
                    }
                    keep += bytes;
                }
            }
        }
        if self.protocol == Protocol::Grpc {
            while let Some(frame) = h2::first(&data[keep..]) {
                match frame.kind {
                    h2::DATA => drop(scan(frame.payload, &mut found)),
                    h2::PING if frame.flags & h2::ACK == 0 => {
                        let mut pong = Vec::new();
                        h2::frame(&mut pong, h2::PING, h2::ACK, 0, frame.payload);
                        send(self.fd, &pong);
                    }
                    h2::RESET | h2::GOAWAY => self.is_closed = true,
                    h2::HEADERS if frame.flags & h2::END_STREAM != 0 => self.is_closed = true,
                    _ => {}
                }
                keep += frame.bytes;
            }
        }
        if keep < data.len() {
            self.carry = data[keep..].to_vec();
        }
    }

    /// Closes the socket and counts no further.
    pub fn end(&mut self) {
        if self.fd >= 0 {
            close(self.fd);
            self.fd = -1;
        }
        self.is_closed = true;
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::payload;

    fn sequences(protocol: Protocol, is_chunked: bool, wire: &[u8], step: usize) -> Vec<u64> {
        let chunks = is_chunked.then(Chunks::default);
        let mut subscriber =
            Subscriber { fd: -1, protocol, carry: vec![], chunks, next_sequence: 0, is_closed: false };
        let mut found = vec![];
        for part in wire.chunks(step) {
            subscriber.feed(&mut part.to_vec(), |_, sequence| found.push(sequence));
        }
        found
    }

    #[test]
    fn websocket_frames_may_be_cut_anywhere() {
        let mut wire = vec![];
        for i in 0..3 {
            frame::of_server(&mut wire, frame::TEXT, payload(140, 5, i).as_bytes());
        }
        for step in [1usize, 2, 3, 7, 50, 143, 1000] {
            assert_eq!(sequences(Protocol::WebSocket, false, &wire, step), [0, 1, 2], "step {step}");
        }
    }

    #[test]
    fn messages_of_grpc_may_be_cut_anywhere() {
        let mut wire = vec![];
        for i in 0..3 {
            let mut body = vec![];
            h2::message(&mut body, payload(140, 5, i).as_bytes());
            h2::frame(&mut wire, h2::DATA, 0, 1, &body);
        }
        for step in [1usize, 2, 9, 14, 50, 154, 1000] {
            assert_eq!(sequences(Protocol::Grpc, false, &wire, step), [0, 1, 2], "step {step}");
        }
    }

    #[test]
    fn sse_may_be_cut_anywhere_and_chunks_may_split_a_marker() {
        let text: String =
            (0..3).map(|i| format!(": comment\nid: 1\ndata: {}\n\n", payload(100, 5, i))).collect();
        let chunked: String = text
            .as_bytes()
            .chunks(29)
            .map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
            .collect();
        for step in [1usize, 2, 5, 31, 64, 1000] {
            assert_eq!(sequences(Protocol::Sse, false, text.as_bytes(), step), [0, 1, 2], "step {step}");
            assert_eq!(sequences(Protocol::Sse, true, chunked.as_bytes(), step), [0, 1, 2], "step {step}");
        }
    }
}
