//! WebSocket: subscribe, publish and renew over one connection.
//!
//! Owns: the upgrade and the conversation. Frames are read by the WebSocket library; live events are written
//! by the fan as frames made once per event. Protocol: RFC 6455; the operations are in `tidings_model::op`.

use crate::Door;
use crate::conn::{Conn, Gone, Socket, Style};
use crate::gate;
use crate::listen::Slot;
use crate::rates::Call;
use crate::refusal::Refusal;
use crate::stream::{self, End, Stream};
use crate::upgrade::{self, Pipe, Upgrade};
use crate::wire;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::entities::{Access, Secret, Wish};
use tidings_engine::{Error, Subscription};
use tidings_model::op::{Op, Verb};
use tidings_model::{Code, EntityKey, Principal};
use tokio::time::Instant;
use tungstenite::protocol::{CloseFrame, WebSocketContext};
use tungstenite::{Error as WsError, Message};

/// A connection without a token must send one within this time.
const AUTH_WITHIN: Duration = Duration::from_secs(10);

/// `GET /v1/ws`.
pub async fn upgrade(State(door): State<Door>, mut request: Request) -> Result<Response, Refusal> {
    let who = gate::optional(&door, request.headers()).await?;
    let Some(upgrade) = Upgrade::of(&door, &mut request) else {
        return Err(Refusal::new(
            Code::ParameterInvalid,
            "a WebSocket upgrade (version 13) is expected here",
        ));
    };
    let (own, slot) = (door.clone(), request.extensions().get::<Slot>().cloned());
    let (response, taken) = upgrade.accept();
    door.services.spawn("ws", async move {
        let Some((socket, early)) = taken.await else { return };
        // Boxed: the upgrade's own needs go before the conversation begins.
        Box::pin(converse(own, socket, early, who)).await;
        drop(slot);
    });
    Ok(response)
}

/// One client's conversation.
struct Session {
    stream: Stream,
    frames: Box<WebSocketContext>,
    pipe: Pipe,
    /// A token has been shown.
    is_known: bool,
    expires: Instant,
    heard: Instant,
}

async fn converse(door: Door, socket: Socket, early: Vec<u8>, who: Option<Arc<Principal>>) {
    let _open = door.metrics.open_ws();
    let limits = door.tidings.limits();
    let timeout = Duration::from_millis(limits.write_timeout_ms);
    let conn = Arc::new(Conn::new(socket, Style::Ws, timeout));
    let now = Instant::now();
    let expires = match &who {
        Some(who) => stream::expiry(who, door.tidings.clock().now()),
        None => now + AUTH_WITHIN,
    };
    let is_known = who.is_some();
    let subscription = door.tidings.subscription(who.unwrap_or_else(|| Arc::new(Principal::nobody())));
    let mut session = Session {
        stream: Stream::new(door.clone(), conn, subscription),
        frames: Box::new(upgrade::frames(limits.frame_bytes)),
        pipe: Pipe { input: early, output: Vec::new() },
        is_known,
        expires,
        heard: now,
    };
    let end = match session.live().await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), session.last_word(&end)).await;
}

/// Nothing: a conversation only ends with a reason.
enum Never {}

impl Session {
    async fn live(&mut self) -> Result<Never, End> {
        let stop = self.stream.door.services.stop().clone();
        let conn = Arc::clone(&self.stream.conn);
        let ping = Duration::from_millis(self.stream.door.config.ping_ms);
        let beat = Duration::from_millis(self.stream.door.config.heartbeat_ms).min(ping);
        let mut pinged = Instant::now();
        if !self.pipe.input.is_empty() {
            self.take_in().await?;
        }
        self.stream.go_live().await?;
        loop {
            let tick = (Instant::now() + beat).min(self.expires);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Draining),
                () = conn.bell.notified() => {
                    if self.stream.is_called() {
                        self.stream.go_live().await?;
                    }
                }
                readable = conn.socket.readable() => {
                    readable.map_err(|_| End::Gone)?;
                    if self.pipe.take_from(&conn.socket)? {
                        self.heard = Instant::now();
                        self.take_in().await?;
                        if !self.stream.is_live() {
                            self.stream.go_live().await?;
                        }
                    }
                }
                () = tokio::time::sleep_until(tick) => {
                    if self.is_known {
                        self.expires = self.stream.expiry();
                    }
                    if Instant::now() >= self.expires {
                        return Err(End::Expired);
                    }
                    if self.heard.elapsed() > 3 * ping {
                        return Err(End::Gone);
                    }
                    self.beat().await?;
                    if pinged.elapsed() >= ping {
                        pinged = Instant::now();
                        self.stream.say(Bytes::from_static(&[0x89, 0])).await?;
                    }
                    self.stream.nudge().await?;
                }
            }
        }
    }

    /// Says where the cursors are when only events that did not pass went by.
    async fn beat(&mut self) -> Result<(), Gone> {
        self.stream
            .look(|s| match s.heartbeat() {
                None => Vec::new(),
                Some(_) => s.topics().map(|t| wire::ws_cursor(t, &s.cursor_of(t))).collect(),
            })
            .await
    }

    /// Takes in the frames that have arrived, and does what they say in order.
    async fn take_in(&mut self) -> Result<(), End> {
        loop {
            let message = self.frames.read(&mut self.pipe);
            if !self.pipe.output.is_empty() {
                // The library's own answers: pong and close.
                let output = std::mem::take(&mut self.pipe.output);
                self.stream.say(output.into()).await?;
            }
            match message {
                Ok(Message::Text(text)) => self.hear(&text).await?,
                Ok(Message::Binary(_)) => {
                    self.refuse(None, Code::JsonInvalid, "frames are JSON texts, not binary").await?;
                }
                Ok(_) => {}
                Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.pipe.input = Vec::new();
                    return Ok(());
                }
                Err(WsError::Capacity(e)) => {
                    self.refuse(None, Code::BodyTooLarge, &e.to_string()).await?;
                    return Err(End::Frame(1009, Code::BodyTooLarge));
                }
                Err(WsError::Utf8(_)) => return Err(End::Frame(1007, Code::Utf8Invalid)),
                Err(WsError::Protocol(_)) => return Err(End::Frame(1002, Code::ParameterInvalid)),
                Err(_) => return Err(End::Gone),
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        self.stream.renew().await?;
        let op = match Op::parse(text) {
            Ok(op) => op,
            Err(error) => {
                let (code, why) = (error.why.code(), error.why.to_string());
                return Ok(self.refuse(error.reference.as_deref(), code, &why).await?);
            }
        };
        let reference = op.reference.as_deref();
        if !self.is_known && !matches!(op.verb, Verb::Auth { .. } | Verb::Ping) {
            let why = "send {\"op\":\"auth\",\"token\":...} first, or a token in the Authorization header";
            return Ok(self.refuse(reference, Code::TokenMissing, why).await?);
        }
        match op.verb {
            Verb::Ping => self.answer(reference, serde_json::json!({ "op": "pong" })).await?,
            Verb::Auth { token } => self.renew(reference, &token).await?,
            Verb::Publish { events } => {
                let who = Arc::clone(&self.stream.who);
                let (door, name) = (&self.stream.door, "publish");
                let counted = door.rates.check(&who, None, Call::Publish, name, door.tidings.clock().now());
                if let Err(refusal) = counted {
                    return Ok(self.refuse(reference, refusal.code, &refusal.detail).await?);
                }
                match self.stream.door.tidings.publish(&who, events).await {
                    Ok(receipt) => {
                        self.stream.say(wire::ws_published(reference, &receipt)).await?;
                    }
                    Err(error) => self.decline(reference, error).await?,
                }
            }
            Verb::Subscribe { topic, from, filter } => {
                let max = self.stream.door.tidings.limits().stream_topics;
                let subscription = self.stream.subscription();
                if subscription.topics().filter(|t| *t != &topic).count() >= max {
                    let why = format!("at most {max} subscriptions");
                    return Ok(self.refuse(reference, Code::SubscriptionsTooMany, &why).await?);
                }
                match subscription.add(topic.clone(), &from, filter).await {
                    Ok(()) => {
                        let cursor = subscription.cursor_of(&topic);
                        let answer = serde_json::json!({
                            "op": "subscribed", "topic": topic.to_string(), "cursor": cursor.to_string(),
                        });
                        self.answer(reference, answer).await?;
                    }
                    Err(error) => self.decline(reference, error).await?,
                }
            }
            Verb::Watch { key } => self.watch(reference, &key).await?,
            Verb::Unwatch { key } => {
                if self.stream.subscription().change_watches(|w| w.unwatch(&key)) == Some(true) {
                    self.answer(reference, of_entity("unsubscribed", &key)).await?;
                } else {
                    let why = format!("there is no subscription to {} {}", key.entity, key.id);
                    self.refuse(reference, Code::SubscriptionUnknown, &why).await?;
                }
            }
            Verb::Secret { secret } => {
                self.entities().change_watches(|w| w.set_secret(Secret::new(secret)));
                self.answer(reference, serde_json::json!({ "op": "accepted" })).await?;
            }
            Verb::Unsubscribe { topic } => {
                if self.stream.subscription().remove(&topic) {
                    let answer = serde_json::json!({ "op": "unsubscribed", "topic": topic.to_string() });
                    self.answer(reference, answer).await?;
                } else {
                    let why = format!("there is no subscription to {topic}");
                    self.refuse(reference, Code::SubscriptionUnknown, &why).await?;
                }
            }
        }
        Ok(())
    }

    /// The subscription, ready for entities.
    fn entities(&mut self) -> &mut Subscription {
        let (entities, who) = (self.stream.door.tidings.entities().clone(), Arc::clone(&self.stream.who));
        let subscription = self.stream.subscription();
        if subscription.watches().is_none() {
            subscription.with_entities(&entities, Access::Granted(who));
        }
        subscription
    }

    /// Sends the rows of an entity now, and whenever they change.
    async fn watch(&mut self, reference: Option<&str>, key: &EntityKey) -> Result<(), Gone> {
        if !self.stream.who.may_subscribe(&key.topic()) {
            return self.decline(reference, Error::MayNotSubscribe(key.topic())).await;
        }
        let wish = Wish { state: true, trouble: true };
        match self.entities().change_watches(|w| w.watch(key, wish)).expect("made ready") {
            Ok(_) => self.answer(reference, of_entity("subscribed", key)).await,
            Err(error) => self.decline(reference, error).await,
        }
    }

    /// Goes on under a fresh token; what it no longer grants is given up aloud.
    async fn renew(&mut self, reference: Option<&str>, token: &str) -> Result<(), Gone> {
        // Boxed, as it is no part of an idle connection.
        let who = match Box::pin(self.stream.door.gate.verify(token)).await {
            Ok(who) => who,
            Err(refused) => {
                let refusal = Refusal::from(refused);
                return self.refuse(reference, refusal.code, &refusal.detail).await;
            }
        };
        self.is_known = true;
        let lost = self.stream.become_caller(Arc::clone(&who));
        self.expires = self.stream.expiry();
        let expires_at = who.expires_at.map(|at| at.to_string());
        self.answer(reference, serde_json::json!({ "op": "authenticated", "expires_at": expires_at }))
            .await?;
        for topic in lost {
            let why = format!("the new token does not grant {topic}; its subscription has ended");
            self.refuse(None, Code::Forbidden, &why).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, reference: Option<&str>, answer: serde_json::Value) -> Result<(), Gone> {
        self.stream.say(wire::ws_notice(&wire::with_ref(reference, answer))).await
    }

    /// Says what the engine says, without what happened inside.
    async fn decline(&mut self, reference: Option<&str>, error: Error) -> Result<(), Gone> {
        let refusal = Refusal::from(error);
        self.refuse(reference, refusal.code, &refusal.detail).await
    }

    async fn refuse(&mut self, reference: Option<&str>, code: Code, why: &str) -> Result<(), Gone> {
        self.stream.say(wire::ws_error(reference, code, why)).await
    }

    async fn last_word(&mut self, end: &End) -> Result<(), Gone> {
        let close = match end {
            End::Gone => return Ok(()),
            End::Frame(close, _) => *close,
            End::Expired | End::Refused(_) => 4401,
            End::Draining => 1001,
            End::Engine(_) => 1011,
        };
        let (code, reason) = end.reason();
        let mut notice = wire::close_json(code, &reason);
        notice["op"] = "close".into();
        if matches!(end, End::Draining) {
            notice["retry_ms"] = stream::retry_ms(&self.stream.door).into();
        }
        self.stream.say(wire::ws_notice(&notice)).await?;
        let frame = CloseFrame { code: close.into(), reason: code.into() };
        let _ = self.frames.close(&mut self.pipe, Some(frame));
        let output = std::mem::take(&mut self.pipe.output);
        self.stream.say(output.into()).await
    }
}

fn of_entity(op: &str, key: &EntityKey) -> serde_json::Value {
    serde_json::json!({ "op": op, "entity": key.entity.as_str(), "id": key.id.as_str() })
}
