//! Phoenix channels: what Phoenix's own clients speak, over a WebSocket at `/socket/websocket`.
//!
//! Owns: the upgrade. A connection needs no token; each join shows one. Never: knows what an event is beyond its
//! address; publishing and subscribing are the engine's.

mod config;
mod joined;
pub(crate) mod publish;
mod session;

pub use config::Phoenix;

use crate::Door;
use crate::answers::Slot;
use crate::gate;
use crate::refusal::Refusal;
use crate::upgrade::Upgrade;
use axum::extract::{Request, State};
use axum::response::Response;
use tidings_model::Code;
use tidings_model::phoenix::Version;

/// `GET /socket/websocket`. Parameters other than `vsn` are the application's own and mean nothing here.
pub async fn upgrade(State(door): State<Door>, mut request: Request) -> Result<Response, Refusal> {
    if !door.config.phoenix.enabled {
        return Err(Refusal::new(Code::NotFound, "Phoenix channels are switched off here"));
    }
    if !gate::may_call(&door.config, &door.config.origins, request.headers()) {
        let detail = "pages of other origins than this server's are listed in `http.origins`";
        return Err(Refusal::new(Code::OriginForbidden, detail));
    }
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let vsn = pairs.filter_map(|pair| pair.strip_prefix("vsn=")).next_back();
    let Some(version) = Version::parse(vsn) else {
        return Err(Refusal::parameter("`vsn` is 1.0.0 or 2.0.0"));
    };
    let Some(upgrade) = Upgrade::of(&door, &mut request) else {
        let detail = "a WebSocket upgrade (version 13) is expected here";
        return Err(Refusal::new(Code::ParameterInvalid, detail));
    };
    let (own, slot) = (door.clone(), request.extensions().get::<Slot>().cloned());
    let (response, taken) = upgrade.accept();
    door.services.spawn("phoenix", async move {
        let Some(socket) = taken.await else { return };
        Box::pin(session::converse(own, socket, version)).await;
        drop(slot);
    });
    Ok(response)
}
