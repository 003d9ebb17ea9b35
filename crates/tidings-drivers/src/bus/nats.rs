//! NATS as a bus: one subject for each entity.
//!
//! Owns: one client without its own reconnecting, so that nothing is sent or listened for behind our back.
//! NATS confirms nothing by itself, but handles what one connection says in order: an echo of our own behind a
//! signal or a subscription comes back when the server has taken it.

use super::link::{Desk, Done, Listen, Queue, SILENCE_MAX, Work};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::bus::{ANSWER_WITHIN, Error};
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

const PORT: u16 = 4222;
/// The library takes a server for dead that leaves two of its pings unanswered.
const PING_EVERY: Duration = SILENCE_MAX.checked_div(3).expect("not zero");
/// Messages of one entity that have arrived and wait for its sinks. With more of them the connection begins
/// anew, so that everything is fetched instead.
const ARRIVED_MAX: usize = 16_384;
/// Echoes that are awaited; each stands for a batch of signals.
const UNANSWERED_MAX: usize = 64;
const EVENTS_MAX: usize = 16;

/// A NATS server to be found at an address.
pub struct Nats {
    address: String,
    user: Option<String>,
    password: Option<String>,
}

/// A connection to it.
pub struct Session {
    client: Client,
    arrivals: SelectAll<BoxStream<'static, (Arc<str>, bytes::Bytes)>>,
    echoes: Subscriber,
    echo: String,
    /// How many echoes were asked for.
    asked: u64,
    events: mpsc::Receiver<Event>,
}

/// Who waits for an echo.
enum Waiting {
    Posts(Vec<Done>),
    Listen(Listen),
}

impl Nats {
    pub fn new(url: &Url) -> Self {
        let decoded =
            |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let scheme = url.scheme();
        let host = url.host_str().unwrap_or_default();
        Self {
            address: format!("{scheme}://{host}:{}", url.port().unwrap_or(PORT)),
            user: (!url.username().is_empty()).then(|| decoded(url.username())),
            password: url.password().map(decoded),
        }
    }

    fn options(&self, events: mpsc::Sender<Event>) -> ConnectOptions {
        let options = match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
            (Some(token), None) => ConnectOptions::with_token(token.clone()),
            (None, _) => ConnectOptions::new(),
        };
        options
            .name("tidings")
            .max_reconnects(1)
            .reconnect_delay_callback(|_| Duration::ZERO)
            .ignore_discovered_servers()
            .connection_timeout(ANSWER_WITHIN)
            .ping_interval(PING_EVERY)
            .subscription_capacity(ARRIVED_MAX)
            .event_callback(move |event| {
                let events = events.clone();
                async move {
                    // With so many of them waiting the session is over anyway.
                    let _ = events.try_send(event);
                }
            })
    }
}

impl Queue for Nats {
    type Session = Session;

    fn objection(name: &str) -> Option<&'static str> {
        let is_token = |token: &str| {
            !token.is_empty() && !matches!(token, "*" | ">") && !token.contains(char::is_whitespace)
        };
        let why = "a subject of NATS is words without blanks, joined by dots, none of them * or >";
        (!name.split('.').all(is_token)).then_some(why)
    }

    async fn connect(&mut self, names: &[String]) -> Result<Session, Error> {
        let (events_tx, events) = mpsc::channel(EVENTS_MAX);
        let connected = self.options(events_tx).connect(&self.address).await;
        let client = connected.map_err(|e| Error::Unreachable(e.to_string()))?;
        let echo = client.new_inbox();
        let echoes = client.subscribe(echo.clone()).await.map_err(broke)?;
        let mut session = Session { client, arrivals: SelectAll::new(), echoes, echo, asked: 0, events };
        for name in names {
            session.listen(name).await?;
        }
        session.ask().await?;
        tokio::select! {
            biased;
            why = over(&mut session.events) => Err(why),
            echo = session.echoes.next() => echo.map(|_| session).ok_or_else(|| broke("no echo")),
        }
    }

    async fn serve(&mut self, mut session: Session, desk: &mut Desk) -> Error {
        let mut unanswered: VecDeque<(u64, Waiting)> = VecDeque::new();
        loop {
            // Not biased: neither a flood of messages nor one of calls may starve the other.
            let step = tokio::select! {
                why = over(&mut session.events) => Err(why),
                Some((name, body)) = session.arrivals.next(), if !session.arrivals.is_empty() => {
                    desk.hear(&name, &body);
                    Ok(())
                }
                echo = session.echoes.next() => match echo {
                    Some(echo) => {
                        let at = std::str::from_utf8(&echo.payload).ok().and_then(|n| n.parse().ok());
                        while let Some((_, waiting)) = unanswered.pop_front_if(|(n, _)| Some(*n) <= at) {
                            waiting.answer(desk);
                        }
                        Ok(())
                    }
                    None => Err(broke("the client ended")),
                },
                work = desk.next(), if unanswered.len() < UNANSWERED_MAX => {
                    match timeout(ANSWER_WITHIN, session.take(work)).await {
                        Ok(asked) => asked.map(|waiting| unanswered.push_back(waiting)),
                        Err(_) => Err(broke("the server takes no more bytes")),
                    }
                }
            };
            if let Err(why) = step {
                return why;
            }
        }
    }
}

impl Session {
    async fn listen(&mut self, name: &str) -> Result<(), Error> {
        let messages = self.client.subscribe(name.to_owned()).await.map_err(broke)?;
        let name: Arc<str> = name.into();
        self.arrivals.push(messages.map(move |message| (Arc::clone(&name), message.payload)).boxed());
        Ok(())
    }

    /// Asks for an echo of everything so far; returns its number.
    async fn ask(&mut self) -> Result<u64, Error> {
        self.asked += 1;
        let number = self.asked.to_string();
        self.client.publish(self.echo.clone(), number.into()).await.map_err(broke)?;
        Ok(self.asked)
    }

    async fn take(&mut self, work: Work) -> Result<(u64, Waiting), Error> {
        let waiting = match work {
            Work::Posts(posts) => {
                let mut waiting = Vec::with_capacity(posts.len());
                for post in posts {
                    self.client.publish(post.name, post.body).await.map_err(broke)?;
                    waiting.push(post.done);
                }
                Waiting::Posts(waiting)
            }
            Work::Listen(listen) => {
                self.listen(&listen.name).await?;
                Waiting::Listen(listen)
            }
        };
        Ok((self.ask().await?, waiting))
    }
}

impl Waiting {
    fn answer(self, desk: &Desk) {
        match self {
            Self::Posts(posts) => posts.into_iter().for_each(|done| {
                // Whoever asked may have given up.
                let _ = done.send(Ok(()));
            }),
            Self::Listen(listen) => desk.listens(listen),
        }
    }
}

/// Why the connection is of no use any more, as soon as it isn't. Cancel safe.
async fn over(events: &mut mpsc::Receiver<Event>) -> Error {
    loop {
        match events.recv().await {
            // A reconnection may have lost messages: it is a new connection to us too.
            Some(Event::Connected) | Some(Event::LameDuckMode) => {}
            Some(Event::ServerError(error)) => return Error::Refused(error.to_string()),
            Some(event) => return Error::Unreachable(event.to_string()),
            None => return broke("the client ended"),
        }
    }
}

fn broke(why: impl std::fmt::Display) -> Error {
    Error::Unreachable(why.to_string())
}
