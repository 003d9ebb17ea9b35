//! `Topics`: created, listed and deleted by their ids; for admins only.

use super::status;
use crate::Door;
use crate::grpc::native::caller;
use crate::refusal::Refusal;
use tidings_engine::{Error, NamedTopic};
use tidings_model::{Code, TopicName, Uuid};
use tidings_proto::server::eventrelay::{self as relay, topics_server};
use tonic::{Request, Response, Status};

/// The service.
pub struct Topics {
    door: Door,
}

/// A topic of EventRelay's own that it never shows.
const HIDDEN: &str = "default";

impl Topics {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

/// There is no such topic.
pub fn unknown() -> Status {
    status::of(Refusal::new(Code::TopicUnknown, "Topic not found"))
}

fn refused(error: Error) -> Status {
    match error {
        Error::TopicExists(_) => status::of(Refusal::new(Code::TopicExists, "Topic already exists")),
        Error::TopicIdUnknown(_) => unknown(),
        error => status::of(error),
    }
}

fn message(topic: NamedTopic) -> relay::Topic {
    relay::Topic {
        id: topic.id.to_string(),
        name: topic.name.to_string(),
        group_key: topic.group_key.map(Into::into).unwrap_or_default(),
    }
}

/// What a new topic is called.
fn name(text: &str) -> Result<TopicName, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new(Code::TopicInvalid, "Name can't be blank"));
    }
    let name = TopicName::parse(text).and_then(|name| name.check_new().map(|()| name));
    name.map_err(|error| Refusal::new(Code::TopicInvalid, format!("Name: {error}")))
}

#[tonic::async_trait]
impl topics_server::Topics for Topics {
    /// All of them: `page` is not looked at.
    async fn list_topics(
        &self,
        request: Request<relay::ListTopicsRequest>,
    ) -> Result<Response<relay::ListTopicsResponse>, Status> {
        let topics = self.door.tidings.named_topics(&caller(&request)).await.map_err(refused)?;
        let topics = topics.into_iter().filter(|topic| topic.name.as_str() != HIDDEN).map(message).collect();
        Ok(Response::new(relay::ListTopicsResponse { topics }))
    }

    async fn create_topic(
        &self,
        request: Request<relay::CreateTopicRequest>,
    ) -> Result<Response<relay::CreateTopicResponse>, Status> {
        let (who, request) = (caller(&request), request.into_inner());
        let name = name(&request.name)?;
        let group_key = Some(request.group_key).filter(|key| !key.is_empty()).map(Into::into);
        let created = self.door.tidings.create_topic(&who, name, group_key).await.map_err(refused)?;
        Ok(Response::new(relay::CreateTopicResponse { topic: Some(message(created)) }))
    }

    async fn delete_topic(
        &self,
        request: Request<relay::DeleteTopicRequest>,
    ) -> Result<Response<relay::DeleteTopicResponse>, Status> {
        let id: Uuid =
            request.get_ref().id.parse().map_err(|_| status::of(Refusal::parameter("Id is not a UUID")))?;
        let gone = self.door.tidings.delete_topic(&caller(&request), id).await.map_err(refused)?;
        Ok(Response::new(relay::DeleteTopicResponse { topic: Some(message(gone)) }))
    }
}
