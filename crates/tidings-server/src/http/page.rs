//! `GET /v1/topics/{topic}/events`: a page of a topic, or its live stream.

use super::address::{self, Query};
use super::{reply, wants_stream};
use crate::refusal::Refusal;
use crate::{Door, gate, sse};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, request};
use std::io::Write as _;
use tidings_engine::Page;
use tidings_model::{Code, Cursor, From, Offset, Position, Topic};

/// A page, or an event stream if the client accepts one.
pub async fn get(State(door): State<Door>, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    if wants_stream(&parts.headers) { stream(&door, &parts).await } else { page(&door, &parts).await }
}

async fn stream(door: &Door, parts: &request::Parts) -> Result<Response, Refusal> {
    let who = gate::stream_principal(door, parts).await?;
    let topic = address::topic(parts.uri.path())?;
    let query = Query::parse(&parts.uri, &["from", "name", "filter"])?;
    let from = query.one("from")?.map(From::parse).transpose()?;
    sse::open(door, who, vec![topic], from, query.filter()?, parts).await
}

async fn page(door: &Door, parts: &request::Parts) -> Result<Response, Refusal> {
    let who = gate::counted(door, parts).await?;
    let topic = address::topic(parts.uri.path())?;
    let query = Query::parse(&parts.uri, &["after", "limit", "name", "filter", "from"])?;
    let (limit, filter) = (query.limit(door.tidings.limits())?, query.filter()?);
    let (after, is_gap) = match start(&query, &topic)? {
        None => door.tidings.offset_of(&who, &topic, &From::Earliest).await?,
        Some(Start::After(offset)) => (offset, false),
        Some(Start::From(From::State)) => {
            let detail = "a page does not begin at State; read it at `/v1/topics/{topic}/state`";
            return Err(Refusal::parameter(detail));
        }
        Some(Start::From(from)) => door.tidings.offset_of(&who, &topic, &from).await?,
    };
    let page = door.tidings.read(&who, &topic, after, limit, &filter).await?;
    let is_gap = is_gap || page.is_gap;
    Ok(reply::json(StatusCode::OK, json(&page, &topic, false, is_gap)))
}

/// Where the query asks to begin.
pub enum Start {
    After(Offset),
    From(From),
}

/// `after` is an offset or a cursor; `from` as for a stream.
pub fn start(query: &Query<'_>, topic: &Topic) -> Result<Option<Start>, Refusal> {
    let from = match (query.one("after")?, query.one("from")?) {
        (Some(_), Some(_)) => return Err(Refusal::parameter("`after` and `from` exclude each other")),
        (None, None) => return Ok(None),
        (Some(after), None) => {
            if let Ok(offset) = after.parse() {
                return Ok(Some(Start::After(Offset(offset))));
            }
            let detail = "`after` is neither an offset nor a cursor";
            From::Cursor(Cursor::parse(after).map_err(|_| Refusal::new(Code::CursorInvalid, detail))?)
        }
        (None, Some(from)) => From::parse(from)?,
    };
    match &from {
        From::Cursor(cursor) if cursor.position(&topic.name).is_none() => {
            Err(Refusal::new(Code::CursorInvalid, format!("the cursor does not name {}", topic.name)))
        }
        _ => Ok(Some(Start::From(from))),
    }
}

/// The page as JSON; its cursor can be passed back as `after`, and to a stream as `from`.
pub fn json(page: &Page, topic: &Topic, in_state: bool, is_gap: bool) -> Vec<u8> {
    let weight: usize = page.events.iter().map(tidings_model::Event::weight).sum();
    let mut out = Vec::with_capacity(weight + page.events.len() * 128 + 256);
    out.extend_from_slice(b"{\"events\":[");
    for (i, event) in page.events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        event.write_json(&mut out);
    }
    let is_more = page.after < page.bounds.tail;
    let cursor = Cursor::of(Position {
        topic: topic.name.clone(),
        epoch: page.bounds.epoch,
        offset: page.after,
        in_state: in_state && is_more,
    });
    let (oldest, tail) = (page.bounds.oldest, page.bounds.tail);
    write!(out, "],\"cursor\":\"{cursor}\",\"oldest\":{oldest},\"tail\":{tail},\"more\":{is_more}")
        .expect("memory");
    out.extend_from_slice(if is_gap { b",\"gap\":true}" } else { b"}" });
    out
}
