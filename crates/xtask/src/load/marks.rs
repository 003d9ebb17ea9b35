//! Rows that say when they were sent, and whoever looks for them in what arrives.
//!
//! Owns: the mark, and a client over each of our own transports that does nothing but look for it.

use super::stage::Server;
use anyhow::{Result, bail};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

/// Begins what a row says of when it was sent; a digit for each place follows.
pub const MARK: &str = "sent-at-";
pub const DIGITS: usize = 20;
/// How long the first words of a connection may take.
const GREETING: Duration = Duration::from_secs(30);

/// What a client has seen: the nanoseconds between a row's mark and its arrival.
pub type Seen = Receiver<u64>;

/// How a client is told.
#[derive(Clone, Copy)]
pub enum Door {
    Sse,
    WebSocket,
    SocketIo,
}

impl Door {
    pub const ALL: [Self; 3] = [Self::Sse, Self::WebSocket, Self::SocketIo];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sse => "SSE",
            Self::WebSocket => "WebSocket",
            Self::SocketIo => "Socket.IO",
        }
    }

    /// A client of `topic` that looks for marks from now on.
    pub fn follow(self, server: &Server, topic: &str) -> Result<Follower> {
        let mut stream = TcpStream::connect(server.process.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GREETING))?;
        let token = &server.token;
        match self {
            Self::Sse => {
                let path = format!("/v1/topics/{topic}/events?from=latest");
                let more = format!("Accept: text/event-stream\r\nAuthorization: Bearer {token}\r\n");
                request(&mut stream, &path, &more, "200")?;
            }
            Self::WebSocket => {
                upgrade(&mut stream, "/v1/ws", token)?;
                say(
                    &mut stream,
                    &format!(r#"{{"op":"subscribe","ref":"1","topic":"{topic}","from":"latest"}}"#),
                )?;
                until(&mut stream, "\"subscribed\"")?;
            }
            Self::SocketIo => {
                upgrade(&mut stream, "/socket.io/?EIO=4&transport=websocket", token)?;
                until(&mut stream, "\"sid\"")?;
                say(&mut stream, &format!(r#"40{{"token":"{token}"}}"#))?;
                until(&mut stream, "\"connected\"")?;
            }
        }
        stream.set_read_timeout(None)?;
        Ok(Follower { seen: watch(stream.try_clone()?).0, stream })
    }
}

/// A client, until it is dropped.
pub struct Follower {
    pub seen: Seen,
    stream: TcpStream,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Reads until `input` ends, and tells of each mark in it; of one that comes several times in a row, once, unless it is
/// nothing but zeros.
pub fn watch(mut input: impl Read + Send + 'static) -> (Seen, Arc<AtomicU64>) {
    let (tx, rx) = channel();
    let rows = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rows);
    std::thread::spawn(move || {
        let (mut kept, mut part, mut last) = (Vec::new(), vec![0; 256 << 10], 0);
        while let Ok(n @ 1..) = input.read(&mut part) {
            let now = now_ns();
            kept.extend_from_slice(&part[..n]);
            let mut from = 0;
            while let Some(at) = find(&kept[from..]) {
                let digits = from + at + MARK.len();
                let Some(text) = kept.get(digits..digits + DIGITS) else { break };
                let sent: u64 = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(now);
                from = digits + DIGITS;
                if sent != 0 && sent == last {
                    continue;
                }
                last = sent;
                // Whoever counts only need not take them.
                let _ = tx.send(now.saturating_sub(sent));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let keep = kept.len().saturating_sub(MARK.len() + DIGITS).max(from);
            kept.drain(..keep);
        }
    });
    (rx, rows)
}

fn find(bytes: &[u8]) -> Option<usize> {
    let mark = MARK.as_bytes();
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == mark[0]) {
        if bytes[from + at..].starts_with(mark) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn request(stream: &mut TcpStream, path: &str, more: &str, status: &str) -> Result<()> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")?;
    let mut first = [0; 12];
    stream.read_exact(&mut first)?;
    if !first.ends_with(status.as_bytes()) {
        bail!("{path} was refused: {}", String::from_utf8_lossy(&first));
    }
    until(stream, "\r\n\r\n")
}

fn upgrade(stream: &mut TcpStream, path: &str, token: &str) -> Result<()> {
    let more = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n"
    );
    request(stream, path, &more, "101")
}

/// Reads up to the end of `text`, and no further.
fn until(stream: &mut TcpStream, text: &str) -> Result<()> {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(text.as_bytes()) {
        stream.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    Ok(())
}

/// One frame of text, masked with zeros.
fn say(stream: &mut TcpStream, text: &str) -> Result<()> {
    let length = u16::try_from(text.len())?;
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    Ok(stream.write_all(&frame)?)
}
