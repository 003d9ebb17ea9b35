//! `PullEvents`: pages counted in events.
//!
//! Owns: what `offset` means: how many matching events are left out, from the oldest kept. A whole topic's total
//! comes from its bounds; with a topic id or a query, events are counted, and the call says in `tidings-counted-to`
//! when it stopped before the end.

use super::{out_of_range, topic};
use crate::Door;
use crate::grpc::{protobuf, status};
use crate::refusal::Refusal;
use tidings_engine::Error;
use tidings_model::{Event, Filter, Offset, Principal, Topic};
use tidings_proto::Encoded;
use tidings_proto::server::eventrelay as relay;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

const BATCH_DEFAULT: usize = 100;
const BATCH_MAX: usize = 1000;

pub async fn pull(
    door: &Door,
    who: &Principal,
    request: &relay::PullEventsRequest,
) -> Result<Response<Encoded>, Status> {
    let asked = Asked::read(request)?;
    let found = match door.tidings.log().bounds(&asked.topic.name) {
        // A topic may have been created and nothing published to it yet.
        None => nothing(door, who, &asked.topic).await?,
        Some(_) if asked.is_whole() => whole(door, who, &asked).await.map_err(status::of)?,
        Some(_) => counted(door, who, &asked).await?,
    };
    answer(&asked, &found)
}

struct Asked {
    topic: Topic,
    filter: Filter,
    batch: usize,
    skip: u64,
}

impl Asked {
    fn read(request: &relay::PullEventsRequest) -> Result<Self, Refusal> {
        let topic = topic(&request.topic, "pull_events")?;
        let filter =
            if request.query.is_empty() { Filter::default() } else { Filter::parse(&request.query)? };
        let batch = match usize::try_from(request.batch_size) {
            Ok(0) => BATCH_DEFAULT,
            Ok(n) => n.min(BATCH_MAX),
            Err(_) => return Err(Refusal::parameter("batch_size is not negative")),
        };
        let skip = u64::try_from(request.offset).map_err(|_| Refusal::parameter("offset is not negative"))?;
        Ok(Self { topic, filter, batch, skip })
    }

    /// Whether every event of the topic counts.
    fn is_whole(&self) -> bool {
        self.topic.key.is_none() && self.filter.is_empty()
    }
}

/// A page, and how many events match.
#[derive(Default)]
struct Found {
    events: Vec<Event>,
    total: u64,
    /// Counting stopped here, before the end.
    counted_to: Option<Offset>,
}

async fn nothing(door: &Door, who: &Principal, topic: &Topic) -> Result<Found, Status> {
    if !who.may_subscribe(topic) {
        return Err(status::of(Error::MayNotSubscribe(topic.clone())));
    }
    if door.tidings.named_topic(&topic.name).await.map_err(status::of)?.is_none() {
        return Err(super::topics::unknown());
    }
    Ok(Found::default())
}

async fn whole(door: &Door, who: &Principal, asked: &Asked) -> Result<Found, Error> {
    let (begin, _) = door.tidings.offset_of(who, &asked.topic, &tidings_model::From::Earliest).await?;
    let mut after = Offset(begin.0.saturating_add(asked.skip));
    let mut found = Found::default();
    loop {
        let left = asked.batch - found.events.len();
        let page = door.tidings.read(who, &asked.topic, after, left, &asked.filter).await?;
        found.total = page.bounds.tail.0 - begin.0;
        found.events.extend(page.events);
        after = page.after;
        if found.events.len() >= asked.batch || page.after >= page.bounds.tail {
            return Ok(found);
        }
    }
}

/// Counts what matches, from the oldest on, as far as one call looks.
async fn counted(door: &Door, who: &Principal, asked: &Asked) -> Result<Found, Status> {
    let limits = door.tidings.limits();
    let mut pages = (limits.pull_scan_events / limits.page_events.max(1)).max(1);
    let mut found = Found::default();
    let mut after = Offset::ZERO;
    loop {
        let page = door.tidings.read(who, &asked.topic, after, limits.page_events, &asked.filter).await;
        let page = page.map_err(status::of)?;
        for event in page.events {
            if found.total >= asked.skip && found.events.len() < asked.batch {
                found.events.push(event);
            }
            found.total += 1;
        }
        after = page.after;
        if page.after >= page.bounds.tail {
            return Ok(found);
        }
        pages -= 1;
        if pages == 0 {
            break;
        }
    }
    if found.events.is_empty() {
        return Err(out_of_range(&format!(
            "one call looks at no more than {} events, and up to offset {after} there are {} that match",
            limits.pull_scan_events, found.total
        )));
    }
    found.counted_to = Some(after);
    Ok(found)
}

fn answer(asked: &Asked, found: &Found) -> Result<Response<Encoded>, Status> {
    let too_large = || out_of_range("the numbers of this topic are too large for this interface");
    let fits = |n: u64| i32::try_from(n).map_err(|_| too_large());
    if found.events.iter().any(|event| event.offset().0 > i32::MAX as u64) {
        return Err(too_large());
    }
    let (batch, total) = (asked.batch as u64, found.total);
    fits(total)?;
    let next = asked.skip + batch;
    let is_more = next < total || found.counted_to.is_some();
    let message = protobuf::relay_page(&found.events, |out| {
        protobuf::number(out, 2, total);
        protobuf::number(out, 3, if is_more { next } else { 0 });
        protobuf::number(out, 4, asked.skip.saturating_sub(batch));
        protobuf::number(out, 5, total.div_ceil(batch));
    });
    if is_more {
        fits(next)?;
    }
    let mut response = Response::new(message);
    if let Some(offset) = found.counted_to {
        response.metadata_mut().insert("tidings-counted-to", MetadataValue::from(offset.0));
    }
    Ok(response)
}
