//! A client's session from its first request to its end.
//!
//! Owns: the order of its transports (long polling, then perhaps a WebSocket), and the heartbeat both share.
//! Never: holds events for a client that does not come for them; its cursor stays where it is.

use super::packet::{self, Malformed};
use super::polling::{Changed, Polling};
use super::sessions::{Handle, Inbox, Sessions};
use super::talk::Talk;
use super::websocket::{self, Line};
use crate::Door;
use crate::coarse::together;
use crate::conn::Gone;
use crate::stream::End;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::auth;
use tidings_model::Principal;
use tokio::time::Instant;

/// What both transports need.
pub struct Session {
    pub door: Door,
    pub talk: Talk,
    pub handle: Arc<Handle>,
    pub beat: Beat,
    /// Room among all sessions, until the end.
    _room: tokio::sync::OwnedSemaphorePermit,
    _place: Place,
}

/// The session is found by its number until this is dropped.
struct Place(Arc<Sessions>, String);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.close(&self.1);
    }
}

/// Is the client there, and has it said who it is?
pub struct Beat {
    ping: Duration,
    pong: Duration,
    next: Instant,
    /// Since when an answer is awaited.
    asked: bool,
    /// By when the client must be in.
    connect_by: Option<Instant>,
}

/// What a moment demands.
pub enum Due {
    Nothing,
    Ping,
}

impl Session {
    pub fn new(
        door: &Door,
        sid: &str,
        is_websocket: bool,
        room: tokio::sync::OwnedSemaphorePermit,
    ) -> (Self, Inbox) {
        let (handle, inbox) = Handle::new(is_websocket);
        let handle = Arc::new(handle);
        door.sessions.open(sid, &handle);
        let session = Self {
            door: door.clone(),
            talk: Talk::new(door.clone(), Arc::clone(&handle)),
            handle,
            beat: Beat::new(door),
            _room: room,
            _place: Place(Arc::clone(&door.sessions), sid.to_owned()),
        };
        (session, inbox)
    }

    /// Over long polling, until the client goes or changes to a WebSocket; then over that.
    pub async fn poll(self, inbox: Inbox) {
        let _open = self.door.metrics.open_socketio();
        let subscription = self.door.tidings.subscription(Arc::new(Principal::nobody()));
        if let Some(changed) = Box::pin(Polling::new(self, inbox, subscription).run()).await {
            Box::pin(websocket::converse(changed)).await;
        }
    }

    /// Over a WebSocket from the beginning.
    pub async fn over_websocket(self, sid: &str, line: Line) {
        let _open = self.door.metrics.open_socketio();
        let subscription = self.door.tidings.subscription(Arc::new(Principal::nobody()));
        let open = super::open_packet(&self.door.config.socketio, sid, true);
        let begun = Changed { session: self, subscription, line, rest: vec![open], is_told: false };
        Box::pin(websocket::converse(Box::new(begun))).await;
    }

    /// Ends the session whose token is nobody's any more.
    pub fn look_at_token(&self) -> Result<(), End> {
        if self.handle.is_revoked() { Err(End::Expired) } else { Ok(()) }
    }
}

impl Beat {
    fn new(door: &Door) -> Self {
        let config = &door.config.socketio;
        let now = Instant::now();
        let ping = Duration::from_millis(config.ping_ms.max(1));
        Self {
            ping,
            pong: Duration::from_millis(config.pong_ms.max(1)),
            next: together(ping),
            asked: false,
            connect_by: Some(now + Duration::from_millis(config.connect_ms)),
        }
    }

    /// When to look again at the latest.
    pub fn next(&self) -> Instant {
        self.connect_by.map_or(self.next, |by| by.min(self.next))
    }

    /// The client has answered.
    pub fn heard(&mut self) {
        if std::mem::take(&mut self.asked) {
            self.next = together(self.ping);
        }
    }

    /// What is due; an error when the client is not there, or has not said who it is. Whoever takes what waited for
    /// it (last at `moved`) is there, even if its answer is behind all that.
    pub fn look(&mut self, is_in: bool, moved: Option<Instant>) -> Result<Due, End> {
        let now = Instant::now();
        if is_in {
            self.connect_by = None;
        }
        if self.connect_by.is_some_and(|by| now >= by) {
            return Err(End::Gone);
        }
        if let Some(moved) = moved.filter(|_| self.asked) {
            self.next = self.next.max(moved + self.pong);
        }
        if now < self.next {
            return Ok(Due::Nothing);
        }
        if self.asked {
            return Err(End::Gone);
        }
        self.asked = true;
        self.next = now + self.pong;
        Ok(Due::Ping)
    }
}

/// How a session ends.
#[derive(Debug)]
pub enum Leave {
    /// The client was put out in words, and closes the transport itself: its library takes a packet's meaning in a
    /// moment later, and would call a transport that has closed by then the reason.
    Told,
    /// Who the client is cannot be found out now. It is not put out, which its library would take for the last word:
    /// the transport closes, and it comes back by itself.
    Unsure,
    End(End),
}

impl From<End> for Leave {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Malformed> for Leave {
    fn from(_: Malformed) -> Self {
        Self::End(End::Gone)
    }
}

impl From<Gone> for Leave {
    fn from(gone: Gone) -> Self {
        Self::End(gone.into())
    }
}

impl Leave {
    /// How long a client that was told may take to close.
    pub const LINGER: Duration = Duration::from_secs(5);

    /// The packets that put the client out; none where it is gone, or shall come back.
    pub fn farewell(&self) -> Vec<String> {
        let error = |code: serde_json::Value, message: &str| {
            packet::emit("error", &serde_json::json!({ "code": code, "message": message }), None)
        };
        match self {
            Self::End(End::Refused(auth::Refused::Engine(_))) | Self::Unsure => {
                vec![error(503.into(), "Service Unavailable")]
            }
            Self::End(End::Expired | End::Refused(_)) => {
                vec![error(401.into(), "Unauthorized"), packet::DISCONNECT.into()]
            }
            Self::End(end @ End::Engine(_)) => {
                let (code, message) = end.reason();
                vec![error(code.into(), &message)]
            }
            Self::Told | Self::End(End::Gone | End::Draining | End::Frame(..)) => Vec::new(),
        }
    }

    /// Whether the client closes the transport.
    pub fn is_told(&self) -> bool {
        match self {
            Self::End(End::Refused(refused)) => !matches!(refused, auth::Refused::Engine(_)),
            Self::Told | Self::End(End::Expired) => true,
            Self::Unsure | Self::End(_) => false,
        }
    }

    /// A WebSocket's close code and reason.
    pub fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Told | Self::End(End::Gone) => (1000, ""),
            Self::Unsure => (1013, ""),
            Self::End(end) => (end.close_code().unwrap_or(1000), end.reason().0),
        }
    }
}
