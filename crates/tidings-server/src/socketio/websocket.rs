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
use crate::turn::{self, Frames, Turn};
use crate::wire;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tungstenite::{Message, Utf8Bytes};

/// A WebSocket that nothing was said over yet.
pub struct Line {
    conn: Arc<Conn>,
    frames: Frames,
    /// Room among the connections, until the end.
    _slot: Option<Slot>,
}

impl Line {
    pub fn new(door: &Door, socket: Socket, early: Vec<u8>, slot: Option<Slot>) -> Self {
        let timeout = Duration::from_millis(door.tidings.limits().write_timeout_ms);
        Self {
            conn: Arc::new(Conn::new(socket, Style::SocketIo, timeout)),
            frames: Frames::new(early, door.config.socketio.payload_bytes),
            _slot: slot,
        }
    }

    /// The next text, before the session has the socket.
    async fn wait(&mut self) -> Result<Utf8Bytes, End> {
        loop {
            let (answer, message) = self.frames.next();
            if !answer.is_empty() {
                // Whoever does not take it is not read from.
                self.conn.send(&mut VecDeque::from([answer])).await?;
            }
            match message? {
                Some(Message::Text(text)) => return Ok(text),
                Some(_) => {}
                None => {
                    self.conn.socket.readable().await.map_err(|_| End::Gone)?;
                    self.frames.take_from(&self.conn.socket)?;
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
    let done = tokio::select! {
        biased;
        () = door.services.stop().cancelled() => Err(End::Draining),
        done = tokio::time::timeout(within, try_it) => done.unwrap_or(Err(End::Gone)),
    };
    if let Err(end) = done {
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
    talk: turn::Talk,
    expires: Instant,
    said: Instant,
}

/// Serves a client over a WebSocket, whatever it was served over before, until it goes or has to go.
pub async fn converse(changed: Box<Changed>) {
    let Changed { session, subscription, line, rest, is_told } = *changed;
    let Line { conn, frames, _slot } = line;
    // What rings for the session rings for its connection from now on.
    session.handle.go_over(&conn);
    let stream = Stream::new(session.door.clone(), conn, subscription);
    let expires = stream.expiry();
    let mut over = Over { session, talk: turn::Talk::over(stream, frames), expires, said: Instant::now() };
    let Err(leave) = over.live(rest, is_told).await;
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), over.part(&leave)).await;
    if leave.is_told() {
        let stop = over.session.door.services.stop().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = tokio::time::timeout(Leave::LINGER, over.linger()) => {}
        }
    }
    let (code, reason) = leave.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), over.talk.close(code, reason)).await;
}

impl Over {
    async fn live(&mut self, rest: Vec<String>, is_told: bool) -> Result<Infallible, Leave> {
        let beat = Duration::from_millis(self.session.door.config.heartbeat_ms.max(1));
        self.say(rest).await?;
        if is_told {
            return Err(Leave::Told);
        }
        loop {
            let tick = self.session.beat.next().min(self.expires).min(self.said + beat);
            match self.talk.turn(tick).await? {
                Turn::Text(text) => self.hear(&text).await?,
                Turn::Binary(_) => {}
                Turn::Called => self.session.look_at_token()?,
                Turn::Tick => self.tick(beat).await?,
            }
        }
    }

    async fn tick(&mut self, beat: Duration) -> Result<(), End> {
        self.expires = self.talk.stream.expiry();
        if Instant::now() >= self.expires {
            return Err(End::Expired);
        }
        if let Due::Ping = self.session.beat.look(self.session.talk.is_in(), Some(self.talk.stream.moved))? {
            self.say(vec![packet::PING.into()]).await?;
        }
        if self.said.elapsed() >= beat {
            self.said = Instant::now();
            self.talk.stream.look(wire::socketio::silent).await?;
            self.talk.stream.nudge();
        }
        Ok(())
    }

    async fn hear(&mut self, text: &str) -> Result<(), Leave> {
        match packet::Engine::parse(text).map_err(|_| End::Gone)? {
            packet::Engine::Message(text) => {
                self.talk.stream.renew().await?;
                self.session.look_at_token()?;
                let heard = self.session.talk.hear(text, self.talk.stream.subscription()).await?;
                if let Some(who) = heard.caller {
                    self.talk.stream.become_caller(who);
                    self.expires = self.talk.stream.expiry();
                }
                self.say(heard.out).await?;
                heard.leave.map_or(Ok(()), Err)
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
            self.talk.stream.say(wire::text_frame(packet.as_bytes())).await?;
        }
        Ok(())
    }

    /// Says why, and nothing after it: no event reaches the client any more, and nobody finds it here.
    async fn part(&mut self, leave: &Leave) -> Result<(), Gone> {
        self.session.talk.leave();
        // Away from the fan; this task does not step it any more.
        self.talk.stream.subscription();
        self.say(leave.farewell()).await?;
        self.talk.stream.flush().await
    }

    /// Takes in what the client still says, until it closes.
    async fn linger(&mut self) -> Result<(), End> {
        loop {
            let (answer, message) = self.talk.frames().next();
            if !answer.is_empty() {
                self.talk.stream.say(answer).await?;
                self.talk.stream.flush().await?;
            }
            if message?.is_none() {
                let conn = Arc::clone(&self.talk.stream.conn);
                conn.socket.readable().await.map_err(|_| End::Gone)?;
                self.talk.frames().take_from(&conn.socket)?;
            }
        }
    }
}
