//! A session over a WebSocket.
//!
//! Owns: frames in, and the probe by which a polling client tries a WebSocket. Live events are written by the
//! fan, as for every other stream.

use super::polling::Changed;
use super::session::{Due, Leave, Session};
use super::{Ask, packet};
use crate::Door;
use crate::answers::Slot;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::stream::{End, Stream};
use crate::upgrade::{self, Pipe};
use crate::wire;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::Code;
use tokio::time::Instant;
use tungstenite::protocol::{CloseFrame, WebSocketContext};
use tungstenite::{Error as WsError, Message};

/// A WebSocket that nothing was said over yet.
pub struct Line {
    conn: Arc<Conn>,
    frames: Box<WebSocketContext>,
    pipe: Pipe,
    /// Room among the connections, until the end.
    _slot: Option<Slot>,
}

impl Line {
    pub fn new(door: &Door, socket: Socket, early: Vec<u8>, slot: Option<Slot>) -> Self {
        let timeout = Duration::from_millis(door.tidings.limits().write_timeout_ms);
        Self {
            conn: Arc::new(Conn::new(socket, Style::SocketIo, timeout)),
            frames: Box::new(upgrade::frames(door.config.socketio.payload_bytes)),
            pipe: Pipe { input: early, output: Vec::new() },
            _slot: slot,
        }
    }

    /// The next text, before the session has the socket.
    async fn wait(&mut self) -> Result<String, End> {
        loop {
            match read(&mut self.frames, &mut self.pipe)? {
                Taken::Text(text) => return Ok(text),
                Taken::Other => {}
                Taken::Nothing => {
                    self.conn.socket.readable().await.map_err(|_| End::Gone)?;
                    self.pipe.take_from(&self.conn.socket)?;
                }
            }
        }
    }

    async fn say(&self, text: &str) -> Result<(), Gone> {
        self.conn.send(&mut VecDeque::from([wire::text_frame(text.as_bytes())])).await
    }
}

/// A polling client tries a WebSocket: its probe is answered, and when it changes over the session gets the line.
pub async fn probe(door: &Door, mut line: Line, handle: &super::sessions::Handle) -> Result<(), End> {
    let try_it = async {
        if packet::Engine::parse(&line.wait().await?) != Ok(packet::Engine::Ping("probe")) {
            return Err(End::Gone);
        }
        line.say("3probe").await?;
        handle.mail.send(Ask::Probing(true)).await.map_err(|_| End::Gone)?;
        match packet::Engine::parse(&line.wait().await?) {
            Ok(packet::Engine::Upgrade) => Ok(()),
            _ => Err(End::Gone),
        }
    };
    let within = Duration::from_millis(door.config.socketio.upgrade_ms);
    if let Err(end) = tokio::time::timeout(within, try_it).await.unwrap_or(Err(End::Gone)) {
        // Its polls wait for news again.
        let _ = handle.mail.send(Ask::Probing(false)).await;
        return Err(end);
    }
    handle.is_websocket.store(true, std::sync::atomic::Ordering::Release);
    handle.mail.send(Ask::Upgrade(Box::new(line))).await.map_err(|_| End::Gone)
}

/// A conversation over a WebSocket.
struct Over {
    session: Session,
    stream: Stream,
    frames: Box<WebSocketContext>,
    pipe: Pipe,
    expires: Instant,
    said: Instant,
}

/// Serves a client over a WebSocket, whatever it was served over before, until it goes or has to go.
pub async fn converse(changed: Box<Changed>) {
    let Changed { session, subscription, line, rest, is_told } = *changed;
    let Line { conn, frames, pipe, _slot } = line;
    let stream = Stream::new(session.door.clone(), conn, subscription);
    let expires = stream.expiry();
    let mut over = Over { session, stream, frames, pipe, expires, said: Instant::now() };
    let leave = match over.live(rest, is_told).await {
        Ok(never) => match never {},
        Err(leave) => leave,
    };
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), over.say(leave.farewell())).await;
    if leave.is_told() {
        let _ = tokio::time::timeout(Leave::LINGER, over.linger()).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), over.close(&leave)).await;
}

/// Nothing: a conversation only ends with a reason.
enum Never {}

impl Over {
    async fn live(&mut self, rest: Vec<String>, is_told: bool) -> Result<Never, Leave> {
        let stop = self.stream.door.services.stop().clone();
        let (conn, handle) = (Arc::clone(&self.stream.conn), Arc::clone(&self.session.handle));
        let beat = Duration::from_millis(self.stream.door.config.heartbeat_ms.max(1));
        self.say(rest).await?;
        if is_told {
            return Err(Leave::Told);
        }
        self.take_in().await?;
        self.stream.go_live().await?;
        loop {
            let tick = self.session.beat.next().min(self.expires).min(self.said + beat);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining.into()),
                () = handle.bell.notified() => self.session.look_at_token()?,
                () = conn.bell.notified() => {
                    if self.stream.is_called() {
                        self.stream.go_live().await?;
                    }
                }
                readable = conn.socket.readable() => {
                    readable.map_err(|_| End::Gone)?;
                    if self.pipe.take_from(&conn.socket)? {
                        self.take_in().await?;
                        if !self.stream.is_live() {
                            self.stream.go_live().await?;
                        }
                    }
                }
                // Whoever still polls is told that there is nothing to poll any more.
                _ = self.session.mail.recv() => {}
                () = tokio::time::sleep_until(tick) => self.tick(beat).await?,
            }
        }
    }

    async fn tick(&mut self, beat: Duration) -> Result<(), End> {
        self.expires = self.stream.expiry();
        if Instant::now() >= self.expires {
            return Err(End::Expired);
        }
        if let Due::Ping = self.session.beat.look(self.session.talk.is_in())? {
            self.say(vec![packet::PING.into()]).await?;
        }
        if self.said.elapsed() >= beat {
            self.said = Instant::now();
            self.stream.look(wire::socketio::silent).await?;
            self.stream.nudge().await?;
        }
        Ok(())
    }

    /// Takes in the frames that have arrived, and does what they say in order.
    async fn take_in(&mut self) -> Result<(), Leave> {
        loop {
            let taken = read(&mut self.frames, &mut self.pipe);
            if !self.pipe.output.is_empty() {
                let output = std::mem::take(&mut self.pipe.output);
                self.stream.say(output.into()).await?;
            }
            match taken? {
                Taken::Text(text) => self.hear(&text).await?,
                Taken::Other => {}
                Taken::Nothing => return Ok(()),
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), Leave> {
        match packet::Engine::parse(text).map_err(|_| End::Gone)? {
            packet::Engine::Message(text) => {
                self.stream.renew().await?;
                let heard = self.session.talk.hear(text, self.stream.subscription()).await;
                let heard = heard.map_err(|_| End::Gone)?;
                if let Some(who) = heard.caller {
                    self.stream.become_caller(who);
                    self.expires = self.stream.expiry();
                }
                self.say(heard.out).await?;
                if heard.is_end { Err(Leave::Told) } else { Ok(()) }
            }
            packet::Engine::Pong => {
                self.session.beat.heard();
                Ok(())
            }
            packet::Engine::Close => Err(End::Gone.into()),
            packet::Engine::Ping(_) | packet::Engine::Upgrade | packet::Engine::Other => Ok(()),
        }
    }

    async fn say(&mut self, packets: Vec<String>) -> Result<(), Gone> {
        for packet in packets {
            self.stream.say(wire::text_frame(packet.as_bytes())).await?;
        }
        Ok(())
    }

    /// Takes in what the client still says, until it closes.
    async fn linger(&mut self) -> Result<(), End> {
        loop {
            match read(&mut self.frames, &mut self.pipe)? {
                Taken::Text(_) | Taken::Other => {}
                Taken::Nothing => {
                    self.stream.conn.socket.readable().await.map_err(|_| End::Gone)?;
                    self.pipe.take_from(&self.stream.conn.socket)?;
                }
            }
        }
    }

    async fn close(&mut self, leave: &Leave) -> Result<(), Gone> {
        let (code, reason) = match leave {
            Leave::Told | Leave::End(End::Gone) => (1000, ""),
            Leave::End(end) => {
                let code = match end {
                    End::Frame(code, _) => *code,
                    End::Expired | End::Refused(_) => 4401,
                    End::Draining => 1001,
                    _ => 1011,
                };
                (code, end.reason().0)
            }
        };
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        let _ = self.frames.close(&mut self.pipe, Some(frame));
        let output = std::mem::take(&mut self.pipe.output);
        self.stream.say(output.into()).await
    }
}

/// What a look at the client's frames has found.
enum Taken {
    Text(String),
    /// Something that means nothing here, or that the library has answered.
    Other,
    /// No whole frame.
    Nothing,
}

fn read(frames: &mut WebSocketContext, pipe: &mut Pipe) -> Result<Taken, End> {
    match frames.read(pipe) {
        Ok(Message::Text(text)) => Ok(Taken::Text(text.as_str().to_owned())),
        Ok(_) => Ok(Taken::Other),
        Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
            pipe.input = Vec::new();
            Ok(Taken::Nothing)
        }
        Err(WsError::Capacity(_)) => Err(End::Frame(1009, Code::BodyTooLarge)),
        Err(WsError::Utf8(_)) => Err(End::Frame(1007, Code::Utf8Invalid)),
        Err(WsError::Protocol(_)) => Err(End::Frame(1002, Code::ParameterInvalid)),
        Err(_) => Err(End::Gone),
    }
}
