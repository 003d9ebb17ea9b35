//! `POST /api/events`: events of one topic, each answered in its place.
//!
//! Owns: parting good events from bad ones. The good ones go to the log as one call, or pass to those who listen
//! where they are not to be stored; the bad ones come back with `errors` and are kept in `$dead`.

use super::event::{Fate, Sent};
use super::refused::Refused;
use super::{bury, verdict};
use crate::caller::Caller;
use crate::http::body::Parts;
use crate::http::reply;
use crate::rates::Call;
use crate::refusal::Refusal;
use crate::{Door, gate};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{StatusCode, request};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::net::IpAddr;
use tidings_engine::{DeadEvent, Error, Fate as Stored};
use tidings_model::{Code, EventError, Principal, Topic};

#[derive(Deserialize)]
#[serde(expecting = "an object with topic, durable and events")]
struct Wire<'a> {
    topic: Option<String>,
    durable: Option<Value>,
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
}

/// Publishes what the body holds.
pub async fn post(State(door): State<Door>, Caller(peer): Caller, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = Parts::new(body, door.tidings.limits().read_timeout_ms);
    match publish(&door, &head, peer, &mut body).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn publish(
    door: &Door,
    head: &request::Parts,
    peer: IpAddr,
    body: &mut Parts,
) -> Result<Response, Refused> {
    let who = gate::bearer(door, &head.headers).await?;
    let body = body.whole(door.tidings.limits().body_bytes).await?;
    let text = EventError::text(&body).map_err(Refusal::from)?;
    let wire: Wire<'_> = EventError::read(text).map_err(Refusal::from)?;
    let is_durable = durable(wire.durable.as_ref())?;
    let call = if is_durable { Call::RelayPublish } else { Call::RelayPublishPassing };
    door.rates.check(&who, Some(peer), call, "publish_events", door.tidings.clock().now())?;
    let named = wire.topic.filter(|topic| !topic.is_empty());
    let named = named.ok_or_else(|| Refused::new(409, "A topic must be provided"))?;
    let topic = Topic::parse(&named).map_err(Refusal::from)?;
    let events = wire.events.ok_or_else(|| Refused::new(400, "events can't be blank"))?;
    if topic.name.is_system() || !who.may_publish(&topic) {
        let error = format!("You are not permitted to perform this action for topic=\"{topic}\"");
        return Err(Refused::new(403, error));
    }
    let max = door.tidings.limits().batch_events;
    if events.len() > max {
        return Err(Error::BatchTooLarge { found: events.len(), max }.into());
    }
    let (status, answer) = each(door, &who, &topic, &events, is_durable).await?;
    Ok(reply::json(status, answer))
}

/// Publishes those that may be; 400 where there are events and none may.
async fn each(
    door: &Door,
    who: &Principal,
    topic: &Topic,
    events: &[&RawValue],
    is_durable: bool,
) -> Result<(StatusCode, Vec<u8>), Refused> {
    let now = door.tidings.clock().now();
    let (mut good, mut dead, mut answers) = (Vec::new(), Vec::new(), Vec::with_capacity(events.len()));
    for (index, raw) in events.iter().enumerate() {
        let sent = serde_json::from_str::<Sent<'_>>(raw.get()).ok();
        let new = match &sent {
            Some(sent) => sent.read(topic, now),
            None => Err(vec!["an event must be a JSON object".to_owned()]),
        };
        let new = match new {
            Ok(new) => verdict(door, who, new, index, false)?,
            Err(errors) => Err(errors),
        };
        let mut fate = Fate { topic: topic.to_string(), ..Fate::default() };
        match new {
            Ok(new) => {
                fate.topic = new.topic.to_string();
                (fate.occurred_at, fate.available_at) = (new.occurred_at, new.available_at);
                good.push(new);
            }
            Err(errors) => {
                fate.errors.clone_from(&errors);
                let event = Bytes::copy_from_slice(raw.get().as_bytes());
                dead.push(DeadEvent { topic: topic.to_string(), event, errors, door: "http" });
            }
        }
        answers.push((sent, fate));
    }
    let status =
        if good.is_empty() && !dead.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
    let accepted = answers.iter_mut().map(|(_, fate)| fate).filter(|fate| fate.errors.is_empty());
    if is_durable {
        let receipt = door.tidings.publish(who, good).await?;
        accepted.zip(&receipt.events).for_each(|(fate, published)| {
            fate.id = Some(published.id);
            if let Stored::Stored { offset, .. } = published.fate {
                fate.offset = Some(offset.0);
            }
        });
    } else {
        let passed = door.tidings.pass_on(who, good).await?;
        accepted.zip(&passed).for_each(|(fate, event)| fate.id = Some(event.id()));
    }
    bury(door, who, dead).await;
    Ok((status, written(&answers)))
}

fn written(answers: &[(Option<Sent<'_>>, Fate)]) -> Vec<u8> {
    let mut out = b"{\"data\":[".to_vec();
    for (index, (sent, fate)) in answers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match sent {
            Some(sent) => sent.write(fate, &mut out),
            None => serde_json::to_writer(&mut out, &serde_json::json!({ "errors": fate.errors }))
                .expect("texts into memory"),
        }
    }
    out.extend_from_slice(b"]}");
    out
}

/// Yes unless it is said otherwise, in one of the ways in which forms and scripts say it.
fn durable(said: Option<&Value>) -> Result<bool, Refusal> {
    let text = match said {
        None | Some(Value::Null) => return Ok(true),
        Some(Value::String(text)) => text.to_ascii_lowercase(),
        Some(other) => other.to_string(),
    };
    match text.as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(Refusal::new(Code::EventInvalid, "durable is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durable_is_said_in_many_ways_and_meant_where_nothing_is_said() {
        for yes in [json!(null), json!(true), json!("Yes"), json!(1), json!("t")] {
            assert!(durable(Some(&yes)).unwrap(), "{yes}");
        }
        for no in [json!(false), json!("NO"), json!(0), json!("off")] {
            assert!(!durable(Some(&no)).unwrap(), "{no}");
        }
        assert!(durable(None).unwrap() && durable(Some(&json!("perhaps"))).is_err());
    }
}
