//! `Destinations`: created, listed, shown and deleted by id; for admins only.
//!
//! Owns: pages by number, and EventRelay's words for refusals. Never: shows a signing secret.

use super::{config, given, id, status};
use crate::Door;
use crate::grpc::native::caller;
use crate::refusal::Refusal;
use tidings_engine::Error;
use tidings_engine::delivery::{Destination, DestinationError, Kind};
use tidings_proto::server::eventrelay::{self as relay, destinations_server};
use tonic::{Request, Response, Status};

const SIZE_DEFAULT: usize = 100;

/// The service.
pub struct Destinations {
    door: Door,
}

impl Destinations {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

fn refused(error: Error) -> Status {
    let Error::Destination(reason) = &error else { return status::of(error) };
    let text = match reason {
        DestinationError::Unknown(_) => "Destination not found",
        DestinationError::NameTaken => "Destination with that name already exists",
        _ => return status::of(error),
    };
    status::of(Refusal::new(reason.code(), text))
}

fn message(destination: &Destination) -> relay::Destination {
    let topic = &destination.topic;
    let kind = match destination.kind() {
        Kind::Queue => "api",
        kind => kind.as_str(),
    };
    relay::Destination {
        id: destination.id.to_string(),
        name: destination.name().to_owned(),
        topic_name: topic.name.to_string(),
        topic_identifier: topic.key.as_ref().map(ToString::to_string).unwrap_or_default(),
        config: config::show(&destination.settings),
        destination_type: kind.to_owned(),
        group_key: destination.settings.group_key.as_deref().unwrap_or_default().to_owned(),
    }
}

/// Which page is asked for, and its size.
fn page(request: &relay::ListDestinationsRequest, max: usize) -> Result<(usize, usize), Refusal> {
    let number = |value: i32, field: &str, usual: usize| match usize::try_from(value) {
        Ok(0) => Ok(usual),
        Ok(n) => Ok(n),
        Err(_) => Err(Refusal::parameter(format!("{field} is not negative"))),
    };
    Ok((number(request.page, "page", 1)?, number(request.page_size, "page_size", SIZE_DEFAULT)?.min(max)))
}

/// What this interface's numbers hold of a count.
fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl destinations_server::Destinations for Destinations {
    async fn list_destinations(
        &self,
        request: Request<relay::ListDestinationsRequest>,
    ) -> Result<Response<relay::ListDestinationsResponse>, Status> {
        let (page, size) = page(request.get_ref(), self.door.tidings.limits().page_events)?;
        let skip = (page - 1).saturating_mul(size);
        let destinations = self.door.tidings.destinations();
        let (found, total) = destinations.page(&caller(&request), skip, size).map_err(refused)?;
        let is_last = skip.saturating_add(size) >= total;
        Ok(Response::new(relay::ListDestinationsResponse {
            destinations: found.iter().map(|destination| message(destination)).collect(),
            total_count: count(total),
            next_page: if is_last { 0 } else { count(page + 1) },
            previous_page: count(page - 1),
            total_pages: count(total.div_ceil(size)),
        }))
    }

    async fn get_destination(
        &self,
        request: Request<relay::GetDestinationRequest>,
    ) -> Result<Response<relay::GetDestinationResponse>, Status> {
        let id = id(&request.get_ref().id, "Id")?;
        let found = self.door.tidings.destinations().get(&caller(&request), id).map_err(refused)?;
        let destination = Some(message(&found));
        Ok(Response::new(relay::GetDestinationResponse { destination }))
    }

    async fn create_destination(
        &self,
        request: Request<relay::CreateDestinationRequest>,
    ) -> Result<Response<relay::CreateDestinationResponse>, Status> {
        let (who, request) = (caller(&request), request.into_inner());
        for (text, field) in [
            (&request.name, "Name"),
            (&request.topic_name, "Topic name"),
            (&request.destination_type, "Destination type"),
        ] {
            if text.is_empty() {
                return Err(status::of(Refusal::parameter(format!("{field} can't be blank"))));
            }
        }
        let (mut settings, from) = config::read(request.config)?;
        settings.kind = kind(&request.destination_type)?;
        settings.name = request.name.into();
        settings.topic = match given(request.topic_identifier) {
            Some(key) => format!("{}:{key}", request.topic_name).into(),
            None => request.topic_name.into(),
        };
        settings.paused |= request.paused;
        settings.group_key = given(request.group_key).map(Into::into);
        let made = self.door.tidings.destinations().create(&who, settings, &from).await.map_err(refused)?;
        let destination = Some(message(&made));
        Ok(Response::new(relay::CreateDestinationResponse { destination }))
    }

    async fn delete_destination(
        &self,
        request: Request<relay::DeleteDestinationRequest>,
    ) -> Result<Response<relay::DeleteDestinationResponse>, Status> {
        let (who, id) = (caller(&request), id(&request.get_ref().id, "Id")?);
        let destinations = self.door.tidings.destinations();
        let found = destinations.get(&who, id).map_err(refused)?;
        destinations.delete(&who, id).await.map_err(refused)?;
        let destination = Some(message(&found));
        Ok(Response::new(relay::DeleteDestinationResponse { destination }))
    }
}

fn kind(word: &str) -> Result<Kind, Refusal> {
    match word {
        "webhook" => Ok(Kind::Webhook),
        "websocket" => Ok(Kind::Websocket),
        "api" | "queue" => Ok(Kind::Queue),
        "topic" => Ok(Kind::Topic),
        _ => Err(Refusal::parameter("Destination type is one of webhook, websocket, api and topic")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_from_one_and_have_a_bound() {
        let asked =
            |number, size| page(&relay::ListDestinationsRequest { page: number, page_size: size }, 1000).ok();
        assert_eq!(asked(0, 0), Some((1, 100)));
        assert_eq!(asked(3, 7), Some((3, 7)));
        assert_eq!(asked(1, i32::MAX), Some((1, 1000)));
        assert_eq!((asked(-1, 0), asked(0, -1)), (None, None));
    }
}
