//! `Pull`: a page of what is kept.

use super::event;
use crate::Door;
use crate::grpc::{protobuf, status};
use crate::refusal::Refusal;
use tidings_engine::Page;
use tidings_model::{Code, Cursor, Filter, From, Position, Principal, Topic};
use tidings_proto::Encoded;
use tidings_proto::server::tidings::v1;
use tonic::Status;

pub async fn pull(door: &Door, who: &Principal, request: &v1::PullRequest) -> Result<Encoded, Status> {
    let asked = Asked::read(door, request)?;
    let start = door.tidings.offset_of(who, &asked.topic, &asked.from).await;
    let (after, is_gap) = start.map_err(status::of)?;
    let page = door.tidings.read(who, &asked.topic, after, asked.limit, &asked.filter).await;
    let page = page.map_err(status::of)?;
    let is_gap = is_gap || page.is_gap;
    Ok(encode(&page, &asked.topic, is_gap))
}

struct Asked {
    topic: Topic,
    from: From,
    limit: usize,
    filter: Filter,
}

impl Asked {
    fn read(door: &Door, request: &v1::PullRequest) -> Result<Self, Refusal> {
        let topic = event::topic(&request.topic)?.ok_or_else(|| Refusal::parameter("name a `topic`"))?;
        let limits = door.tidings.limits();
        let limit = match request.limit as usize {
            0 => limits.page_events_default,
            n if n <= limits.page_events => n,
            _ => {
                let detail = format!("`limit` is a number from 1 to {}", limits.page_events);
                return Err(Refusal::parameter(detail));
            }
        };
        let from = match request.from.as_str() {
            "" => From::Earliest,
            text => From::parse(text)?,
        };
        match &from {
            From::State => Err(Refusal::parameter("a page does not begin at State; subscribe from it")),
            From::Cursor(cursor) if cursor.position(&topic.name).is_none() => {
                let detail = format!("the cursor does not name {}", topic.name);
                Err(Refusal::new(Code::CursorInvalid, detail))
            }
            _ => Ok(Self { topic, from, limit, filter: filter(&request.filter, &request.names)? }),
        }
    }
}

/// The expression and the names that a call asks for; empty texts ask for everything.
pub fn filter(expression: &str, names: &[String]) -> Result<Filter, Refusal> {
    let mut filter = if expression.is_empty() { Filter::default() } else { Filter::parse(expression)? };
    names.iter().try_for_each(|names| filter.add_names(names))?;
    Ok(filter)
}

fn encode(page: &Page, topic: &Topic, is_gap: bool) -> Encoded {
    let (epoch, offset) = (page.bounds.epoch, page.after);
    let cursor = Cursor::of(Position { topic: topic.name.clone(), epoch, offset, in_state: false });
    protobuf::page(&page.events, |out| {
        protobuf::text(out, 2, &cursor.to_string());
        protobuf::number(out, 3, page.bounds.oldest.0);
        protobuf::number(out, 4, page.bounds.tail.0);
        protobuf::number(out, 5, u64::from(page.after < page.bounds.tail));
        protobuf::number(out, 6, u64::from(is_gap));
    })
}
