//! `GET /v1/topics/{topic}/state`: the newest event of each key.

use super::address::{self, Query};
use super::page::{self, Start};
use super::reply;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use tidings_model::Offset;

/// A page of State, in offset order. Its last cursor goes on with what follows.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let topic = address::topic(uri.path())?;
    let query = Query::parse(&uri, &["after", "limit"])?;
    let limit = query.limit(door.tidings.limits())?;
    let (after, is_gap) = match page::start(&query, &topic)? {
        None => (Offset::ZERO, false),
        Some(Start::After(offset)) => (offset, false),
        Some(Start::From(from)) => door.tidings.offset_of(&who, &topic, &from).await?,
    };
    let found = door.tidings.state(&who, &topic, after, limit).await?;
    Ok(reply::json(StatusCode::OK, page::json(&found, &topic, true, is_gap)))
}
