//! A connection that PostgreSQL streams changes over: the replication protocol.
//!
//! Owns: start-up and authentication, simple queries, the frames of a running stream, and the report of how far
//! everything is safe. The general client library speaks everything but this.
//! Never: knows what a change means.

use super::lsn::Lsn;
use super::socket::Socket;
use crate::postgres::Address;
use crate::source::Fault;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Room for what the server sends at once.
const READ_BYTES: usize = 128 << 10;
/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// What values look like, whatever the server's own settings say.
const OPTIONS: &str = "-c datestyle=ISO -c timezone=UTC -c intervalstyle=iso_8601 -c extra_float_digits=1 \
    -c bytea_output=hex -c statement_timeout=0 -c idle_in_transaction_session_timeout=0";

/// A connection.
pub struct Line {
    socket: Socket,
    inbox: BytesMut,
    outbox: BytesMut,
}

/// What a running stream says.
pub enum Frame {
    /// A message of the output plugin.
    Change(Bytes),
    /// Nothing before `end` is still to come, except what is in an open transaction.
    Alive { end: Lsn, wants_answer: bool },
}

/// Why the server refuses something, in its own words and SQLSTATE.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub state: String,
    pub text: String,
}

/// Why a line does not do what it should.
#[derive(Debug)]
pub enum Error {
    Refused(Refusal),
    Broke(String),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Broke(error.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Refusal { state, text }) => super::sentence::refused(&state, &text),
            Error::Broke(why) => Self::lost(format!("the connection to PostgreSQL broke: {why}")),
        }
    }
}

/// One row of a simple query, values as text.
pub struct Row(Bytes);

impl Line {
    /// Connects to the first host that answers, and authenticates.
    pub async fn connect(address: &Address) -> Result<Self, Error> {
        let timed = tokio::time::timeout(CONNECT_WITHIN, Self::introduce(address));
        timed.await.unwrap_or_else(|_| Err(Error::Broke("no connection in time".into())))
    }

    async fn introduce(address: &Address) -> Result<Self, Error> {
        let config = &address.config;
        let (inbox, outbox) = (BytesMut::with_capacity(READ_BYTES), BytesMut::new());
        let mut line = Self { socket: Socket::open(address).await?, inbox, outbox };
        let user = config.get_user().unwrap_or("postgres");
        let database = config.get_dbname().unwrap_or(user);
        let parameters = [
            ("user", user),
            ("database", database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", "tidings"),
            ("options", OPTIONS),
        ];
        frontend::startup_message(parameters, &mut line.outbox)?;
        line.flush().await?;
        line.authenticate(user, config.get_password().unwrap_or_default()).await?;
        Ok(line)
    }

    async fn authenticate(&mut self, user: &str, password: &[u8]) -> Result<(), Error> {
        let mut scram = None;
        loop {
            let (tag, mut body) = self.message().await?;
            match tag {
                b'R' if body.len() >= 4 => match body.get_i32() {
                    0 => {}
                    3 => frontend::password_message(password, &mut self.outbox)?,
                    5 if body.len() >= 4 => {
                        let salt = body[..4].try_into().expect("four bytes");
                        let hash = md5_hash(user.as_bytes(), password, salt);
                        frontend::password_message(hash.as_bytes(), &mut self.outbox)?;
                    }
                    10 => {
                        let begun = ScramSha256::new(password, ChannelBinding::unsupported());
                        frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut self.outbox)?;
                        scram = Some(begun);
                    }
                    11 => {
                        let scram = scram.as_mut().ok_or_else(confused)?;
                        scram.update(&body)?;
                        frontend::sasl_response(scram.message(), &mut self.outbox)?;
                    }
                    12 => scram.as_mut().ok_or_else(confused)?.finish(&body)?,
                    other => {
                        return Err(Error::Broke(format!("way of authentication {other} is not known")));
                    }
                },
                b'E' => return Err(Error::Refused(refusal(&body))),
                b'Z' => return Ok(()),
                _ => {}
            }
            self.flush().await?;
        }
    }

    /// Runs a query whose rows are few.
    pub async fn query(&mut self, text: &str) -> Result<Vec<Row>, Error> {
        self.ask(text).await?;
        let mut rows = Vec::new();
        while let Some(row) = self.row().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Begins a query; its rows are taken with [`Line::row`] until there is none.
    pub async fn ask(&mut self, text: &str) -> Result<(), Error> {
        frontend::query(text, &mut self.outbox)?;
        Ok(self.flush().await?)
    }

    /// The next row; after `None` or a refusal the line takes the next query.
    pub async fn row(&mut self) -> Result<Option<Row>, Error> {
        let mut refused = None;
        loop {
            match self.message().await? {
                (b'D', body) => return Ok(Some(Row(body))),
                (b'E', body) => refused = Some(refusal(&body)),
                (b'Z', _) => return refused.map_or(Ok(None), |refusal| Err(Error::Refused(refusal))),
                _ => {}
            }
        }
    }

    /// Begins a stream; its frames are taken with [`Line::frame`].
    pub async fn start(&mut self, command: &str) -> Result<(), Error> {
        self.ask(command).await?;
        loop {
            match self.message().await? {
                (b'W', _) => return Ok(()),
                (b'E', body) => return Err(Error::Refused(refusal(&body))),
                _ => {}
            }
        }
    }

    /// Frames are waited for until so many bytes have come, or so few again: whoever asks for many has a time after
    /// which one is enough.
    pub fn wake_at(&mut self, bytes: usize) {
        self.socket.wake_at(bytes);
    }

    /// The next frame. Cancel safe.
    pub async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The next frame, if it has arrived whole.
    pub fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        while let Some((tag, mut body)) = self.take() {
            match (tag, body.first()) {
                (b'd', Some(b'w')) if body.len() >= 25 => {
                    body.advance(25);
                    return Ok(Some(Frame::Change(body)));
                }
                (b'd', Some(b'k')) if body.len() >= 18 => {
                    body.advance(1);
                    let end = Lsn(body.get_u64());
                    body.advance(8);
                    return Ok(Some(Frame::Alive { end, wants_answer: body.get_u8() == 1 }));
                }
                (b'E', _) => return Err(Error::Refused(refusal(&body))),
                (b'c', _) => return Err(Error::Broke("the server ended the stream".into())),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Tells the server that everything up to `safe` may be forgotten.
    pub async fn confirm(&mut self, safe: Lsn, wants_answer: bool) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.outbox.put_u8(b'd');
        self.outbox.put_i32(4 + 34);
        self.outbox.put_u8(b'r');
        (0..3).for_each(|_| self.outbox.put_u64(safe.0));
        self.outbox.put_i64(i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - EPOCH_MICROS);
        self.outbox.put_u8(u8::from(wants_answer));
        Ok(self.flush().await?)
    }

    async fn message(&mut self) -> Result<(u8, Bytes), Error> {
        loop {
            match self.take() {
                // A notice.
                Some((b'N', _)) => {}
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    /// The next message that has arrived whole.
    fn take(&mut self) -> Option<(u8, Bytes)> {
        let (&tag, length) = (self.inbox.first()?, self.inbox.get(1..5)?);
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize + 1;
        if self.inbox.len() < length {
            // A row may have hundreds of MiB; what has arrived is not copied again with every read.
            self.inbox.reserve((length - self.inbox.len()).max(READ_BYTES));
            return None;
        }
        let mut body = self.inbox.split_to(length).freeze();
        body.advance(5.min(length));
        Some((tag, body))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 4 {
            self.inbox.reserve(READ_BYTES);
        }
        match self.socket.stream.read_buf(&mut self.inbox).await? {
            0 => Err(Error::Broke("the server closed it".into())),
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) -> Result<(), std::io::Error> {
        while self.outbox.has_remaining() {
            self.socket.stream.write_buf(&mut self.outbox).await?;
        }
        self.socket.stream.flush().await
    }
}

impl Row {
    /// Its values in order.
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let mut rest = self.0.get(2..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*length);
            let (value, after) = after.split_at_checked(usize::try_from(length).unwrap_or(0))?;
            rest = after;
            Some((length >= 0).then_some(value))
        })
    }

    /// A value as text; empty where there is none.
    pub fn text(&self, index: usize) -> String {
        let value = self.values().nth(index).flatten().unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }
}

fn confused() -> Error {
    Error::Broke("the server answers what was not asked".into())
}

/// The fields of an error message: a letter, then a text that ends with a zero.
fn refusal(body: &[u8]) -> Refusal {
    let fields: HashMap<u8, String> = body
        .split(|byte| *byte == 0)
        .filter_map(|field| field.split_first())
        .map(|(kind, text)| (*kind, String::from_utf8_lossy(text).into_owned()))
        .collect();
    let of = |kind: u8| fields.get(&kind).cloned().unwrap_or_default();
    Refusal { state: of(b'C'), text: of(b'M') }
}
