//! `grpc.health.v1.Health`: the same answer as `/readyz`, for every service.

use super::METHODS;
use crate::Door;
use crate::http::health::reasons;
use futures_util::Stream;
use std::pin::Pin;
use std::time::Duration;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

/// How often somebody who watches is told of a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub struct Health {
    door: Door,
}

impl Health {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

fn status(door: &Door) -> ServingStatus {
    if reasons(door).is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn is_known(service: &str) -> bool {
    let own = |path: &&str| path[1..].split('/').next() == Some(service);
    service.is_empty() || METHODS.iter().any(own)
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(answer(status(&self.door))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (door, is_known) = (self.door.clone(), is_known(&request.get_ref().service));
        let told: Option<ServingStatus> = None;
        let stream = futures_util::stream::unfold((door, told), move |(door, told)| async move {
            loop {
                // What a service is that does not exist is said in the stream: it might come.
                let now = if is_known { status(&door) } else { ServingStatus::ServiceUnknown };
                if told != Some(now) {
                    return Some((Ok(answer(now)), (door, Some(now))));
                }
                if door.services.stop().is_cancelled() {
                    return None;
                }
                tokio::select! {
                    biased;
                    () = door.services.stop().cancelled() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
