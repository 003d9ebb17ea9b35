//! `GET /collections/{id}` and `GET /user_events`.

use super::denied::Denied;
use super::view;
use super::who::Who;
use crate::Door;
use crate::http::reply;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use tidings_engine::broker::{Broker, Listing};
use tidings_model::Uuid;

/// Says that the oldest events were left out.
const TRUNCATED: HeaderName = HeaderName::from_static("tidings-truncated");

/// Everything in a collection, whatever became of it.
pub async fn collection(
    State(door): State<Door>,
    Who(who): Who,
    Path(id): Path<String>,
) -> Result<Response, Denied> {
    let id = Uuid::try_parse(&id).map_or(id, |id| id.to_string());
    let list = Broker::new(door.tidings.clone()).collection(&who, &id).await?;
    Ok(answer(&[("events", list)]))
}

/// What the caller has inserted, and what lies in the caller's own collection.
pub async fn own(State(door): State<Door>, Who(who): Who) -> Result<Response, Denied> {
    let broker = Broker::new(door.tidings.clone());
    let collection = match who.session {
        Some(_) => door.users.me(&who).await?.collection_id,
        None => None,
    };
    let info = match collection {
        Some(id) => broker.collection(&who, &id.to_string()).await?,
        None => Listing::default(),
    };
    let events = match &who.id {
        Some(id) => broker.of_user(&who, id).await?,
        None => Listing::default(),
    };
    Ok(answer(&[("info", info), ("events", events)]))
}

fn answer(lists: &[(&str, Listing)]) -> Response {
    let mut out = Vec::new();
    for (name, list) in lists {
        out.push(if out.is_empty() { b'{' } else { b',' });
        out.extend_from_slice(format!("\"{name}\":[").as_bytes());
        for (i, event) in list.events.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&view::render(event));
        }
        out.push(b']');
    }
    out.push(b'}');
    let mut response = reply::json(StatusCode::OK, out);
    if lists.iter().any(|(_, list)| list.is_cut) {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
    }
    response
}
