//! WebSocket: subscribe, publish and renew over one connection.
//!
//! Owns: the upgrade and the conversation. Frames are read by the WebSocket library; live events are written
//! by the fan as frames made once per event. Protocol: RFC 6455; the operations are in `tidings_model::op`.

use crate::Door;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::gate;
use crate::handover::Io;
use crate::listen::{Slot, Transport};
use crate::refusal::Refusal;
use crate::stream::{self, End, Stream};
use crate::wire;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::op::{Op, Verb};
use tidings_model::{Code, Principal};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error as WsError, Message};

/// A connection without a token must send one within this time.
const AUTH_WITHIN: Duration = Duration::from_secs(10);
/// Memory for reading that an idle connection keeps; larger frames take more while they arrive.
const READ_BUFFER_BYTES: usize = 512;

/// `GET /v1/ws`.
pub async fn upgrade(State(door): State<Door>, mut request: Request) -> Result<Response, Refusal> {
    let who = gate::optional(&door, request.headers()).await?;
    let says = |name: header::HeaderName, word: &str| {
        let value = request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let is_upgrade = says(header::CONNECTION, "upgrade")
        && says(header::UPGRADE, "websocket")
        && says(header::SEC_WEBSOCKET_VERSION, "13");
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade) else {
        return Err(Refusal::new(
            Code::ParameterInvalid,
            "a WebSocket upgrade (version 13) is expected here",
        ));
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    let (own, slot) = (door.clone(), request.extensions().get::<Slot>().cloned());
    door.services.spawn("ws", async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok((socket, early)) = take_socket(&own, upgraded) else { return };
        // Boxed: the upgrade's own needs go before the conversation begins.
        Box::pin(converse(own, socket, early, who)).await;
        drop(slot);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let accept = HeaderValue::from_str(&accept).expect("base64");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The socket itself where it is plain, else one end of a pair whose other end the library encrypts.
/// With it come bytes that the client sent early; copied, since they lie in the library's large buffer.
fn take_socket(door: &Door, upgraded: hyper::upgrade::Upgraded) -> std::io::Result<(Socket, Vec<u8>)> {
    match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<Transport>>(upgraded) {
        Ok(parts) => match parts.io.into_inner() {
            Transport::Plain(io) => {
                let tcp = Io::into_tcp(io).ok_or(std::io::ErrorKind::NotConnected)?;
                Ok((Socket::Tcp(tcp), parts.read_buf.to_vec()))
            }
            Transport::Tls(tls) => Ok((pair(door, *tls)?, parts.read_buf.to_vec())),
        },
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

/// One client's conversation.
struct Session {
    stream: Stream,
    frames: Box<WebSocketContext>,
    pipe: Pipe,
    /// A token has been shown.
    is_known: bool,
    expires: Instant,
    heard: Instant,
}

/// What the WebSocket library reads from and writes to: memory.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    output: Vec<u8>,
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

async fn converse(door: Door, socket: Socket, early: Vec<u8>, who: Option<Arc<Principal>>) {
    let _open = door.metrics.open_ws();
    let limits = door.tidings.limits();
    let timeout = Duration::from_millis(limits.write_timeout_ms);
    let frames = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(limits.frame_bytes))
        .max_frame_size(Some(limits.frame_bytes));
    let conn = Arc::new(Conn::new(socket, Style::Ws, timeout));
    let now = Instant::now();
    let expires = match &who {
        Some(who) => stream::expiry(who, door.tidings.clock().now()),
        None => now + AUTH_WITHIN,
    };
    let is_known = who.is_some();
    let subscription = door.tidings.subscription(who.unwrap_or_else(|| Arc::new(Principal::nobody())));
    let mut session = Session {
        stream: Stream::new(door.clone(), conn, subscription),
        frames: Box::new(WebSocketContext::new(Role::Server, Some(frames))),
        pipe: Pipe { input: early, output: Vec::new() },
        is_known,
        expires,
        heard: now,
    };
    let end = match session.live().await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), session.last_word(&end)).await;
}

/// Nothing: a conversation only ends with a reason.
enum Never {}

impl Session {
    async fn live(&mut self) -> Result<Never, End> {
        let stop = self.stream.door.services.stop().clone();
        let conn = Arc::clone(&self.stream.conn);
        let ping = Duration::from_millis(self.stream.door.config.ping_ms);
        let beat = Duration::from_millis(self.stream.door.config.heartbeat_ms).min(ping);
        let mut pinged = Instant::now();
        if !self.pipe.input.is_empty() {
            self.take_in().await?;
        }
        self.stream.go_live().await?;
        loop {
            let tick = (Instant::now() + beat).min(self.expires);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining),
                () = conn.bell.notified() => {
                    if self.stream.is_called() {
                        self.stream.go_live().await?;
                    }
                }
                readable = conn.socket.readable() => {
                    readable.map_err(|_| End::Gone)?;
                    if read_into(&conn, &mut self.pipe.input)? {
                        self.heard = Instant::now();
                        self.take_in().await?;
                        if !self.stream.is_live() {
                            self.stream.go_live().await?;
                        }
                    }
                }
                () = tokio::time::sleep_until(tick) => {
                    if self.is_known {
                        self.expires = self.stream.expiry();
                    }
                    if Instant::now() >= self.expires {
                        return Err(End::Expired);
                    }
                    if self.heard.elapsed() > 3 * ping {
                        return Err(End::Gone);
                    }
                    self.beat().await?;
                    if pinged.elapsed() >= ping {
                        pinged = Instant::now();
                        self.stream.say(Bytes::from_static(&[0x89, 0])).await?;
                    }
                    self.stream.nudge().await?;
                }
            }
        }
    }

    /// Says where the cursors are when only events that did not pass went by.
    async fn beat(&mut self) -> Result<(), Gone> {
        self.stream
            .look(|s| match s.heartbeat() {
                None => Vec::new(),
                Some(_) => s.topics().map(|t| wire::ws_cursor(t, &s.cursor_of(t))).collect(),
            })
            .await
    }

    /// Takes in the frames that have arrived, and does what they say in order.
    async fn take_in(&mut self) -> Result<(), End> {
        loop {
            let message = self.frames.read(&mut self.pipe);
            if !self.pipe.output.is_empty() {
                // The library's own answers: pong and close.
                let output = std::mem::take(&mut self.pipe.output);
                self.stream.say(output.into()).await?;
            }
            match message {
                Ok(Message::Text(text)) => self.hear(&text).await?,
                Ok(Message::Binary(_)) => {
                    self.refuse(None, Code::JsonInvalid, "frames are JSON texts, not binary").await?;
                }
                Ok(_) => {}
                Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.pipe.input = Vec::new();
                    return Ok(());
                }
                Err(WsError::Capacity(e)) => {
                    self.refuse(None, Code::BodyTooLarge, &e.to_string()).await?;
                    return Err(End::Frame(1009, Code::BodyTooLarge));
                }
                Err(WsError::Utf8(_)) => return Err(End::Frame(1007, Code::Utf8Invalid)),
                Err(WsError::Protocol(_)) => return Err(End::Frame(1002, Code::ParameterInvalid)),
                Err(_) => return Err(End::Gone),
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        self.stream.renew().await?;
        let op = match Op::parse(text) {
            Ok(op) => op,
            Err(error) => {
                let (code, why) = (error.why.code(), error.why.to_string());
                return Ok(self.refuse(error.reference.as_deref(), code, &why).await?);
            }
        };
        let reference = op.reference.as_deref();
        if !self.is_known && !matches!(op.verb, Verb::Auth { .. } | Verb::Ping) {
            let why = "send {\"op\":\"auth\",\"token\":...} first, or a token in the Authorization header";
            return Ok(self.refuse(reference, Code::TokenMissing, why).await?);
        }
        match op.verb {
            Verb::Ping => self.answer(reference, serde_json::json!({ "op": "pong" })).await?,
            Verb::Auth { token } => self.renew(reference, &token).await?,
            Verb::Publish { events } => {
                let who = Arc::clone(&self.stream.who);
                match self.stream.door.tidings.publish(&who, events).await {
                    Ok(receipt) => {
                        self.stream.say(wire::ws_published(reference, &receipt)).await?;
                    }
                    Err(error) => self.decline(reference, error).await?,
                }
            }
            Verb::Subscribe { topic, from, filter } => {
                let max = self.stream.door.tidings.limits().stream_topics;
                let subscription = self.stream.subscription();
                if subscription.topics().filter(|t| *t != &topic).count() >= max {
                    let why = format!("at most {max} subscriptions");
                    return Ok(self.refuse(reference, Code::SubscriptionsTooMany, &why).await?);
                }
                match subscription.add(topic.clone(), &from, filter).await {
                    Ok(()) => {
                        let cursor = subscription.cursor_of(&topic);
                        let answer = serde_json::json!({
                            "op": "subscribed", "topic": topic.to_string(), "cursor": cursor.to_string(),
                        });
                        self.answer(reference, answer).await?;
                    }
                    Err(error) => self.decline(reference, error).await?,
                }
            }
            Verb::Unsubscribe { topic } => {
                if self.stream.subscription().remove(&topic) {
                    let answer = serde_json::json!({ "op": "unsubscribed", "topic": topic.to_string() });
                    self.answer(reference, answer).await?;
                } else {
                    let why = format!("there is no subscription to {topic}");
                    self.refuse(reference, Code::SubscriptionUnknown, &why).await?;
                }
            }
        }
        Ok(())
    }

    /// Goes on under a fresh token; what it no longer grants is given up aloud.
    async fn renew(&mut self, reference: Option<&str>, token: &str) -> Result<(), Gone> {
        // Boxed, as it is no part of an idle connection.
        let who = match Box::pin(self.stream.door.gate.verify(token)).await {
            Ok(who) => who,
            Err(refused) => {
                let refusal = Refusal::from(refused);
                return self.refuse(reference, refusal.code, &refusal.detail).await;
            }
        };
        self.is_known = true;
        let lost = self.stream.become_caller(Arc::clone(&who));
        self.expires = self.stream.expiry();
        let expires_at = who.expires_at.map(|at| at.to_string());
        self.answer(reference, serde_json::json!({ "op": "authenticated", "expires_at": expires_at }))
            .await?;
        for topic in lost {
            let why = format!("the new token does not grant {topic}; its subscription has ended");
            self.refuse(None, Code::Forbidden, &why).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, reference: Option<&str>, answer: serde_json::Value) -> Result<(), Gone> {
        self.stream.say(wire::ws_notice(&wire::with_ref(reference, answer))).await
    }

    /// Says what the engine says, without what happened inside.
    async fn decline(&mut self, reference: Option<&str>, error: tidings_engine::Error) -> Result<(), Gone> {
        let refusal = Refusal::from(error);
        self.refuse(reference, refusal.code, &refusal.detail).await
    }

    async fn refuse(&mut self, reference: Option<&str>, code: Code, why: &str) -> Result<(), Gone> {
        self.stream.say(wire::ws_error(reference, code, why)).await
    }

    async fn last_word(&mut self, end: &End) -> Result<(), Gone> {
        let close = match end {
            End::Gone => return Ok(()),
            End::Frame(close, _) => *close,
            End::Expired | End::Refused(_) => 4401,
            End::Draining => 1001,
            End::Engine(_) => 1011,
        };
        let (code, reason) = end.reason();
        let mut notice = wire::close_json(code, &reason);
        notice["op"] = "close".into();
        if matches!(end, End::Draining) {
            notice["retry_ms"] = stream::retry_ms(&self.stream.door).into();
        }
        self.stream.say(wire::ws_notice(&notice)).await?;
        let frame = CloseFrame { code: close.into(), reason: code.into() };
        let _ = self.frames.close(&mut self.pipe, Some(frame));
        let output = std::mem::take(&mut self.pipe.output);
        self.stream.say(output.into()).await
    }
}

/// Reads what has arrived; `false` if that was nothing after all.
fn read_into(conn: &Conn, input: &mut Vec<u8>) -> Result<bool, End> {
    let mut some = [0; 8192];
    match conn.socket.try_read(&mut some) {
        Ok(0) => Err(End::Gone),
        Ok(n) => {
            input.extend_from_slice(&some[..n]);
            Ok(true)
        }
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(_) => Err(End::Gone),
    }
}
