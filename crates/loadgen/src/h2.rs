//! HTTP/2 as far as gRPC needs it (RFC 9113, RFC 7541): one connection, calls one after the other.
//!
//! Headers are sent as references to what the first call put into the table; those that arrive are not read: an
//! answer that is no refusal has a body. The receive windows are so large that they are hardly ever opened again.

use crate::socket::connect;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

const WINDOW_MAX: u32 = 0x7fff_ffff;
/// Of what arrives, so much is left unsaid; then the connection's window is opened again.
const UNSAID_MAX: u32 = 1 << 30;
const FRAME_BYTES_MAX: usize = 16 << 10;

/// One frame of a connection.
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
    /// With its head.
    pub bytes: usize,
}

/// The frame at the start of `data`, if it is whole.
pub fn first(data: &[u8]) -> Option<Frame<'_>> {
    let head = data.get(..9)?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & WINDOW_MAX;
    let payload = data.get(9..9 + len)?;
    Some(Frame { kind: head[3], flags: head[4], stream, payload, bytes: 9 + len })
}

/// Appends a frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends a gRPC message with its head.
pub fn message(out: &mut Vec<u8>, message: &[u8]) {
    out.push(0);
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
}

/// A connection for calls of one method.
pub struct Client {
    stream: TcpStream,
    address: String,
    path: String,
    /// The value of the header `authorization`, if there is one.
    authorization: Option<String>,
    buffer: Vec<u8>,
    /// Up to here the buffer has been read.
    read: usize,
    next: u32,
    /// What may be sent on the connection, on a new stream, and on the one that is open.
    windows: [i64; 3],
    unsaid: u32,
    /// Part of an answer that came while there was no room to send.
    early: Vec<u8>,
    is_greeted: bool,
}

/// What a call brought.
pub enum Event {
    Data,
    /// The call is over.
    End,
}

impl Client {
    /// `headers` as HTTP/1.1 has them; only that of the token is taken.
    pub fn open(address: &str, path: &str, headers: &[String]) -> Result<Self> {
        let authorization = headers.iter().find_map(|header| {
            let (name, value) = header.split_once(':')?;
            name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
        });
        let mut stream = connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // No push, and a window for each stream that nobody fills.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&WINDOW_MAX.to_be_bytes());
        frame(&mut hello, SETTINGS, 0, 0, &settings);
        frame(&mut hello, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - 65_535).to_be_bytes());
        stream.write_all(&hello)?;
        Ok(Self {
            stream,
            address: address.into(),
            path: path.into(),
            authorization,
            buffer: Vec::with_capacity(64 << 10),
            read: 0,
            next: 1,
            windows: [65_535; 3],
            unsaid: 0,
            early: Vec::new(),
            is_greeted: false,
        })
    }

    /// Appends the head of a new call.
    pub fn head(&mut self, out: &mut Vec<u8>) {
        let mut block = vec![0x83, 0x86];
        if self.next == 1 {
            // Each goes into the table, the path first.
            let fields = [(4, "", &*self.path), (1, "", &*self.address), (31, "", "application/grpc")];
            for (index, name, value) in fields.into_iter().chain([(0, "te", "trailers")]) {
                field(&mut block, index, name, value);
            }
            if let Some(authorization) = &self.authorization {
                field(&mut block, 23, "", authorization);
            }
        } else {
            let known = if self.authorization.is_some() { 5 } else { 4 };
            block.extend((0..known).rev().map(|i| 0x80 | (62 + i)));
        }
        self.windows[2] = self.windows[1];
        self.early.clear();
        frame(out, HEADERS, END_HEADERS, self.next, &block);
        self.next += 2;
    }

    /// The stream of the call whose head was made last.
    fn current(&self) -> u32 {
        self.next - 2
    }

    /// Sends `body` as a part of the call, waiting for room; `is_last` ends our side.
    pub fn send(&mut self, mut out: Vec<u8>, body: &[u8], is_last: bool) -> Result<()> {
        let mut rest = body;
        loop {
            let room = self.windows[0].min(self.windows[2]).max(0) as usize;
            let (part, later) = rest.split_at(rest.len().min(room).min(FRAME_BYTES_MAX));
            let is_end = is_last && later.is_empty();
            if !part.is_empty() || is_end {
                frame(&mut out, DATA, if is_end { END_STREAM } else { 0 }, self.current(), part);
                self.windows[0] -= part.len() as i64;
                self.windows[2] -= part.len() as i64;
            }
            rest = later;
            if rest.is_empty() {
                return self.stream.write_all(&out);
            }
            if part.is_empty() {
                self.stream.write_all(&out)?;
                out.clear();
                self.window_opens()?;
            }
        }
    }

    /// Reads until there is room to send; what is answered meanwhile is kept for [`Client::event`].
    fn window_opens(&mut self) -> Result<()> {
        let mut early = std::mem::take(&mut self.early);
        while self.windows[0].min(self.windows[2]) <= 0 {
            if let Some(Event::End) = self.step(&mut early)? {
                return Err(Error::other("the call ended before everything was sent"));
            }
        }
        self.early = early;
        Ok(())
    }

    fn more(&mut self) -> Result<()> {
        let mut part = [0u8; 64 << 10];
        match self.stream.read(&mut part)? {
            0 => Err(Error::other("closed before the answer was whole")),
            n => {
                self.buffer.extend_from_slice(&part[..n]);
                Ok(())
            }
        }
    }

    /// Waits for the next part of the answer, and appends it to `into`.
    pub fn event(&mut self, into: &mut Vec<u8>) -> Result<Event> {
        if !self.early.is_empty() {
            into.append(&mut self.early);
            return Ok(Event::Data);
        }
        loop {
            if let Some(event) = self.step(into)? {
                return Ok(event);
            }
        }
    }

    /// Takes one frame, waiting for it, and answers what has to be answered.
    fn step(&mut self, into: &mut Vec<u8>) -> Result<Option<Event>> {
        while first(&self.buffer[self.read..]).is_none() {
            self.buffer.drain(..self.read);
            self.read = 0;
            self.more()?;
        }
        let next = first(&self.buffer[self.read..]).expect("just seen");
        let (flags, payload) = (next.flags, next.payload);
        let mut said = Vec::new();
        let mut event = None;
        match next.kind {
            DATA => {
                self.unsaid += payload.len() as u32;
                into.extend_from_slice(payload);
                event = Some(Event::Data);
            }
            HEADERS if flags & END_STREAM != 0 => event = Some(Event::End),
            RESET | GOAWAY => return Err(Error::other("the server gave up")),
            SETTINGS if flags & ACK == 0 => {
                self.is_greeted = true;
                for setting in payload.chunks_exact(6).filter(|s| s[..2] == [0, 4]) {
                    let window = u32::from_be_bytes(setting[2..].try_into().expect("4 bytes"));
                    let grown = i64::from(window) - self.windows[1];
                    self.windows[1] += grown;
                    self.windows[2] += grown;
                }
                frame(&mut said, SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => frame(&mut said, PING, ACK, 0, payload),
            WINDOW_UPDATE => {
                let bytes = u32::from_be_bytes(payload.try_into().unwrap_or_default());
                match next.stream {
                    0 => self.windows[0] += i64::from(bytes),
                    stream if stream == self.current() => self.windows[2] += i64::from(bytes),
                    _ => {}
                }
            }
            _ => {}
        }
        self.read += next.bytes;
        if self.unsaid > UNSAID_MAX {
            frame(&mut said, WINDOW_UPDATE, 0, 0, &self.unsaid.to_be_bytes());
            frame(&mut said, WINDOW_UPDATE, 0, self.current(), &self.unsaid.to_be_bytes());
            self.unsaid = 0;
        }
        if !said.is_empty() {
            self.stream.write_all(&said)?;
        }
        Ok(event)
    }

    /// One call with one message and one answer.
    pub fn call(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let (mut out, mut body, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        self.head(&mut out);
        message(&mut body, request);
        self.send(out, &body, true)?;
        while let Event::Data = self.event(&mut answer)? {}
        // A refusal has no message.
        if answer.len() < 5 { Err(Error::other("the call was refused")) } else { Ok(answer.split_off(5)) }
    }

    /// The socket, and what has been received and not been read.
    pub fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer.split_off(self.read))
    }

    /// Reads the server's settings, which come first: until they are known little may be sent.
    pub fn take_settings(&mut self) -> Result<()> {
        while !self.is_greeted {
            self.step(&mut Vec::new())?;
        }
        Ok(())
    }
}

/// Appends a header that goes into the table; `index` names it, or `name` where that is 0.
fn field(block: &mut Vec<u8>, index: u8, name: &str, value: &str) {
    block.push(0x40 | index);
    if index == 0 {
        block.push(name.len() as u8);
        block.extend_from_slice(name.as_bytes());
    }
    let len = value.len();
    if len < 127 {
        block.push(len as u8);
    } else {
        block.push(127);
        let mut left = len - 127;
        while left >= 128 {
            block.push(left as u8 | 0x80);
            left >>= 7;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(value.as_bytes());
}
