//! A conversation over a WebSocket, turn by turn.
//!
//! Owns: what every such conversation waits for (the server's end, the fan, the client, a time), and reading
//! frames. Never: knows what is said; events are written by the fan as everywhere.

use crate::Door;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::stream::{End, Going, Stream};
use crate::upgrade::{self, Pipe};
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::Subscription;
use tidings_model::Code;
use tokio::time::Instant;
use tungstenite::protocol::{CloseFrame, WebSocketContext};
use tungstenite::{Error as WsError, Message, Utf8Bytes};

/// One client's connection, with what has arrived and was not read yet.
pub struct Talk {
    pub stream: Stream,
    frames: Frames,
    /// When the client last sent anything.
    pub heard: Instant,
}

/// What a client sends, as the WebSocket library reads it.
pub struct Frames {
    context: Box<WebSocketContext>,
    pipe: Pipe,
    /// More may have arrived than was read; the library holds on to some of it.
    is_unread: bool,
}

/// What a turn brought.
pub enum Turn {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Something about a caller may have changed.
    Called,
    /// The time that was waited for.
    Tick,
}

impl Frames {
    /// `early` has arrived already; a message has at most `message_bytes`.
    pub fn new(early: Vec<u8>, message_bytes: usize) -> Self {
        Self {
            context: Box::new(upgrade::frames(message_bytes)),
            is_unread: !early.is_empty(),
            pipe: Pipe { input: early, output: Vec::new() },
        }
    }

    /// Takes what has arrived; `false` if that was nothing after all.
    pub fn take_from(&mut self, socket: &Socket) -> Result<bool, Gone> {
        let is_some = self.pipe.take_from(socket)?;
        self.is_unread |= is_some;
        Ok(is_some)
    }

    /// The next message of what has arrived, and what the library itself answers, which may come without a message.
    pub fn next(&mut self) -> (Bytes, Result<Option<Message>, End>) {
        if !self.is_unread {
            return (Bytes::new(), Ok(None));
        }
        let message = match self.context.read(&mut self.pipe) {
            Ok(message) => Ok(Some(message)),
            Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                self.pipe.input = Vec::new();
                self.is_unread = false;
                Ok(None)
            }
            Err(WsError::Capacity(_)) => Err(End::Frame(1009, Code::BodyTooLarge)),
            Err(WsError::Utf8(_)) => Err(End::Frame(1007, Code::Utf8Invalid)),
            Err(WsError::Protocol(_)) => Err(End::Frame(1002, Code::ParameterInvalid)),
            Err(_) => Err(End::Gone),
        };
        (std::mem::take(&mut self.pipe.output).into(), message)
    }

    /// The frame that closes the connection.
    fn close(&mut self, code: u16, reason: &'static str) -> Bytes {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        let _ = self.context.close(&mut self.pipe, Some(frame));
        std::mem::take(&mut self.pipe.output).into()
    }
}

impl Talk {
    /// Begins over `socket`, from which the client has sent `early` already.
    pub fn new(
        door: &Door,
        (socket, early): (Socket, Vec<u8>),
        style: Style,
        write_timeout_ms: u64,
        message_bytes: usize,
        subscription: Subscription,
    ) -> Self {
        let conn = Arc::new(Conn::new(socket, style, Duration::from_millis(write_timeout_ms)));
        Self::over(Stream::new(door.clone(), conn, subscription), Frames::new(early, message_bytes))
    }

    /// Goes on with a connection that something was said over already.
    pub fn over(stream: Stream, frames: Frames) -> Self {
        Self { stream, frames, heard: Instant::now() }
    }

    /// What the client has sent, for whoever ends the conversation.
    pub fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// The next message, or `Tick` at that time. Messages come in order; the stream is live while none is there.
    pub async fn turn(&mut self, until: Instant) -> Result<Turn, End> {
        let stop = self.stream.door.services.stop().clone();
        let conn = Arc::clone(&self.stream.conn);
        // Once for a turn, however often the socket speaks meanwhile: each stands in a list with those of thousands of
        // connections, and to enter and leave that is to look at memory that is in no cache.
        let (mut stopped, mut rung) = (pin!(stop.cancelled()), pin!(conn.bell.notified()));
        let mut tick = pin!(tokio::time::sleep_until(until));
        loop {
            // Asked first, so that a client that never stops talking does not outlive its token.
            if Instant::now() >= until {
                return Ok(Turn::Tick);
            }
            if let Some(said) = self.read().await? {
                return Ok(said);
            }
            let going = match self.stream.is_live() && !self.stream.is_called() {
                true => Going::Live,
                false => self.stream.catch_up().await?,
            };
            tokio::select! {
                biased;
                () = &mut stopped => return Err(End::Draining),
                () = &mut rung => return Ok(Turn::Called),
                readable = conn.socket.readable() => {
                    readable.map_err(|_| End::Gone)?;
                    if self.frames.take_from(&conn.socket)? {
                        self.heard = Instant::now();
                    }
                }
                () = &mut tick => return Ok(Turn::Tick),
                flushed = self.stream.flush(), if going == Going::Writing => flushed?,
                () = std::future::ready(()), if going == Going::Reading => {}
            }
        }
    }

    /// The next message of what has arrived.
    async fn read(&mut self) -> Result<Option<Turn>, End> {
        loop {
            let (answer, message) = self.frames.next();
            if !answer.is_empty() {
                self.stream.say(answer).await?;
            }
            match message? {
                Some(Message::Text(text)) => return Ok(Some(Turn::Text(text))),
                Some(Message::Binary(bytes)) => return Ok(Some(Turn::Binary(bytes))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Ends the conversation with that close code, behind what waits.
    pub async fn close(&mut self, code: u16, reason: &'static str) -> Result<(), Gone> {
        let frame = self.frames.close(code, reason);
        self.stream.say(frame).await?;
        self.stream.flush().await
    }

    /// A ping frame.
    pub async fn ping(&mut self) -> Result<(), Gone> {
        self.stream.say(Bytes::from_static(&[0x89, 0])).await
    }
}

impl End {
    /// The close code of a WebSocket; `None` where nobody is there to be told.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Gone => None,
            Self::Frame(close, _) => Some(*close),
            Self::Expired | Self::Refused(_) => Some(4401),
            Self::Draining => Some(1001),
            Self::Engine(_) => Some(1011),
        }
    }
}
