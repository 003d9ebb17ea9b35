//! Server-Sent Events: one stream over one or several topics, with one cursor.
//!
//! Owns: the head of the answer, the keep-alive comments, and the last word. On a plain HTTP/1 connection
//! the socket is taken from the HTTP library once the head is out; over TLS and HTTP/2 the stream writes
//! into a pair of local sockets and the library carries the bytes on.

use crate::Door;
use crate::answers::Slot;
use crate::coarse::together;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::handover::{Handover, PairBody};
use crate::refusal::Refusal;
use crate::stream::{self, End, Going, Stream};
use crate::wire::{self, Framing};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Version, header, request::Parts};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::Subscription;
use tidings_model::{Code, Cursor, Filter, From, Principal, Topic};
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Answers a request for an event stream.
pub async fn open(
    door: &Door,
    who: Arc<Principal>,
    topics: Vec<Topic>,
    from: Option<From>,
    filter: Filter,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let from = match parts.headers.get("last-event-id").filter(|v| !v.is_empty()) {
        None => from.unwrap_or_default(),
        Some(id) => {
            let text = id.to_str().unwrap_or_default();
            From::Cursor(Cursor::parse(text).map_err(|e| Refusal::new(Code::CursorInvalid, e.to_string()))?)
        }
    };
    let is_single = topics.len() == 1;
    let subscription = door.tidings.subscribe(who, topics, &from, &filter).await?;
    answer(door, subscription, is_single, parts)
}

/// Answers with what `subscription` yields.
pub fn answer(
    door: &Door,
    subscription: Subscription,
    is_single: bool,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let own = door.clone();
    carry(door, parts, move |socket, framing| run(own, socket, framing, is_single, subscription))
}

/// Answers with an endless event stream; `run` writes it to the socket it is given.
pub fn carry<F: Future<Output = ()> + Send + 'static>(
    door: &Door,
    parts: &Parts,
    run: impl FnOnce(Socket, Framing) -> F + Send + 'static,
) -> Result<Response, Refusal> {
    let framing = match parts.version {
        Version::HTTP_11 => Framing::Chunked,
        _ => Framing::Plain,
    };
    let handover = parts.extensions.get::<Handover>().filter(|_| parts.version <= Version::HTTP_11);
    let slot = parts.extensions.get::<Slot>().cloned();
    let body = match handover {
        Some(handover) => {
            let (body, socket) = handover.after_head();
            door.services.spawn("sse", async move {
                if let Ok(tcp) = socket.await {
                    Box::pin(run(Socket::Tcp(tcp), framing)).await;
                }
                drop(slot);
            });
            Body::new(body)
        }
        None => {
            let (ours, theirs) = UnixStream::pair().map_err(Refusal::internal)?;
            door.services.spawn("sse", run(Socket::Pair(ours), Framing::Plain));
            Body::new(PairBody::new(theirs))
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if parts.version <= Version::HTTP_11 {
        // What ends the stream ends the connection; a client that kept it would meet a reset.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn run(door: Door, socket: Socket, framing: Framing, is_single: bool, subscription: Subscription) {
    let _open = door.metrics.open_sse();
    let timeout = Duration::from_millis(door.tidings.limits().write_timeout_ms);
    let conn = Arc::new(Conn::new(socket, Style::Sse { framing, is_single }, timeout));
    let mut stream = Stream::new(door, conn, subscription);
    let end = live(&mut stream, framing).await;
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), last_word(&mut stream, framing, &end)).await;
}

async fn live(stream: &mut Stream, framing: Framing) -> End {
    let mut expires = stream.expiry();
    let stop = stream.door.services.stop().clone();
    let config = &stream.door.config;
    let ping = Duration::from_millis(config.ping_ms);
    let beat = Duration::from_millis(config.heartbeat_ms).min(ping);
    let (mut beat_at, mut ping_at, mut sent) = (together(beat), together(ping), 0);
    // The first bytes tell the client, and every proxy between, that the stream is open; the position it begins
    // at lets a client resume that is cut off before its first event.
    let cursor = stream.subscription().cursor();
    let begins = if cursor.positions.is_empty() { b":\n\n".to_vec() } else { wire::sse_cursor(&cursor) };
    stream.out.push_back(framing.wrap(begins));
    let conn = Arc::clone(&stream.conn);
    loop {
        if Instant::now() >= expires {
            expires = stream.expiry();
            if Instant::now() >= expires {
                return End::Expired;
            }
        }
        let going = match stream.is_live() && !stream.is_called() {
            true => Going::Live,
            false => match stream.catch_up().await {
                Ok(going) => going,
                Err(end) => return end,
            },
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return End::Draining,
            gone = closed(&conn) => return gone.into(),
            () = conn.bell.notified() => {}
            () = tokio::time::sleep_until(beat_at.min(expires)) => {
                (beat_at, expires) = (together(beat), stream.expiry());
                let total = conn.sent.load(std::sync::atomic::Ordering::Relaxed);
                let is_silent = std::mem::replace(&mut sent, total) == total && Instant::now() >= ping_at;
                let said = stream.look(|s| match s.heartbeat() {
                    Some(cursor) => vec![framing.wrap(wire::sse_cursor(&cursor))],
                    None if is_silent => vec![framing.wrap(b":\n\n".to_vec())],
                    None => Vec::new(),
                });
                if said.await.is_err() {
                    return End::Gone;
                }
                if is_silent {
                    ping_at = together(ping);
                }
                // A heartbeat may have found that a wake-up was lost.
                stream.nudge();
            }
            flushed = stream.flush(), if going == Going::Writing => {
                if flushed.is_err() {
                    return End::Gone;
                }
            }
            () = std::future::ready(()), if going == Going::Reading => {}
        }
    }
}

/// Waits until the peer closes; what it sends is of no interest.
pub async fn closed(conn: &Conn) -> Gone {
    loop {
        if conn.socket.readable().await.is_err() {
            return Gone;
        }
        let mut some = [0; 512];
        match conn.socket.try_read(&mut some) {
            Ok(0) => return Gone,
            Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Gone,
            _ => {}
        }
    }
}

async fn last_word(stream: &mut Stream, framing: Framing, end: &End) -> Result<(), Gone> {
    if matches!(end, End::Gone) {
        return Ok(());
    }
    let (code, reason) = end.reason();
    let mut block = Vec::new();
    if matches!(end, End::Draining) {
        block.extend_from_slice(format!("retry: {}\n", stream::retry_ms(&stream.door)).as_bytes());
    }
    block.extend(wire::sse_notice("$close", None, &wire::close_json(code, &reason)));
    stream.say(framing.wrap(block)).await?;
    stream.say(Bytes::from_static(framing.end())).await?;
    stream.flush().await
}
