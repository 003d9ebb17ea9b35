//! `PullQueuedEvents` and `UnLockQueuedEvents`: events that are lent to one consumer at a time.
//!
//! Owns: who counts as one consumer. There is no call that says that an event is done with, so whoever asks for more
//! says it. That is one connection, unless the metadata `tidings-consumer` names a consumer that has several, or
//! another one each time. A consumer that died does not ask again, and what it had is lent anew.

use super::{id, status};
use crate::Door;
use crate::answers::ConnectionId;
use crate::grpc::native::caller;
use crate::grpc::protobuf;
use crate::refusal::Refusal;
use tidings_engine::Error;
use tidings_engine::delivery::DestinationError;
use tidings_model::{Code, Event, Uuid};
use tidings_proto::Encoded;
use tidings_proto::server::eventrelay as relay;
use tonic::{Request, Response, Status};

const BATCH_DEFAULT: usize = 100;
const CONSUMER: &str = "tidings-consumer";
const CONSUMER_BYTES_MAX: usize = 255;

pub async fn pull(
    door: &Door,
    request: &Request<relay::PullQueuedEventsRequest>,
) -> Result<Response<Encoded>, Status> {
    let (who, consumer) = (caller(request), consumer(request)?);
    let asked = request.get_ref();
    let id = id(&asked.destination_id, "Destination id")?;
    let batch = match usize::try_from(asked.batch_size) {
        Ok(0) => BATCH_DEFAULT,
        Ok(n) => n.min(door.tidings.limits().queue_lent),
        Err(_) => return Err(status::of(Refusal::parameter("batch_size is not negative"))),
    };
    let events = door.tidings.destinations().pull_queued(&who, id, batch, Some(&consumer)).await;
    events.map(|events| listed(&events)).map_err(refused)
}

pub async fn unlock(
    door: &Door,
    request: &Request<relay::UnLockQueuedEventsRequest>,
) -> Result<Response<Encoded>, Status> {
    let (who, asked) = (caller(request), request.get_ref());
    let destination = id(&asked.destination_id, "Destination id")?;
    let ids: Result<Vec<Uuid>, Refusal> = asked.event_ids.iter().map(|text| id(text, "Event id")).collect();
    let events = door.tidings.destinations().unlock(&who, destination, &ids?).await;
    events.map(|events| listed(&events)).map_err(refused)
}

/// Who is asking.
fn consumer<T>(request: &Request<T>) -> Result<String, Refusal> {
    let bad = || Refusal::parameter(format!("{CONSUMER} has 1 to {CONSUMER_BYTES_MAX} visible characters"));
    if let Some(name) = request.metadata().get(CONSUMER) {
        let name = name.to_str().map_err(|_| bad())?;
        return if (1..=CONSUMER_BYTES_MAX).contains(&name.len()) {
            Ok(format!("name {name}"))
        } else {
            Err(bad())
        };
    }
    let connection = request.extensions().get().map_or_else(Uuid::new_v4, ConnectionId::get);
    Ok(format!("connection {connection}"))
}

fn listed(events: &[Event]) -> Response<Encoded> {
    Response::new(protobuf::relay_page(events, |_| {}))
}

fn refused(error: Error) -> Status {
    match error {
        Error::Destination(DestinationError::Unknown(_)) => {
            status::of(Refusal::new(Code::DestinationUnknown, "Destination not found"))
        }
        error => status::of(error),
    }
}
