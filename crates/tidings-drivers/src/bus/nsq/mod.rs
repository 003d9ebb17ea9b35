//! NSQ as a bus: one topic for each entity, one ephemeral channel for each bus.
//!
//! Owns: which connection does what. nsqd allows one subscription for each connection, so there is one that
//! publishes and one more for each entity; if any of them breaks, all begin anew.
//! A message is always finished, also one that is no signal: nobody else wants it from our channel.

mod frame;
mod line;

use super::link::{Desk, Done, Queue, Work};
use frame::Frame;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use line::Line;
use std::collections::VecDeque;
use std::sync::Arc;
use tidings_engine::bus::Error;
use tokio::sync::mpsc;
use url::Url;
use uuid::Uuid;

const PORT: u16 = 4150;
/// Messages that nsqd may have sent us before we finish them.
const IN_FLIGHT_MAX: usize = 256;
/// Messages that have arrived and wait for the sinks; what nsqd has beyond that waits there.
const ARRIVED_MAX: usize = 256;
/// Signals whose answer is awaited.
const UNANSWERED_MAX: usize = 1024;

/// An nsqd to be found at an address.
pub struct Nsq {
    address: String,
    channel: String,
}

/// A message: the topic, and the body unless it is too long for a signal.
type Arrival = (Arc<str>, Option<bytes::Bytes>);

/// Connections to one nsqd.
pub struct Session {
    publisher: Line,
    /// Each ends only with why it broke.
    listeners: FuturesUnordered<BoxFuture<'static, Error>>,
    arrivals: mpsc::Receiver<Arrival>,
    arrived: mpsc::Sender<Arrival>,
}

impl Nsq {
    pub fn new(url: &Url) -> Result<Self, super::Error> {
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !is_plain || !matches!(url.path(), "" | "/") {
            return Err(super::Error::NsqExtras);
        }
        let host = url.host_str().ok_or(super::Error::Host)?;
        let address = format!("{host}:{}", url.port().unwrap_or(PORT));
        Ok(Self { address, channel: format!("{}#ephemeral", Uuid::new_v4()) })
    }

    async fn listen(&self, session: &mut Session, topic: &str) -> Result<(), Error> {
        let mut line = Line::open(&self.address).await?;
        line.subscribe(topic, &self.channel, IN_FLIGHT_MAX).await?;
        session.listeners.push(Box::pin(listen(line, topic.into(), session.arrived.clone())));
        Ok(())
    }
}

impl Queue for Nsq {
    type Session = Session;

    fn objection(name: &str) -> Option<&'static str> {
        let why = "a topic of NSQ is 1 to 64 of the characters . _ - a-z A-Z 0-9";
        (!frame::is_topic(name)).then_some(why)
    }

    async fn connect(&mut self, names: &[String]) -> Result<Session, Error> {
        let (arrived, arrivals) = mpsc::channel(ARRIVED_MAX);
        let publisher = Line::open(&self.address).await?;
        let mut session = Session { publisher, listeners: FuturesUnordered::new(), arrivals, arrived };
        for name in names {
            self.listen(&mut session, name).await?;
        }
        Ok(session)
    }

    async fn serve(&mut self, mut session: Session, desk: &mut Desk) -> Error {
        let mut unanswered = VecDeque::new();
        loop {
            // Not biased: neither a flood of messages nor one of calls may starve the other.
            let step = tokio::select! {
                frame = session.publisher.next() => match frame {
                    Ok(frame) => answer(&mut session.publisher, frame, &mut unanswered).await,
                    Err(why) => Err(why),
                },
                Some((topic, body)) = session.arrivals.recv() => {
                    match body {
                        Some(body) => desk.hear(&topic, &body),
                        None => desk.ignore(&topic),
                    }
                    Ok(())
                }
                Some(why) = session.listeners.next() => Err(why),
                work = desk.next(), if unanswered.len() < UNANSWERED_MAX => match work {
                    Work::Posts(posts) => {
                        let bytes: Vec<u8> =
                            posts.iter().flat_map(|post| frame::publish(&post.name, &post.body)).collect();
                        unanswered.extend(posts.into_iter().map(|post| post.done));
                        session.publisher.send(&bytes).await
                    }
                    Work::Listen(listen) => {
                        let done = self.listen(&mut session, &listen.name).await;
                        done.map(|()| desk.listens(listen))
                    }
                },
            };
            if let Err(why) = step {
                return why;
            }
        }
    }
}

/// Takes in what nsqd says to the publisher: its answers come in the order of the questions.
async fn answer(line: &mut Line, frame: Frame, unanswered: &mut VecDeque<Done>) -> Result<(), Error> {
    let answer = match frame {
        Frame::Response(text) if text == frame::HEARTBEAT => return line.send(frame::NOP).await,
        Frame::Response(_) => Ok(()),
        Frame::Error(text) => Err(Error::Refused(text)),
        Frame::Message(..) => return Err(Error::Refused("a message without a subscription".into())),
    };
    if let Some(done) = unanswered.pop_front() {
        // Whoever asked may have given up.
        let _ = done.send(answer);
    }
    Ok(())
}

/// Reads one subscription until it breaks.
async fn listen(mut line: Line, topic: Arc<str>, arrived: mpsc::Sender<Arrival>) -> Error {
    loop {
        let step = match line.next().await {
            Ok(Frame::Message(id, body)) => {
                // The receiver lives as long as this future.
                let _ = arrived.send((Arc::clone(&topic), body)).await;
                line.send(&frame::finish(&id)).await
            }
            Ok(Frame::Response(text)) if text == frame::HEARTBEAT => line.send(frame::NOP).await,
            Ok(Frame::Response(_)) => Ok(()),
            // The message's time was up before we finished it; it will come once more.
            Ok(Frame::Error(text)) if text.starts_with("E_FIN_FAILED") => Ok(()),
            Ok(Frame::Error(text)) => Err(Error::Refused(text)),
            Err(why) => Err(why),
        };
        if let Err(why) = step {
            return why;
        }
    }
}
