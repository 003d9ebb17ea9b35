//! Socket.IO: the door of Esink's clients, and of whoever likes that library.
//!
//! Owns: the requests of Engine.IO 4 (`/socket.io/`), and what they are refused with. A handshake makes a session
//! ([`session`]); long polling and WebSockets are ways to reach it. Never: holds a queue of events; each session
//! is a cursor over the log like every other reader.

mod config;
mod packet;
mod polling;
mod session;
mod sessions;
mod talk;
mod websocket;
mod who;

pub use config::SocketIo;
pub use packet::emit;
use sessions::Inbox;
pub use sessions::{Sessions, recheck};

use crate::Door;
use crate::answers::Slot;
use crate::http::body::Parts;
use crate::upgrade::Upgrade;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use session::Session;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidings_model::{Code, Uuid};
use tokio::sync::oneshot;
use websocket::Line;

/// What a request wants from a session.
pub enum Ask {
    /// To say something.
    Post(String),
    /// To get its polls back at once while it tries a WebSocket.
    Probing(bool),
    /// To go on over a WebSocket.
    Upgrade(Box<Line>),
}

/// Why a request is refused, by Engine.IO's own numbers.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Transport,
    Session,
    Method,
    Request,
    Version,
}

impl Refused {
    fn response(self) -> Response {
        let (code, message) = match self {
            Self::Transport => (0, "Transport unknown"),
            Self::Session => (1, "Session ID unknown"),
            Self::Method => (2, "Bad handshake method"),
            Self::Request => (3, "Bad request"),
            Self::Version => (5, "Unsupported protocol version"),
        };
        let mut response = text(json!({ "code": code, "message": message }).to_string());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// What a request's query says.
#[derive(Default)]
struct Query<'a> {
    version: &'a str,
    transport: &'a str,
    sid: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Clients add words of their own.
    fn parse(text: &'a str) -> Self {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "EIO" => query.version = value,
                "transport" => query.transport = value,
                "sid" => query.sid = Some(value),
                _ => {}
            }
        }
        query
    }
}

/// `GET /socket.io/`: a handshake, a poll, or a WebSocket.
pub async fn get(State(door): State<Door>, mut request: Request) -> Response {
    // A router takes it for a GET; a poll's packets would be lost with its body.
    if request.method() == Method::HEAD {
        return Refused::Method.response();
    }
    let uri = request.uri().clone();
    let query = Query::parse(uri.query().unwrap_or_default());
    let upgrade = Upgrade::of(&door, &mut request);
    let slot = request.extensions().get::<Slot>().cloned();
    match (query.transport, query.sid, upgrade) {
        ("polling" | "websocket", Some(sid), upgrade) => {
            let Some(handle) = door.sessions.find(sid) else { return Refused::Session.response() };
            let is_websocket = handle.is_websocket.load(Ordering::Acquire);
            match upgrade.filter(|_| query.transport == "websocket") {
                Some(upgrade) if !is_websocket => {
                    let (response, taken) = upgrade.accept();
                    door.clone().services.spawn("socketio-probe", async move {
                        let Some((socket, early)) = taken.await else { return };
                        let line = Line::new(&door, socket, early, slot);
                        // One that fails leaves the session at its polls.
                        let _ = websocket::probe(&door, line, &handle).await;
                    });
                    response
                }
                None if query.transport == "polling" && !is_websocket => {
                    let (tx, rx) = oneshot::channel();
                    if handle.polls.send(tx).await.is_err() {
                        return Refused::Session.response();
                    }
                    rx.await.map_or_else(|_| Refused::Session.response(), text)
                }
                _ => Refused::Request.response(),
            }
        }
        ("polling", None, _) => {
            if query.version != "4" {
                return Refused::Version.response();
            }
            let sid = sid();
            let Some((session, inbox)) = open(&door, &sid, false) else { return full() };
            let answer = text(open_packet(&door.config.socketio, &sid, false));
            door.services.spawn("socketio", session.poll(inbox));
            answer
        }
        ("websocket", None, None) => Refused::Request.response(),
        ("websocket", None, Some(upgrade)) => {
            if query.version != "4" {
                return Refused::Version.response();
            }
            let sid = sid();
            let Some((session, _)) = open(&door, &sid, true) else { return full() };
            let (response, taken) = upgrade.accept();
            door.clone().services.spawn("socketio", async move {
                let Some((socket, early)) = taken.await else { return };
                let line = Line::new(&door, socket, early, slot);
                session.over_websocket(&sid, line).await;
            });
            response
        }
        _ => Refused::Transport.response(),
    }
}

/// `POST /socket.io/`: what a polling client says.
pub async fn post(State(door): State<Door>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let Some(sid) = query.sid else {
        let is_known = matches!(query.transport, "polling" | "websocket");
        return if is_known { Refused::Method } else { Refused::Transport }.response();
    };
    let Some(handle) = door.sessions.find(sid) else { return Refused::Session.response() };
    if query.transport != "polling" || handle.is_websocket.load(Ordering::Acquire) {
        return Refused::Request.response();
    }
    let mut parts = Parts::new(body, door.tidings.limits().read_timeout_ms);
    let body = match parts.whole(door.config.socketio.payload_bytes).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let Ok(body) = String::from_utf8(body.into()) else { return Refused::Request.response() };
    match handle.mail.send(Ask::Post(body)).await {
        Ok(()) => text("ok".into()),
        Err(_) => Refused::Session.response(),
    }
}

/// A new session, if there is room for one.
fn open(door: &Door, sid: &str, is_websocket: bool) -> Option<(Session, Inbox)> {
    let room = Arc::clone(&door.socketio_room).try_acquire_owned().ok()?;
    Some(Session::new(door, sid, is_websocket, room))
}

fn full() -> Response {
    let detail = "as many Socket.IO clients as `limits.connections` allows are connected";
    crate::refusal::Refusal::new(Code::ConnectionsFull, detail).into_response()
}

/// Cannot be guessed: whoever knows it can speak for the client.
fn sid() -> String {
    Uuid::new_v4().simple().to_string()
}

/// What a client is told first.
fn open_packet(config: &SocketIo, sid: &str, is_websocket: bool) -> String {
    let upgrades: &[&str] = if is_websocket { &[] } else { &["websocket"] };
    let open = json!({
        "sid": sid, "upgrades": upgrades, "pingInterval": config.ping_ms, "pingTimeout": config.pong_ms,
        "maxPayload": config.payload_bytes,
    });
    format!("0{open}")
}

fn text(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
