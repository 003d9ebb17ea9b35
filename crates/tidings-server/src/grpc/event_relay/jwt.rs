//! `JWT`: a token for a while, made from the API key that a caller came with.

use super::status;
use crate::Door;
use crate::grpc::native::caller;
use crate::refusal::Refusal;
use tidings_model::Timestamp;
use tidings_proto::server::eventrelay::{self as relay, jwt_server};
use tonic::{Request, Response, Status};

/// The service.
pub struct Jwt {
    door: Door,
}

impl Jwt {
    pub fn new(door: Door) -> Self {
        Self { door }
    }
}

/// When a token is to end; nothing said is not for ever.
fn end(seconds: i64) -> Result<Option<Timestamp>, Refusal> {
    if seconds == 0 {
        return Ok(None);
    }
    let at = seconds.checked_mul(1000).and_then(Timestamp::from_millis);
    at.map(Some).ok_or_else(|| Refusal::parameter("Expiration is not a time that can be told"))
}

#[tonic::async_trait]
impl jwt_server::Jwt for Jwt {
    async fn create_jwt(
        &self,
        request: Request<relay::CreateJwtRequest>,
    ) -> Result<Response<relay::CreateJwtResponse>, Status> {
        let end = end(request.get_ref().expiration)?;
        let (jwt, _) = self.door.gate.api_keys().token(&caller(&request), end).map_err(status::of)?;
        Ok(Response::new(relay::CreateJwtResponse { jwt }))
    }
}
