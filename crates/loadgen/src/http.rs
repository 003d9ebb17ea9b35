//! HTTP/1.1 as far as a load generator speaks it: one request at a time on a keep-alive connection.

use crate::chunks::Chunks;
use crate::socket::connect;
use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Where `needle` begins in `data`.
pub fn find(data: &[u8], needle: &[u8]) -> Option<usize> {
    // SAFETY: both pointers and lengths describe their slices; what is found lies within `data`.
    let found =
        unsafe { libc::memmem(data.as_ptr().cast(), data.len(), needle.as_ptr().cast(), needle.len()) };
    (!found.is_null()).then(|| found as usize - data.as_ptr() as usize)
}

/// The bytes of a request with a body; the type is JSON unless a header says otherwise.
pub fn post(address: &str, path: &str, headers: &[String], body: &str) -> Vec<u8> {
    let mut request = head("POST", address, path, headers);
    if !headers.iter().any(|h| h.to_ascii_lowercase().starts_with("content-type:")) {
        request.push_str("Content-Type: application/json\r\n");
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    request.into_bytes()
}

/// The first lines of a request, without the empty line that ends them.
pub fn head(method: &str, address: &str, path: &str, headers: &[String]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head
}

/// The head of a response.
pub struct Head {
    pub status: u16,
    pub content_length: Option<usize>,
    pub is_chunked: bool,
    pub closes: bool,
    /// Bytes of the head, with the empty line.
    pub bytes: usize,
}

impl Head {
    /// Reads the head at the start of `data`, if it is whole.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let bytes = find(data, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&data[..bytes]).to_ascii_lowercase();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Some(Self {
            status: text.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0),
            content_length: field("content-length:").and_then(|len| len.parse().ok()),
            is_chunked: field("transfer-encoding:").is_some_and(|value| value.contains("chunked")),
            closes: field("connection:").is_some_and(|value| value.contains("close")),
            bytes,
        })
    }
}

/// A connection that answers one request after the other.
pub struct Client {
    stream: TcpStream,
    address: String,
    buffer: Vec<u8>,
    /// The server said that it closes: open anew before the next request.
    is_over: bool,
}

impl Client {
    pub fn open(address: &str) -> Result<Self> {
        let stream = connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream, address: address.into(), buffer: Vec::with_capacity(4096), is_over: false })
    }

    /// Sends the bytes of one request and returns the status and the body of the response.
    pub fn call(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        if self.is_over {
            *self = Self::open(&self.address)?;
        }
        self.stream.write_all(request)?;
        let (status, body, closes) = read_response(&mut self.stream, &mut self.buffer, usize::MAX)?;
        self.is_over = closes;
        Ok((status, body))
    }
}

/// Reads one response: its status, the last `keep` bytes of its body, and whether the server closes.
pub fn read_response(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    keep: usize,
) -> Result<(u16, Vec<u8>, bool)> {
    let mut part = [0u8; 16384];
    buffer.clear();
    let head = loop {
        if let Some(head) = Head::parse(buffer) {
            break head;
        }
        buffer.extend_from_slice(read_some(stream, &mut part)?);
    };
    let mut chunks = head.is_chunked.then(Chunks::default);
    let mut body = Vec::new();
    let mut bytes = 0;
    let mut add = |data: &mut [u8]| {
        let len = chunks.as_mut().map_or(data.len(), |chunks| chunks.strip(data));
        bytes += len;
        body.extend_from_slice(&data[..len]);
        if body.len() > keep {
            body.drain(..body.len() - keep);
        }
        match &chunks {
            Some(chunks) => chunks.is_over(),
            None => bytes >= head.content_length.unwrap_or(0),
        }
    };
    let mut is_whole = add(&mut buffer[head.bytes..]) || matches!(head.status, 204 | 304);
    while !is_whole {
        let len = read_some(stream, &mut part)?.len();
        is_whole = add(&mut part[..len]);
    }
    Ok((head.status, body, head.closes))
}

fn read_some<'a>(stream: &mut TcpStream, part: &'a mut [u8]) -> Result<&'a [u8]> {
    match stream.read(part)? {
        0 => Err(Error::other("closed before the response was whole")),
        n => Ok(&part[..n]),
    }
}
