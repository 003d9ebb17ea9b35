//! entity-sync's WebSocket: clients subscribe to entities and get their rows whenever they change.
//!
//! Owns: the upgrade (nobody is asked for a token; a page of a foreign origin is turned away), and what a client
//! may opt in to by the query: `ack=1` acknowledgements, `errors=1` error frames, `state=1` the rows as they are
//! at each subscription. Without these the frames are entity-sync's own.

mod config;
mod message;
mod session;

pub use config::{Auth, EntitySync};

use crate::Door;
use crate::answers::Slot;
use crate::gate;
use crate::http::Query;
use crate::refusal::Refusal;
use crate::upgrade::Upgrade;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;
use tidings_model::Code;

/// What a client has opted in to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opted {
    pub acks: bool,
    pub errors: bool,
    pub state: bool,
}

impl Opted {
    fn of(uri: &http::Uri) -> Result<Self, Refusal> {
        let query = Query::parse(uri, &["ack", "errors", "state"])?;
        let is_set = |name| match query.one(name)? {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(Refusal::parameter(format!("`{name}` is 1 or 0"))),
        };
        Ok(Self { acks: is_set("ack")?, errors: is_set("errors")?, state: is_set("state")? })
    }
}

/// `GET /ws/entity-sync/`.
pub async fn upgrade(State(door): State<Door>, mut request: Request) -> Result<Response, Refusal> {
    if !gate::may_call(&door.config, &door.config.entity_sync.origins, request.headers()) {
        let detail = "pages of other origins than this server's are listed in `entities.origins`";
        return Err(Refusal::new(Code::OriginForbidden, detail));
    }
    let opted = Opted::of(request.uri())?;
    let Some(upgrade) = Upgrade::of(&door, &mut request) else {
        let mut response = (StatusCode::BAD_REQUEST, "Bad Request\n").into_response();
        response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Ok(response);
    };
    let Ok(room) = Arc::clone(&door.entity_room).try_acquire_owned() else {
        let detail = "as many clients of entities as `limits.entity_connections` allows are connected";
        return Err(Refusal::new(Code::ConnectionsFull, detail));
    };
    let (own, slot) = (door.clone(), request.extensions().get::<Slot>().cloned());
    let (response, taken) = upgrade.accept();
    door.services.spawn("entity-sync", async move {
        let Some(socket) = taken.await else { return };
        Box::pin(session::converse(own, socket, opted)).await;
        drop((slot, room));
    });
    Ok(response)
}
