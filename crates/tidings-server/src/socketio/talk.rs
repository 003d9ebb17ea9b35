//! What a client and the server say to each other, whichever transport carries it.
//!
//! Owns: the verdict on the client's token, and what its events do. Native events (`subscribe`, `unsubscribe`,
//! `publish`, `resume`) are answered through their acknowledgement. Never: touches a socket.

use super::packet::{self, Kind, Malformed, Packet};
use super::session::Leave;
use super::sessions::{Entry, Handle};
use super::who::{self, Known};
use crate::Door;
use crate::dialect::esink;
use crate::rates::Call;
use crate::refusal::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use tidings_engine::Subscription;
use tidings_model::op::{Op, Verb};
use tidings_model::{Code, Cursor, Filter, From, Principal, Topic, Uuid};

/// One client's side of it.
pub struct Talk {
    door: Door,
    handle: Arc<Handle>,
    /// Set once the client is in.
    entry: Option<Entry>,
}

/// What comes of a packet.
#[derive(Default)]
pub struct Heard {
    /// Packets to send.
    pub out: Vec<String>,
    /// The client is this one from now on.
    pub caller: Option<Arc<Principal>>,
    /// The session ends like this once `out` is sent.
    pub leave: Option<Leave>,
}

/// What a client shows in its first packet.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown {
    token: Value,
    cursor: Value,
}

impl Talk {
    pub fn new(door: Door, handle: Arc<Handle>) -> Self {
        Self { door, handle, entry: None }
    }

    /// Whether the client has shown a token that counts.
    pub fn is_in(&self) -> bool {
        self.entry.is_some()
    }

    /// Does what a Socket.IO packet says.
    ///
    /// # Errors
    /// When it is none; the transport closes then.
    pub async fn hear(&mut self, text: &str, subscription: &mut Subscription) -> Result<Heard, Malformed> {
        let packet = Packet::parse(text)?;
        let mut heard = Heard::default();
        match packet.kind {
            Kind::Connect(_) if packet.namespace != "/" => {
                heard.out.push(packet::no_namespace(packet.namespace));
            }
            // It is in already.
            Kind::Connect(_) if self.is_in() => {}
            Kind::Connect(shown) => self.let_in(shown.unwrap_or_default(), subscription, &mut heard).await,
            _ if packet.namespace != "/" || !self.is_in() => return Err(Malformed),
            Kind::Disconnect => heard.leave = Some(Leave::Told),
            Kind::Event { name, ack, is_binary: true, .. } => refuse_binary(&name, ack, &mut heard),
            Kind::Event { name, arguments, ack, .. } => {
                self.event(&name, &arguments, ack, subscription, &mut heard).await;
            }
            Kind::Other => {}
        }
        Ok(heard)
    }

    /// The namespace is entered first, and the verdict is an event in it: so it is with Esink.
    async fn let_in(&mut self, shown: &str, subscription: &mut Subscription, heard: &mut Heard) {
        heard.out.push(packet::connected(&Uuid::new_v4().simple().to_string()));
        let shown: Shown = serde_json::from_str(shown).unwrap_or_default();
        let known = match shown.token.as_str() {
            // Boxed, as it is no part of an idle connection.
            Some(token) => Box::pin(who::verify(&self.door, token)).await,
            None => Ok(None),
        };
        let Ok(known) = known else {
            heard.leave = Some(Leave::Unsure);
            return;
        };
        let Some(Known { who, kind }) = known else {
            let verdict = json!({ "code": 401, "message": "Unauthorized" });
            heard.out.extend([packet::emit("error", &verdict, None), packet::DISCONNECT.into()]);
            heard.leave = Some(Leave::Told);
            return;
        };
        subscription.renew(Arc::clone(&who));
        let resumed = cursor(&shown.cursor);
        if resumed.is_none() && !shown.cursor.is_null() {
            let refusal =
                Refusal::new(Code::CursorInvalid, "`auth.cursor` is no cursor; what is new follows");
            heard.out.push(packet::emit("error", &told(&refusal), None));
        }
        let from = resumed.map_or(From::Latest, From::Cursor);
        if let Err(refusal) = self.follow(subscription, &who, &from).await {
            heard.out.push(packet::emit("error", &told(&refusal), None));
        }
        let (session, user) = (Uuid::new_v4().to_string(), who.id.as_deref().unwrap_or_default());
        let token = shown.token.as_str().filter(|_| kind == who::Kind::LookedUp);
        // Only now: whoever is told that this session was sent something finds it listening.
        self.entry = Some(self.door.sessions.enter(&self.handle, &session, user, token));
        let verdict = json!({
            "sessionId": session, "userId": user, "code": 200, "message": "Successfully connected.",
        });
        let position = subscription.cursor().to_string();
        heard.out.push(packet::emit("connected", &verdict, Some(&position)));
        if kind == who::Kind::Test {
            heard.out.extend(esink::sample(&self.door));
        }
        heard.caller = Some(who);
    }

    /// The client is no longer among those who are in.
    pub fn leave(&mut self) {
        self.entry = None;
    }

    /// Follows the tables that `who` may read.
    async fn follow(
        &self,
        subscription: &mut Subscription,
        who: &Principal,
        from: &From,
    ) -> Result<(), Refusal> {
        for name in self.door.tables() {
            let topic = Topic { name, key: None };
            if who.may_subscribe(&topic) {
                subscription.add(topic.clone(), from, Filter::default()).await?;
                subscription.mark(&topic);
            }
        }
        Ok(())
    }

    async fn event(
        &mut self,
        name: &str,
        arguments: &[&RawValue],
        ack: Option<u64>,
        subscription: &mut Subscription,
        heard: &mut Heard,
    ) {
        let body = arguments.first().map_or("null", |raw| raw.get());
        let who = Arc::clone(subscription.principal());
        let answer = match name {
            "event" => return heard.out.extend(esink::republish(&self.door, &who, body).await),
            "subscribe" | "unsubscribe" | "publish" => self.operate(name, body, &who, subscription).await,
            "resume" => self.resume(body, &who, subscription).await,
            // Nobody listens to anything else.
            _ => return,
        };
        match (answer, ack) {
            (Ok(answer), Some(ack)) => heard.out.push(packet::answer(ack, &answer)),
            (Ok(_), None) => {}
            (Err(refusal), ack) => heard.out.push(refused(&refusal, ack)),
        }
    }

    /// An operation as a WebSocket has it, its verb being the event's name.
    async fn operate(
        &self,
        verb: &str,
        body: &str,
        who: &Principal,
        subscription: &mut Subscription,
    ) -> Result<Value, Refusal> {
        let members = body.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let members = members.ok_or_else(|| {
            Refusal::new(Code::EventInvalid, format!("`{verb}` takes an object as its first argument"))
        })?;
        let comma = if members.trim().is_empty() { "" } else { "," };
        let op = Op::parse(&format!("{{\"op\":\"{verb}\"{comma}{members}}}"));
        match op.map_err(|e| Refusal::new(e.why.code(), e.why.to_string()))?.verb {
            Verb::Subscribe { topic, from, filter } => {
                let max = self.door.tidings.limits().stream_topics;
                if subscription.topics().filter(|t| **t != topic && !self.is_table(t)).count() >= max {
                    let why = format!("at most {max} subscriptions");
                    return Err(Refusal::new(Code::SubscriptionsTooMany, why));
                }
                subscription.add(topic.clone(), &from, filter).await?;
                Ok(json!({ "cursor": subscription.cursor_of(&topic).to_string() }))
            }
            Verb::Unsubscribe { topic } => {
                if subscription.remove(&topic) {
                    return Ok(json!({}));
                }
                let why = format!("there is no subscription to {topic}");
                Err(Refusal::new(Code::SubscriptionUnknown, why))
            }
            Verb::Publish { events } => {
                let (rates, now) = (&self.door.rates, self.door.tidings.clock().now());
                rates.check(who, None, Call::Publish, "publish", now)?;
                let receipt = self.door.tidings.publish(who, events).await?;
                let cursor = receipt.cursor().to_string();
                let ids: Vec<_> = receipt.events.iter().map(|event| event.id.to_string()).collect();
                Ok(json!({ "ids": ids, "cursor": cursor }))
            }
            // Only these three get here, and they mean nothing about entities.
            _ => Err(Refusal::new(Code::OpUnknown, "entities are not to be had over Socket.IO")),
        }
    }

    fn is_table(&self, topic: &Topic) -> bool {
        topic.key.is_none() && self.door.is_table(&topic.name)
    }

    /// Goes back to where the client's cursors stand, in the tables that they name.
    async fn resume(
        &self,
        body: &str,
        who: &Principal,
        subscription: &mut Subscription,
    ) -> Result<Value, Refusal> {
        let given: Value = serde_json::from_str(body).unwrap_or_default();
        let cursor = cursor(&given["cursor"]).ok_or_else(|| {
            Refusal::new(Code::CursorInvalid, "`resume` takes {cursor}: a cursor, or several in an array")
        })?;
        for position in &cursor.positions {
            let topic = Topic { name: position.topic.clone(), key: None };
            if self.is_table(&topic) && who.may_subscribe(&topic) {
                let from = From::Cursor(cursor.clone());
                subscription.add(topic.clone(), &from, Filter::default()).await?;
                subscription.mark(&topic);
            }
        }
        Ok(json!({ "cursor": subscription.cursor().to_string() }))
    }
}

/// One cursor, or several as one: the last word on each topic counts.
fn cursor(given: &Value) -> Option<Cursor> {
    let texts = match given {
        Value::String(text) => vec![text.as_str()],
        Value::Array(all) if all.len() <= Cursor::TOPICS_MAX => {
            all.iter().map(Value::as_str).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let mut whole = Cursor::default();
    for text in texts {
        for position in Cursor::parse(text).ok()?.positions {
            whole.positions.retain(|own| own.topic != position.topic);
            whole.positions.push(position);
        }
    }
    Some(whole)
}

/// What is attached to an event has no place in the log, whose events are JSON.
fn refuse_binary(name: &str, ack: Option<u64>, heard: &mut Heard) {
    if !["event", "subscribe", "unsubscribe", "publish", "resume"].contains(&name) {
        return;
    }
    let why = format!("`{name}` takes JSON, and no bytes; write them in base64");
    heard.out.push(refused(&Refusal::new(Code::EventInvalid, why), ack));
}

/// A refusal as the answer to an event, or as an event where none is awaited.
fn refused(refusal: &Refusal, ack: Option<u64>) -> String {
    match ack {
        Some(ack) => packet::answer(ack, &told(refusal)),
        None => packet::emit("error", &told(refusal), None),
    }
}

fn told(refusal: &Refusal) -> Value {
    json!({ "code": refusal.code.as_str(), "message": refusal.detail })
}
