//! One client's conversation.
//!
//! Owns: its messages, timers and closes. Rows are written by the fan as everywhere. Never: answers anything
//! that the client has not opted in to.

use super::message::{Bad, Message};
use super::{Auth, EntitySync, Opted};
use crate::Door;
use crate::coarse::together;
use crate::conn::{Gone, Socket, Style};
use crate::refusal::Refusal;
use crate::stream::{self, End, Stream};
use crate::turn::{Talk, Turn};
use crate::wire;
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::entities::{Access, Secret, Wish};
use tidings_model::{Code, EntityKey, Principal};
use tokio::time::Instant;

struct Session {
    talk: Talk,
    secret: Secret,
    opted: Opted,
    /// The token's end, where the secret is one.
    expires: Option<Instant>,
    ping_at: Instant,
}

/// Serves a client until it goes, or has to go.
pub async fn converse(door: Door, socket: (Socket, Vec<u8>), opted: Opted) {
    let _open = door.metrics.open_entity_sync();
    let config = &door.config.entity_sync;
    let nobody = Arc::new(Principal::nobody());
    let mut subscription = door.tidings.subscription(Arc::clone(&nobody));
    let access = match config.auth {
        Auth::None => Access::Open,
        Auth::Jwt => Access::Shown(nobody),
    };
    subscription.with_entities(door.tidings.entities(), access);
    let (timeout, bytes) = (config.write_timeout_ms, config.message_bytes);
    let talk = Talk::new(&door, socket, Style::EntitySync, timeout, bytes, subscription);
    let ping_at = together(Duration::from_millis(config.ping_ms));
    let mut session = Session { talk, secret: Secret::default(), opted, expires: None, ping_at };
    let Err(end) = session.live().await;
    // A reader that takes nothing is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), session.last_word(&end)).await;
}

impl Session {
    fn config(&self) -> &EntitySync {
        &self.talk.stream.door.config.entity_sync
    }

    fn stream(&mut self) -> &mut Stream {
        &mut self.talk.stream
    }

    async fn live(&mut self) -> Result<Infallible, End> {
        let ping = Duration::from_millis(self.config().ping_ms);
        let pong = Duration::from_millis(self.config().pong_ms);
        loop {
            let next = self.ping_at.min(self.talk.heard + pong);
            let next = self.expires.map_or(next, |end| end.min(next));
            match self.talk.turn(next).await? {
                Turn::Called => {}
                Turn::Text(text) => self.hear(text.into()).await?,
                Turn::Binary(bytes) => self.hear(bytes).await?,
                Turn::Tick => self.tick(ping, pong).await?,
            }
        }
    }

    async fn tick(&mut self, ping: Duration, pong: Duration) -> Result<(), End> {
        let now = Instant::now();
        if self.expires.is_some_and(|end| now >= end) {
            return Err(End::Expired);
        }
        if now >= self.talk.heard + pong {
            return Err(End::Gone);
        }
        if now >= self.ping_at {
            self.ping_at = together(ping);
            self.talk.ping().await?;
        }
        self.stream().nudge();
        Ok(())
    }

    async fn hear(&mut self, json: Bytes) -> Result<(), End> {
        self.stream().renew().await?;
        match Message::parse(&json) {
            Ok(Message::Subscribe(key)) => {
                let wish = Wish { state: self.opted.state, trouble: self.opted.errors };
                let watched = self.stream().subscription().change_watches(|w| w.watch(&key, wish));
                match watched.expect("made for entities") {
                    Ok(_) => self.acknowledge("subscribed", Some(&key)).await?,
                    Err(error) => {
                        let refusal = Refusal::from(error);
                        self.complain(refusal.code, &refusal.detail, Some(&key)).await?;
                    }
                }
            }
            Ok(Message::Unsubscribe(key)) => {
                self.stream().subscription().change_watches(|w| w.unwatch(&key));
                self.acknowledge("unsubscribed", Some(&key)).await?;
            }
            Ok(Message::Secret(secret)) => self.show(Secret::new(secret)).await?,
            Ok(Message::Other) => self.pass_through(json).await?,
            Err(Bad { code, why }) => self.complain(code, why, None).await?,
        }
        Ok(())
    }

    /// The client shows another secret; where that is a token, it decides what is sent from now on.
    async fn show(&mut self, secret: Secret) -> Result<(), End> {
        self.secret = secret.clone();
        // First the secret: what begins with a new principal is fetched with it.
        self.stream().subscription().change_watches(|w| w.set_secret(secret.clone()));
        if self.config().auth == Auth::Jwt {
            let door = self.stream().door.clone();
            // Boxed, as it is no part of an idle connection.
            let (who, refused) = match Box::pin(door.gate.verify(secret.expose())).await {
                Ok(who) => (who, None),
                Err(refused) => (Arc::new(Principal::nobody()), Some(refused)),
            };
            let expires = || stream::expiry(&who, door.tidings.clock().now());
            self.expires = refused.is_none().then(expires);
            self.stream().become_caller(who);
            if let Some(refused) = refused {
                let refusal = Refusal::from(refused);
                return Ok(self.complain(refusal.code, &refusal.detail, None).await?);
            }
        }
        Ok(self.acknowledge("accepted", None).await?)
    }

    /// Gives a message that is none of ours to whoever takes such.
    async fn pass_through(&mut self, json: Bytes) -> Result<(), End> {
        let Some(to) = self.stream().door.pass_through() else {
            let why = "messages without an action go nowhere here";
            return Ok(self.complain(Code::OpUnknown, why, None).await?);
        };
        let limit = Duration::from_millis(self.config().pass_through_timeout_ms);
        let taken = tokio::time::timeout(limit, to.take(&self.secret, json)).await;
        if !matches!(taken, Ok(Ok(()))) {
            self.stream().door.metrics.pass_through_failed();
            tracing::debug!("a message was not passed through");
            let why = "the message could not be passed on";
            self.complain(Code::ResolverFailed, why, None).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, action: &str, key: Option<&EntityKey>) -> Result<(), Gone> {
        if !self.opted.acks {
            return Ok(());
        }
        self.tell(action, serde_json::json!({}), key).await
    }

    async fn complain(&mut self, code: Code, why: &str, key: Option<&EntityKey>) -> Result<(), Gone> {
        if !self.opted.errors {
            return Ok(());
        }
        self.tell("error", serde_json::json!({ "code": code.as_str(), "message": why }), key).await
    }

    async fn tell(
        &mut self,
        action: &str,
        mut body: serde_json::Value,
        key: Option<&EntityKey>,
    ) -> Result<(), Gone> {
        if let Some(key) = key {
            (body["id"], body["entity"]) = (key.id.as_str().into(), key.entity.as_str().into());
        }
        self.stream().say(wire::ws_notice(&serde_json::json!({ "action": action, "body": body }))).await
    }

    async fn last_word(&mut self, end: &End) -> Result<(), Gone> {
        match end.close_code() {
            Some(close) => self.talk.close(close, end.reason().0).await,
            None => Ok(()),
        }
    }
}
