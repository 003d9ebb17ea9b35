//! `publish_events`: what a client publishes through a channel.
//!
//! Owns: parting good events from bad ones, and the answer. Never: decides who may publish.

use crate::Door;
use crate::refusal::Refusal;
use serde_json::{Value, json};
use tidings_engine::{Error, Fate};
use tidings_model::event_relay::{self, Publish};
use tidings_model::{Code, NewEvent, Principal};

/// Publishes what is good; the answer has an entry for each event, in their order.
pub async fn publish(door: &Door, who: &Principal, payload: &str) -> Result<Value, Refusal> {
    let call = Publish::parse(payload).map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let topic = &call.topic;
    if topic.name.is_system() || !who.may_publish(topic) {
        return Err(Error::MayNotPublish(topic.clone()).into());
    }
    let max = door.tidings.limits().batch_events;
    if call.events.len() > max {
        return Err(Error::BatchTooLarge { found: call.events.len(), max }.into());
    }
    let now = door.tidings.clock().now();
    let (mut good, mut answers) = (Vec::new(), Vec::with_capacity(call.events.len()));
    for (index, raw) in call.events.iter().enumerate() {
        let new = event_relay::parse(raw.get(), topic, now).and_then(|new| acceptable(door, who, new, index));
        answers.push(match new {
            Ok(new) => {
                good.push(new);
                Value::Null
            }
            Err(errors) => json!({ "errors": errors }),
        });
    }
    let receipts: Vec<Value> = if call.durable {
        let receipt = door.tidings.publish(who, good).await?;
        let answer = |event: &tidings_engine::Published| match event.fate {
            Fate::Stored { offset, .. } => json!({ "id": event.id.to_string(), "offset": offset.0 }),
            Fate::Scheduled { available_at } => {
                json!({ "id": event.id.to_string(), "available_at": available_at.to_string() })
            }
        };
        receipt.events.iter().map(answer).collect()
    } else {
        let passed = door.tidings.pass_on(who, good).await?;
        passed.iter().map(|event| json!({ "id": event.id().to_string() })).collect()
    };
    let mut receipts = receipts.into_iter();
    for answer in answers.iter_mut().filter(|answer| answer.is_null()) {
        *answer = receipts.next().expect("one receipt for each good event");
    }
    Ok(json!({ "status": "ok", "events": answers }))
}

/// What holds for an event whichever door it came through.
fn acceptable(door: &Door, who: &Principal, new: NewEvent, index: usize) -> Result<NewEvent, Vec<String>> {
    let previous = new.topic.clone();
    match door.tidings.check(who, &new, index, Some(&previous)) {
        Ok(()) => Ok(new),
        Err(Error::Event { source, .. }) => Err(vec![source.to_string()]),
        Err(error) => Err(vec![Refusal::from(error).detail]),
    }
}

/// Why a call or a join was refused, in the words of EventRelay where it has some.
pub fn reason(refusal: &Refusal) -> Value {
    match refusal.code {
        // Whether there is such a destination is told to nobody who may not have it.
        Code::Forbidden
        | Code::DestinationUnknown
        | Code::TokenMissing
        | Code::TokenInvalid
        | Code::TokenExpired
        | Code::TokenRevoked => {
            json!({ "reason": "unauthorized" })
        }
        code => json!({ "reason": refusal.detail, "code": code.as_str() }),
    }
}
