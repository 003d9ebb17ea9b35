//! `ApiKeys`: made, revoked, given topics and destinations; for admins only.
//!
//! Owns: EventRelay's words for it. A secret is in the answer that makes its key and nowhere else.

use super::{given, id, status};
use crate::Door;
use crate::grpc::native::caller;
use crate::refusal::Refusal;
use tidings_engine::Error;
use tidings_engine::auth::{ApiKey, ApiKeyError, NewApiKey};
use tidings_model::{Grant, KeyKind, Uuid};
use tidings_proto::server::eventrelay::{self as relay, api_keys_server};
use tonic::{Request, Response, Status};

/// The service.
pub struct ApiKeys {
    door: Door,
}

impl ApiKeys {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

fn refused(error: Error) -> Status {
    let Error::ApiKey(reason) = &error else { return status::of(error) };
    let text = match reason {
        ApiKeyError::Unknown(_) => "ApiKey not found",
        ApiKeyError::NameTaken => "ApiKey already exists",
        ApiKeyError::Revoked(_) => "ApiKey is already revoked",
        ApiKeyError::Destination(_) => "Destinations not found",
        _ => return status::of(error),
    };
    status::of(Refusal::new(reason.code(), text))
}

fn kind(number: i32) -> Result<KeyKind, Refusal> {
    match relay::ApiKeyType::try_from(number) {
        Ok(relay::ApiKeyType::Producer) => Ok(KeyKind::Producer),
        Ok(relay::ApiKeyType::Consumer) => Ok(KeyKind::Consumer),
        Ok(relay::ApiKeyType::ProducerConsumer) => Ok(KeyKind::ProducerConsumer),
        Ok(relay::ApiKeyType::Admin) => Ok(KeyKind::Admin),
        Err(_) => Err(Refusal::parameter("Type is not a type of API key")),
    }
}

fn message(key: ApiKey, secret: String) -> relay::ApiKey {
    let kind = match key.kind {
        KeyKind::Producer => relay::ApiKeyType::Producer,
        KeyKind::Consumer => relay::ApiKeyType::Consumer,
        KeyKind::ProducerConsumer => relay::ApiKeyType::ProducerConsumer,
        KeyKind::Admin => relay::ApiKeyType::Admin,
    };
    let status = if key.revoked { relay::ApiKeyStatus::Revoked } else { relay::ApiKeyStatus::Active };
    relay::ApiKey {
        id: key.id.to_string(),
        name: key.name,
        key: key.key,
        secret,
        status: status.into(),
        r#type: kind.into(),
        group_key: key.group_key.unwrap_or_default(),
        tls_hostname: String::new(),
    }
}

fn ids(texts: &[String]) -> Result<Vec<Uuid>, Refusal> {
    texts.iter().map(|text| id(text, "Destination id")).collect()
}

fn topics(names: &[String]) -> Result<Vec<Grant>, Refusal> {
    Ok(names.iter().map(|name| Grant::parse(name)).collect::<Result<_, _>>()?)
}

#[tonic::async_trait]
impl api_keys_server::ApiKeys for ApiKeys {
    async fn create_api_key(
        &self,
        request: Request<relay::CreateApiKeyRequest>,
    ) -> Result<Response<relay::CreateApiKeyResponse>, Status> {
        let (who, request) = (caller(&request), request.into_inner());
        if !request.tls_hostname.is_empty() {
            let detail = "Tls hostname must be empty: certificates come from the operator's own authority";
            return Err(status::of(Refusal::parameter(detail)));
        }
        let group_key = given(request.group_key);
        let new = NewApiKey { group_key, ..NewApiKey::new(request.name, kind(request.r#type)?) };
        let issued = self.door.gate.api_keys().create(&who, new).await.map_err(refused)?;
        let api_key = Some(message(issued.key, issued.secret));
        Ok(Response::new(relay::CreateApiKeyResponse { api_key }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<relay::RevokeApiKeyRequest>,
    ) -> Result<Response<relay::RevokeApiKeyResponse>, Status> {
        let id = id(&request.get_ref().id, "Id")?;
        let revoked = self.door.gate.api_keys().revoke(&caller(&request), id).await.map_err(refused)?;
        let api_key = Some(message(revoked, String::new()));
        Ok(Response::new(relay::RevokeApiKeyResponse { api_key }))
    }

    async fn add_destinations_to_api_key(
        &self,
        request: Request<relay::AddDestinationsToApiKeyRequest>,
    ) -> Result<Response<relay::AddDestinationsToApiKeyResponse>, Status> {
        let (who, asked) = (caller(&request), request.into_inner());
        let (key, ids) = (id(&asked.id, "Id")?, ids(&asked.destination_ids)?);
        self.door.gate.api_keys().add_destinations(&who, key, &ids).await.map_err(refused)?;
        let relay::AddDestinationsToApiKeyRequest { id, destination_ids } = asked;
        Ok(Response::new(relay::AddDestinationsToApiKeyResponse { id, destination_ids }))
    }

    async fn delete_destinations_from_api_key(
        &self,
        request: Request<relay::DeleteDestinationsFromApiKeyRequest>,
    ) -> Result<Response<relay::DeleteDestinationsFromApiKeyResponse>, Status> {
        let (who, asked) = (caller(&request), request.into_inner());
        let (key, ids) = (id(&asked.id, "Id")?, ids(&asked.destination_ids)?);
        self.door.gate.api_keys().remove_destinations(&who, key, &ids).await.map_err(refused)?;
        let relay::DeleteDestinationsFromApiKeyRequest { id, destination_ids } = asked;
        Ok(Response::new(relay::DeleteDestinationsFromApiKeyResponse { id, destination_ids }))
    }

    async fn add_topics_to_api_key(
        &self,
        request: Request<relay::AddTopicsToApiKeyRequest>,
    ) -> Result<Response<relay::AddTopicsToApiKeyResponse>, Status> {
        let (who, asked) = (caller(&request), request.into_inner());
        let (key, topics) = (id(&asked.id, "Id")?, topics(&asked.topic_names)?);
        self.door.gate.api_keys().add_topics(&who, key, &topics).await.map_err(refused)?;
        let relay::AddTopicsToApiKeyRequest { id, topic_names } = asked;
        Ok(Response::new(relay::AddTopicsToApiKeyResponse { id, topic_names }))
    }

    async fn delete_topics_from_api_key(
        &self,
        request: Request<relay::DeleteTopicsFromApiKeyRequest>,
    ) -> Result<Response<relay::DeleteTopicsFromApiKeyResponse>, Status> {
        let (who, asked) = (caller(&request), request.into_inner());
        let (key, topics) = (id(&asked.id, "Id")?, topics(&asked.topic_names)?);
        self.door.gate.api_keys().remove_topics(&who, key, &topics).await.map_err(refused)?;
        let relay::DeleteTopicsFromApiKeyRequest { id, topic_names } = asked;
        Ok(Response::new(relay::DeleteTopicsFromApiKeyResponse { id, topic_names }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_model::Code;

    #[test]
    fn refusals_have_event_relays_words_and_a_status_that_says_what_to_do() {
        let id = Uuid::from_u128(1);
        for (reason, code, text) in [
            (ApiKeyError::Unknown(id), tonic::Code::NotFound, "ApiKey not found"),
            (ApiKeyError::NameTaken, tonic::Code::AlreadyExists, "ApiKey already exists"),
            (ApiKeyError::Revoked(id), tonic::Code::FailedPrecondition, "ApiKey is already revoked"),
            (ApiKeyError::Destination(id), tonic::Code::NotFound, "Destinations not found"),
        ] {
            let status = refused(reason.into());
            assert_eq!((status.code(), status.message()), (code, text));
        }
        let kind = ApiKeyError::Kind { kind: KeyKind::Admin, what: "topics" };
        assert_eq!(refused(kind.into()).code(), tonic::Code::FailedPrecondition);
        assert_eq!(refused(Error::AdminOnly).code(), tonic::Code::PermissionDenied);
        assert_eq!(status::of(Refusal::new(Code::KeyKind, "")).code(), tonic::Code::FailedPrecondition);
    }
}
