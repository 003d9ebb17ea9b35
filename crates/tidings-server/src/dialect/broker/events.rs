//! `GET /events`: the state of every name, then a name's whole state whenever it changes.
//!
//! Owns: one connection. It sends frames as they are on the board, at the client's pace. A client that takes
//! nothing for `limits.write_timeout_ms` is cut; one that is slow misses states, never the newest.

use super::board::Listening;
use super::denied::Denied;
use super::who::Who;
use crate::Door;
use crate::coarse::together;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::sse;
use crate::stream;
use crate::wire::Framing;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header, request::Parts};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::broker;
use tidings_model::{Principal, Topic, Watcher};
use tokio::sync::Notify;

/// Opens the stream; it ends with the token.
pub async fn get(State(door): State<Door>, Who(who): Who, parts: Parts) -> Result<Response, Denied> {
    let own = door.clone();
    let mut response = sse::carry(&door, &parts, move |socket, framing| run(own, socket, framing, who))?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Rung when something about the user changes.
#[derive(Default)]
struct Bell(Notify);

impl Watcher for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

async fn run(door: Door, socket: Socket, framing: Framing, mut who: Arc<Principal>) {
    let Some(board) = &door.board else { return };
    let _open = door.metrics.open_sse();
    let timeout = Duration::from_millis(door.tidings.limits().write_timeout_ms);
    let conn = Conn::new(socket, Style::Sse { framing, is_single: false }, timeout);
    let expires = stream::expiry(&who, door.tidings.clock().now());
    let (mut listening, mut out) = (board.listen(), VecDeque::new());
    let bell: Arc<Bell> = Arc::default();
    let watcher = Arc::clone(&bell) as Arc<dyn Watcher>;
    loop {
        if let Some(lease) = who.lease() {
            lease.watch(&watcher);
        }
        tokio::select! {
            biased;
            () = door.services.stop().cancelled() => break,
            () = tokio::time::sleep_until(expires) => break,
            () = bell.0.notified() => match door.gate.renew(&who).await {
                Ok(renewed) => who = renewed,
                Err(_) => break,
            },
            _ = sse::closed(&conn) => return,
            _ = tell(&door, &conn, &who, framing, &mut listening, &mut out) => return,
        }
    }
    drop(listening);
    if out.is_empty() {
        out.push_back(Bytes::from_static(framing.end()));
        // A reader that takes nothing is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), conn.send(&mut out)).await;
    }
}

/// Sends until the client is gone.
async fn tell(
    door: &Door,
    conn: &Conn,
    who: &Principal,
    framing: Framing,
    listening: &mut Listening,
    out: &mut VecDeque<Bytes>,
) -> Gone {
    let ping = Duration::from_millis(door.config.ping_ms);
    loop {
        // What was under way when the caller's rights changed.
        if let Err(gone) = conn.send(out).await {
            return gone;
        }
        loop {
            match listening.next(|name| broker::may_see(who, &Topic::whole(name.clone()))).await {
                Ok(None) => break,
                Ok(Some(frame)) => push(out, framing, frame),
                // What cannot be read now is not missed silently: the client connects again.
                Err(error) => {
                    tracing::warn!(%error, "the state of a name could not be read; a stream ends");
                    return Gone;
                }
            }
            if let Err(gone) = conn.send(out).await {
                return gone;
            }
        }
        tokio::select! {
            biased;
            () = listening.changed() => {}
            () = tokio::time::sleep_until(together(ping)) => {
                // An empty line is the only comment that Broker's own client does not take for an event.
                push(out, framing, Bytes::from_static(b"\n"));
                if let Err(gone) = conn.send(out).await {
                    return gone;
                }
            }
        }
    }
}

fn push(out: &mut VecDeque<Bytes>, framing: Framing, frame: Bytes) {
    match framing {
        Framing::Plain => out.push_back(frame),
        Framing::Chunked => {
            out.push_back(format!("{:x}\r\n", frame.len()).into());
            out.extend([frame, Bytes::from_static(b"\r\n")]);
        }
    }
}
