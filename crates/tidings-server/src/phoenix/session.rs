//! One client's conversation in channels.
//!
//! Owns: joins, leaves, heartbeats, what ends a channel, and the answers. Live events are written by the fan as
//! frames made once for each channel name. Never: ends the connection because a channel has ended.

use super::joined::{Channel, Joined, Reads};
use super::publish;
use crate::Door;
use crate::conn::{Gone, Socket, Style};
use crate::refusal::Refusal;
use crate::stream::{self, End, Stream};
use crate::turn::{Talk, Turn};
use crate::wire;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::Error;
use tidings_engine::auth::Refused;
use tidings_engine::delivery::Kind;
use tidings_model::phoenix::{self, Address, Frame, Join, Ref, Version};
use tidings_model::{Code, Filter, From, Principal, Topic, Uuid, Watcher};
use tokio::time::Instant;

struct Session {
    talk: Talk,
    version: Version,
    joined: Joined,
}

/// Why a channel ends although the client has not left it.
enum Close {
    /// For good: the client does not come back by itself.
    Good(&'static str),
    /// The client may join again, with a fresh token.
    Error(&'static str),
}

/// Serves a client until it goes, or has to go.
pub async fn converse(door: Door, socket: (Socket, Vec<u8>), version: Version) {
    let _open = door.metrics.open_phoenix();
    let limits = door.tidings.limits();
    let subscription = door.tidings.subscription(Arc::new(Principal::nobody()));
    let (timeout, bytes) = (limits.write_timeout_ms, limits.frame_bytes);
    let talk = Talk::new(&door, socket, Style::Phoenix(version), timeout, bytes, subscription);
    let mut session = Session { talk, version, joined: Joined::default() };
    let Err(end) = session.live().await;
    if let Some(code) = end.close_code() {
        // A reader that takes nothing is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(2), session.talk.close(code, end.reason().0)).await;
    }
}

impl Session {
    fn stream(&mut self) -> &mut Stream {
        &mut self.talk.stream
    }

    async fn live(&mut self) -> Result<Infallible, End> {
        let config = &self.talk.stream.door.config;
        let silence = Duration::from_millis(config.phoenix.silence_ms);
        let beat = Duration::from_millis(config.heartbeat_ms);
        loop {
            let next = (Instant::now() + beat).min(self.talk.heard + silence);
            let next = self.joined.expires().map_or(next, |end| end.min(next));
            match self.talk.turn(next).await? {
                Turn::Text(text) => self.hear(&text).await?,
                Turn::Binary(_) => return Err(End::Frame(1003, Code::JsonInvalid)),
                Turn::Called => self.renew().await?,
                Turn::Tick if self.talk.heard.elapsed() >= silence => return Err(End::Gone),
                Turn::Tick => {
                    self.expire().await?;
                    // In case a wake-up was lost.
                    self.stream()
                        .look(|subscription| {
                            subscription.heartbeat();
                            Vec::new()
                        })
                        .await?;
                    self.stream().nudge();
                }
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        let Ok(frame) = Frame::parse(text, self.version) else {
            return Err(End::Frame(1007, Code::JsonInvalid));
        };
        // What has changed counts before what is asked next.
        self.renew().await?;
        match (&*frame.topic, &*frame.event) {
            ("phoenix", "heartbeat") => self.reply(&frame, "ok", json!({})).await?,
            (_, "phx_join") => self.join(&frame).await?,
            (name, "phx_leave") => {
                let channel = self.joined.get(name, &frame.join_ref).map(|own| Arc::clone(&own.name));
                self.reply(&frame, "ok", json!({})).await?;
                if let Some(name) = channel {
                    self.close(&name, Close::Good("left")).await?;
                }
            }
            (name, event) => match self.joined.get(name, &frame.join_ref) {
                None => self.refuse(&frame, json!({ "reason": "unmatched topic" })).await?,
                Some(channel) if event == "publish_events" => {
                    let who = Arc::clone(&channel.who);
                    self.publish(&frame, &who).await?;
                }
                Some(_) => self.refuse(&frame, json!({ "reason": "unmatched event" })).await?,
            },
        }
        Ok(())
    }

    async fn publish(&mut self, frame: &Frame<'_>, who: &Arc<Principal>) -> Result<(), End> {
        let door = self.stream().door.clone();
        // Boxed, as it is no part of an idle connection. Renewed: a token may end between two looks at it.
        let published = Box::pin(async {
            let who = door.gate.renew(who).await?;
            publish::publish(&door, &who, frame.payload).await
        });
        match published.await {
            Ok(answer) => self.reply(frame, "ok", answer).await?,
            Err(refusal) => self.refuse(frame, publish::reason(&refusal)).await?,
        }
        Ok(())
    }

    /// Joins a channel; one of the same name is closed first.
    async fn join(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        self.close(&frame.topic, Close::Good("joined again")).await?;
        let limits = self.stream().door.tidings.limits();
        let (channels, bytes) = (limits.socket_channels, limits.join_bytes);
        if self.joined.len() >= channels {
            let why = format!("at most {channels} channels on one socket");
            let refusal = Refusal::new(Code::SubscriptionsTooMany, why);
            return Ok(self.refuse(frame, publish::reason(&refusal)).await?);
        }
        if frame.payload.len() > bytes {
            let refusal = Refusal::new(Code::BodyTooLarge, format!("a join has at most {bytes} bytes"));
            return Ok(self.refuse(frame, publish::reason(&refusal)).await?);
        }
        let Some(Ok(address)) = Address::parse(&frame.topic) else {
            return Ok(self.refuse(frame, json!({ "reason": "unmatched topic" })).await?);
        };
        // Boxed, as it is no part of an idle connection.
        match Box::pin(self.admit(frame, address)).await {
            Ok(answer) => self.reply(frame, "ok", answer).await?,
            Err(refusal) => self.refuse(frame, publish::reason(&refusal)).await?,
        }
        Ok(())
    }

    async fn admit(&mut self, frame: &Frame<'_>, address: Address) -> Result<Value, Refusal> {
        let join = Join::parse(frame.payload).map_err(|error| Refusal::parameter(error.to_string()))?;
        let token = join.token.ok_or_else(|| Refusal::new(Code::TokenMissing, "a join shows a token"))?;
        let who = self.stream().door.gate.verify(&token).await?;
        let name: Arc<str> = (&*frame.topic).into();
        let reads = match address {
            Address::Topic(topic) => {
                self.read(&name, &who, &topic, &join.from, join.filter).await?;
                Reads::Topic(topic)
            }
            Address::Destination(id) => self.read_destination(&name, &who, id, &join.from).await?,
        };
        let answer = match join.says_where {
            true => json!({ "cursor": self.stream().subscription().cursor_apart(&name).to_string() }),
            false => json!({}),
        };
        // A client of the first version marks its join by the message alone.
        let join_ref = frame.join_ref.clone().or_else(|| frame.reference.clone());
        self.settle(name, join_ref, who, reads);
        Ok(answer)
    }

    async fn read(
        &mut self,
        name: &Arc<str>,
        who: &Arc<Principal>,
        topic: &Topic,
        from: &From,
        filter: Filter,
    ) -> Result<(), Error> {
        let reader = (Arc::clone(name), Arc::clone(who));
        self.stream().subscription().add_apart(reader, topic.clone(), from, filter).await
    }

    /// Reads what a destination lets through; who may consume it sees what it sees.
    async fn read_destination(
        &mut self,
        name: &Arc<str>,
        who: &Principal,
        id: Uuid,
        from: &From,
    ) -> Result<Reads, Error> {
        let (destination, lease) = self.stream().door.tidings.destinations().leased(who, id)?;
        if destination.kind() != Kind::Websocket {
            return Err(Error::MayNotSubscribe(destination.topic.clone()));
        }
        if destination.is_paused() {
            self.stream().subscription().remove_apart(name);
            return Ok(Reads::Destination { id, lease, topic: None });
        }
        let (topic, filter) = (destination.topic.clone(), destination.filter.clone());
        // Destinations are exempt from row rules.
        self.read(name, &Arc::new(Principal::admin()), &topic, from, filter).await?;
        Ok(Reads::Destination { id, lease, topic: Some(topic) })
    }

    /// Keeps a channel, and has this task woken when something changes that it rests on.
    fn settle(&mut self, name: Arc<str>, join_ref: Ref, who: Arc<Principal>, reads: Reads) {
        let expires = stream::expiry(&who, self.stream().door.tidings.clock().now());
        let channel = Channel { name, join_ref, who, reads, expires };
        let watcher = Arc::clone(&self.talk.stream.conn) as Arc<dyn Watcher>;
        self.joined.watch(&channel, &watcher);
        self.joined.insert(channel);
    }

    /// Ends the channels whose token has ended.
    async fn expire(&mut self) -> Result<(), End> {
        let now = self.stream().door.tidings.clock().now();
        for name in self.joined.over(now) {
            self.close(&name, Close::Error(Code::TokenExpired.as_str())).await?;
        }
        Ok(())
    }

    /// Goes on with the callers' rights and the destinations of now, where they have changed.
    async fn renew(&mut self) -> Result<(), End> {
        for name in self.joined.stale() {
            let Some(channel) = self.joined.get(&name, &None) else { continue };
            let (who, reads, join_ref) =
                (Arc::clone(&channel.who), channel.reads.clone(), channel.join_ref.clone());
            let door = self.stream().door.clone();
            match Box::pin(door.gate.renew(&who)).await {
                Ok(who) => match Box::pin(self.reads_of_now(&name, &who, reads)).await {
                    Ok(reads) => self.settle(name, join_ref, who, reads),
                    Err(error) => self.close(&name, Close::Good(error.code().as_str())).await?,
                },
                Err(refused) => self.close(&name, Close::of(&refused)).await?,
            }
        }
        Ok(())
    }

    async fn reads_of_now(
        &mut self,
        name: &Arc<str>,
        who: &Arc<Principal>,
        reads: Reads,
    ) -> Result<Reads, Error> {
        match &reads {
            Reads::Topic(topic) if !who.may_subscribe(topic) => Err(Error::MayNotSubscribe(topic.clone())),
            Reads::Topic(_) => {
                self.stream().subscription().renew_apart(name, who);
                Ok(reads)
            }
            Reads::Destination { id, lease, .. } if !lease.is_over() => {
                self.stream().door.tidings.destinations().leased(who, *id).map(|_| reads)
            }
            Reads::Destination { id, topic, .. } => {
                // Where it was reading it goes on; while it was paused everything has passed by.
                let from = match topic {
                    Some(_) => From::Cursor(self.stream().subscription().cursor_apart(name)),
                    None => From::Latest,
                };
                self.read_destination(name, who, *id, &from).await
            }
        }
    }

    /// Ends a channel, if it is there, and says why.
    async fn close(&mut self, name: &str, close: Close) -> Result<(), Gone> {
        let Some(channel) = self.joined.remove(name) else { return Ok(()) };
        self.stream().subscription().remove_apart(name);
        let (event, reason) = match close {
            Close::Good(reason) => ("phx_close", reason),
            Close::Error(reason) => ("phx_error", reason),
        };
        let mark = channel.join_ref.as_deref();
        let payload = json!({ "reason": reason }).to_string();
        self.send((mark, mark), name, event, payload.as_bytes()).await
    }

    async fn refuse(&mut self, frame: &Frame<'_>, response: Value) -> Result<(), Gone> {
        self.reply(frame, "error", response).await
    }

    async fn reply(&mut self, frame: &Frame<'_>, status: &str, response: Value) -> Result<(), Gone> {
        let payload = json!({ "status": status, "response": response }).to_string();
        let marks = (frame.join_ref.as_deref(), frame.reference.as_deref());
        self.send(marks, &frame.topic, "phx_reply", payload.as_bytes()).await
    }

    async fn send(
        &mut self,
        marks: (Option<&str>, Option<&str>),
        topic: &str,
        event: &str,
        payload: &[u8],
    ) -> Result<(), Gone> {
        let frame = phoenix::write(self.version, marks, topic, event, payload);
        self.stream().say(wire::text_frame(&frame)).await
    }
}

impl Close {
    fn of(refused: &Refused) -> Self {
        match refused.code() {
            code @ Code::TokenExpired => Self::Error(code.as_str()),
            // Whether the token counts could not be found out: the client asks again.
            code if code.retryable() => Self::Error(code.as_str()),
            code => Self::Good(code.as_str()),
        }
    }
}
