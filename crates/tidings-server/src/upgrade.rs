//! From an HTTP request to a WebSocket's bare socket.
//!
//! Owns: the handshake (RFC 6455, section 4.2), taking the socket from the HTTP library, and the memory between
//! the socket and the WebSocket library. Never: knows what is said over it.

use crate::Door;
use crate::conn::{Gone, Socket};
use crate::handover::Io;
use crate::transport::{Transport, Wire};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::net::UnixStream;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

/// Memory for reading that an idle connection keeps; larger frames take more while they arrive.
const READ_BUFFER_BYTES: usize = 512;

/// A request that asks for a WebSocket.
pub struct Upgrade {
    door: Door,
    accept: HeaderValue,
    upgraded: OnUpgrade,
}

impl Upgrade {
    /// `None` if the request asks for no WebSocket, or for another version.
    pub fn of(door: &Door, request: &mut Request) -> Option<Self> {
        let says = |name: header::HeaderName, word: &str| {
            let value = request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
        };
        let is_upgrade = says(header::CONNECTION, "upgrade")
            && says(header::UPGRADE, "websocket")
            && says(header::SEC_WEBSOCKET_VERSION, "13");
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade)?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64");
        Some(Self { door: door.clone(), accept, upgraded: hyper::upgrade::on(request) })
    }

    /// The answer, and the socket once that is on its way. With the socket come bytes that the client sent early.
    pub fn accept(self) -> (Response, impl Future<Output = Option<(Socket, Vec<u8>)>> + Send) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        let (door, upgraded) = (self.door, self.upgraded);
        (response, async move { take_socket(&door, upgraded.await.ok()?).ok() })
    }
}

/// The socket itself where it is plain, else one end of a pair whose other end the library encrypts.
/// With it come bytes that the client sent early; copied, since they lie in the library's large buffer.
fn take_socket(door: &Door, upgraded: hyper::upgrade::Upgraded) -> std::io::Result<(Socket, Vec<u8>)> {
    match upgraded.downcast::<TokioIo<Transport>>() {
        Ok(parts) => {
            let Transport { early, wire } = parts.io.into_inner();
            let socket = match wire {
                Wire::Plain(io) => Socket::Tcp(Io::into_tcp(io).ok_or(std::io::ErrorKind::NotConnected)?),
                Wire::Tls(tls) => pair(door, *tls)?,
            };
            Ok((socket, [parts.read_buf, early].concat()))
        }
        Err(upgraded) => Ok((pair(door, TokioIo::new(upgraded))?, Vec::new())),
    }
}

fn pair<T>(door: &Door, mut far: T) -> std::io::Result<Socket>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (ours, mut theirs) = UnixStream::pair()?;
    door.services.spawn("ws-tls", async move {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut far, &mut theirs, 1024, 8192).await;
    });
    Ok(Socket::Pair(ours))
}

/// Reads and makes frames; a message has at most `message_bytes`.
pub fn frames(message_bytes: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    WebSocketContext::new(Role::Server, Some(config))
}

/// What the WebSocket library reads from and writes to: memory.
#[derive(Default)]
pub struct Pipe {
    pub input: Vec<u8>,
    pub output: Vec<u8>,
}

impl Pipe {
    /// Reads what has arrived; `false` if that was nothing after all.
    pub fn take_from(&mut self, socket: &Socket) -> Result<bool, Gone> {
        let mut some = [0; 8192];
        match socket.try_read(&mut some) {
            Ok(0) => Err(Gone),
            Ok(n) => {
                self.input.extend_from_slice(&some[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(_) => Err(Gone),
        }
    }
}

impl std::io::Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.input.is_empty() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let n = into.len().min(self.input.len());
        into[..n].copy_from_slice(&self.input[..n]);
        self.input.drain(..n);
        Ok(n)
    }
}

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
