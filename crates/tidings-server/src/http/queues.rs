//! Events of a queue: taken, acknowledged, given back.

use super::address;
use super::reply;
use super::users::body;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tidings_model::{Event, Uuid};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    #[serde(default = "usual")]
    max: usize,
    consumer: Option<String>,
}

fn usual() -> usize {
    100
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    events: Vec<String>,
}

impl Ids {
    fn parse(&self) -> Result<Vec<Uuid>, Refusal> {
        let ids = self.events.iter().map(|id| id.parse().ok()).collect::<Option<_>>();
        ids.ok_or_else(|| Refusal::parameter("`events` lists the ids of events, each a UUID"))
    }
}

/// `POST /v1/destinations/{id}/pull`: lends up to `max` events. What a named `consumer` got before counts as done
/// unless it is given back in time; without a name only `ack` ends a lease well.
pub async fn pull(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = address::destination_id(request.uri())?;
    let Pull { max, consumer } = body(&door, request).await?;
    let most = door.tidings.limits().page_events;
    if !(1..=most).contains(&max) {
        return Err(Refusal::parameter(format!("`max` is a number from 1 to {most}")));
    }
    if consumer.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255) {
        return Err(Refusal::parameter("`consumer` has 1 to 255 bytes"));
    }
    let events = door.tidings.destinations().pull_queued(&who, id, max, consumer.as_deref()).await?;
    Ok(listed(&events))
}

/// `POST /v1/destinations/{id}/ack`: these events are done with.
pub async fn acknowledge(
    State(door): State<Door>,
    Who(who): Who,
    request: Request,
) -> Result<Response, Refusal> {
    let id = address::destination_id(request.uri())?;
    let events = body::<Ids>(&door, request).await?.parse()?;
    let count = door.tidings.destinations().acknowledge(&who, id, &events).await?;
    Ok(reply::json(StatusCode::OK, json!({ "acknowledged": count }).to_string()))
}

/// `POST /v1/destinations/{id}/unlock`: gives events back; the answer has those that were lent.
pub async fn unlock(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = address::destination_id(request.uri())?;
    let events = body::<Ids>(&door, request).await?.parse()?;
    Ok(listed(&door.tidings.destinations().unlock(&who, id, &events).await?))
}

fn listed(events: &[Event]) -> Response {
    let mut out = br#"{"events":["#.to_vec();
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        event.write_json(&mut out);
    }
    out.extend_from_slice(b"]}");
    reply::json(StatusCode::OK, out)
}
