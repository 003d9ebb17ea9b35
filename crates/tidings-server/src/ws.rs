//! WebSocket: subscribe, publish and renew over one connection.
//!
//! Owns: the upgrade, and what is said. Live events are written by the fan as frames made once per event. Protocol: RFC 6455; the operations are in `tidings_model::op`.

use crate::Door;
use crate::answers::Slot;
use crate::coarse::together;
use crate::conn::{Gone, Socket, Style};
use crate::gate;
use crate::rates::Call;
use crate::refusal::Refusal;
use crate::stream::{self, End, Stream};
use crate::turn::{Talk, Turn};
use crate::upgrade::Upgrade;
use crate::wire;
use axum::extract::{Request, State};
use axum::response::Response;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::entities::{Access, Secret, Wish};
use tidings_engine::{Error, Subscription};
use tidings_model::op::{Op, Verb};
use tidings_model::{Code, EntityKey, Principal};
use tokio::time::Instant;

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
        let Some(socket) = taken.await else { return };
        // Boxed: the upgrade's own needs go before the conversation begins.
        Box::pin(converse(own, socket, who)).await;
        drop(slot);
    });
    Ok(response)
}

/// One client's conversation.
struct Session {
    talk: Talk,
    /// A token has been shown.
    is_known: bool,
    expires: Instant,
}

async fn converse(door: Door, socket: (Socket, Vec<u8>), who: Option<Arc<Principal>>) {
    let _open = door.metrics.open_ws();
    let limits = door.tidings.limits();
    let expires = match &who {
        Some(who) => stream::expiry(who, door.tidings.clock().now()),
        None => Instant::now() + AUTH_WITHIN,
    };
    let is_known = who.is_some();
    let subscription = door.tidings.subscription(who.unwrap_or_else(|| Arc::new(Principal::nobody())));
    let (timeout, bytes) = (limits.write_timeout_ms, limits.frame_bytes);
    let talk = Talk::new(&door, socket, Style::Ws, timeout, bytes, subscription);
    let mut session = Session { talk, is_known, expires };
    let Err(end) = session.live().await;
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), session.last_word(&end)).await;
}

impl Session {
    fn stream(&mut self) -> &mut Stream {
        &mut self.talk.stream
    }

    async fn live(&mut self) -> Result<Infallible, End> {
        let ping = Duration::from_millis(self.stream().door.config.ping_ms);
        let beat = Duration::from_millis(self.stream().door.config.heartbeat_ms).min(ping);
        let (mut beat_at, mut ping_at) = (together(beat), together(ping));
        loop {
            match self.talk.turn(beat_at.min(self.expires)).await? {
                Turn::Called => {}
                Turn::Text(text) => self.hear(&text).await?,
                Turn::Binary(_) => {
                    self.refuse(None, Code::JsonInvalid, "frames are JSON texts, not binary").await?;
                }
                Turn::Tick => {
                    beat_at = together(beat);
                    if self.is_known {
                        self.expires = self.stream().expiry();
                    }
                    if Instant::now() >= self.expires {
                        return Err(End::Expired);
                    }
                    // Whoever takes what waited for it is there, even if its answers are behind all that.
                    if self.talk.heard.max(self.talk.stream.moved).elapsed() > 3 * ping {
                        return Err(End::Gone);
                    }
                    self.beat().await?;
                    if Instant::now() >= ping_at {
                        ping_at = together(ping);
                        self.talk.ping().await?;
                    }
                    self.stream().nudge();
                }
            }
        }
    }

    /// Says where the cursors are when only events that did not pass went by.
    async fn beat(&mut self) -> Result<(), Gone> {
        self.stream()
            .look(|s| match s.heartbeat() {
                None => Vec::new(),
                Some(_) => s.topics().map(|t| wire::ws_cursor(t, &s.cursor_of(t))).collect(),
            })
            .await
    }

    async fn hear(&mut self, text: &str) -> Result<(), End> {
        self.stream().renew().await?;
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
                let who = Arc::clone(&self.stream().who);
                let (door, name) = (&self.stream().door, "publish");
                let counted = door.rates.check(&who, None, Call::Publish, name, door.tidings.clock().now());
                if let Err(refusal) = counted {
                    return Ok(self.refuse(reference, refusal.code, &refusal.detail).await?);
                }
                match self.stream().door.tidings.publish(&who, events).await {
                    Ok(receipt) => {
                        self.stream().say(wire::ws_published(reference, &receipt)).await?;
                    }
                    Err(error) => self.decline(reference, error).await?,
                }
            }
            Verb::Subscribe { topic, from, filter } => {
                let max = self.stream().door.tidings.limits().stream_topics;
                let subscription = self.stream().subscription();
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
                if self.stream().subscription().change_watches(|w| w.unwatch(&key)) == Some(true) {
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
                if self.stream().subscription().remove(&topic) {
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
        let (entities, who) = (self.stream().door.tidings.entities().clone(), Arc::clone(&self.stream().who));
        let subscription = self.stream().subscription();
        if subscription.watches().is_none() {
            subscription.with_entities(&entities, Access::Granted(who));
        }
        subscription
    }

    /// Sends the rows of an entity now, and whenever they change.
    async fn watch(&mut self, reference: Option<&str>, key: &EntityKey) -> Result<(), Gone> {
        if !self.stream().who.may_subscribe(&key.topic()) {
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
        let who = match Box::pin(self.stream().door.gate.verify(token)).await {
            Ok(who) => who,
            Err(refused) => {
                let refusal = Refusal::from(refused);
                return self.refuse(reference, refusal.code, &refusal.detail).await;
            }
        };
        self.is_known = true;
        let lost = self.stream().become_caller(Arc::clone(&who));
        self.expires = self.stream().expiry();
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
        self.stream().say(wire::ws_notice(&wire::with_ref(reference, answer))).await
    }

    /// Says what the engine says, without what happened inside.
    async fn decline(&mut self, reference: Option<&str>, error: Error) -> Result<(), Gone> {
        let refusal = Refusal::from(error);
        self.refuse(reference, refusal.code, &refusal.detail).await
    }

    async fn refuse(&mut self, reference: Option<&str>, code: Code, why: &str) -> Result<(), Gone> {
        self.stream().say(wire::ws_error(reference, code, why)).await
    }

    async fn last_word(&mut self, end: &End) -> Result<(), Gone> {
        let Some(close) = end.close_code() else { return Ok(()) };
        if matches!(end, End::Frame(1009, _)) {
            let max = self.stream().door.tidings.limits().frame_bytes;
            self.refuse(None, Code::BodyTooLarge, &format!("a frame has at most {max} bytes")).await?;
        }
        let (code, reason) = end.reason();
        let mut notice = wire::close_json(code, &reason);
        notice["op"] = "close".into();
        if matches!(end, End::Draining) {
            notice["retry_ms"] = stream::retry_ms(&self.stream().door).into();
        }
        self.stream().say(wire::ws_notice(&notice)).await?;
        self.talk.close(close, code).await
    }
}

fn of_entity(op: &str, key: &EntityKey) -> serde_json::Value {
    serde_json::json!({ "op": op, "entity": key.entity.as_str(), "id": key.id.as_str() })
}
