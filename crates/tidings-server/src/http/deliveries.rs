//! `/v1/deliveries`: what became of events on their way to webhooks, and sending them again.
//!
//! Owns: a delivery as JSON.

use super::address::{self, Query};
use super::destinations::of_value;
use super::reply;
use super::users::body;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tidings_engine::delivery::{Again, Delivery, DeliveryQuery};
use tidings_model::Timestamp;

/// `GET /v1/deliveries`: those waiting and dead, then those that went well, the newest first.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["destination", "status", "after", "limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let destinations = door.tidings.destinations();
    let destination = |text: &str| match destinations.by_name(&who, text)? {
        Some(found) => Ok(found.id),
        None => text.parse().map_err(|_| Refusal::parameter("`destination` is neither a name nor an id")),
    };
    let wanted = DeliveryQuery {
        destination: query.one("destination")?.map(destination).transpose()?,
        status: query.one("status")?.map(status).transpose()?,
    };
    let page = destinations.deliveries(&who, wanted, query.one("after")?, limit).await?;
    let mut answer = json!({ "deliveries": page.deliveries.iter().map(json).collect::<Vec<_>>() });
    if let Some(next) = page.next {
        answer["next"] = next.into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

fn status(text: &str) -> Result<tidings_engine::delivery::Status, Refusal> {
    of_value(text.into()).map_err(|_| Refusal::parameter("`status` is `waiting`, `dead` or `delivered`"))
}

/// `GET /v1/deliveries/{id}`.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let found = door.tidings.destinations().delivery(&who, address::delivery_id(&uri)?).await?;
    Ok(reply::json(StatusCode::OK, json(&found).to_string()))
}

/// `POST /v1/deliveries/{id}/replay`: sends this one again.
pub async fn replay(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let id = address::delivery_id(&uri)?;
    door.tidings.destinations().replay(&who, id.destination, Again::One(id.offset)).await?;
    Ok(accepted())
}

/// What is to be sent again: everything dead, or a range by offset or time.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(default)]
    dead: bool,
    from: Option<Place>,
    to: Option<Place>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Offset(u64),
    Time(Timestamp),
}

/// `POST /v1/destinations/{id}/replay`.
pub async fn replay_all(
    State(door): State<Door>,
    Who(who): Who,
    request: Request,
) -> Result<Response, Refusal> {
    let id = address::destination_id(request.uri())?;
    let Wire { dead, from, to } = body(&door, request).await?;
    let again = match (dead, from, to) {
        (true, None, None) => Again::Dead,
        (false, Some(Place::Offset(from)), None) => Again::Offsets(from, u64::MAX),
        (false, Some(Place::Offset(from)), Some(Place::Offset(to))) => Again::Offsets(from, to),
        (false, Some(Place::Time(from)), None) => Again::Times(from, None),
        (false, Some(Place::Time(from)), Some(Place::Time(to))) => Again::Times(from, Some(to)),
        _ => return Err(Refusal::parameter("`dead`, or `from` and `to`, both offsets or both times")),
    };
    door.tidings.destinations().replay(&who, id, again).await?;
    Ok(accepted())
}

fn accepted() -> Response {
    reply::json(StatusCode::ACCEPTED, r#"{"replay":"accepted"}"#)
}

/// A delivery as an answer shows it.
fn json(delivery: &Delivery) -> Value {
    let mut shown = serde_json::to_value(delivery).expect("plain fields");
    shown["id"] = delivery.id().to_string().into();
    shown
}
