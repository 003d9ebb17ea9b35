//! `/v1/entities/{entity}/{id}`: the rows of an entity, and word that they changed.

use super::address::{self, Query};
use super::{reply, wants_stream};
use crate::refusal::Refusal;
use crate::{Door, gate, sse, wire};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use tidings_engine::Error;
use tidings_engine::entities::{Access, Secret, Wish};

/// What the resolver gets to see of a caller beside the token, which it never sees.
const SECRET: &str = "x-entity-secret";

/// `GET /v1/entities/{entity}/{id}`: the rows as they are now; as an event stream also whenever they change.
pub async fn get(State(door): State<Door>, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let is_stream = wants_stream(&parts.headers);
    let who = match is_stream {
        true => gate::stream_principal(&door, &parts).await?,
        false => gate::counted(&door, &parts).await?,
    };
    let key = address::entity_key(&parts.uri)?;
    Query::parse(&parts.uri, &[])?;
    if !who.may_subscribe(&key.topic()) {
        return Err(Error::MayNotSubscribe(key.topic()).into());
    }
    let (secret, entities) = (secret(&parts.headers)?, door.tidings.entities());
    if !is_stream {
        let rows = entities.rows(&key, secret).await?;
        return Ok(reply::json(StatusCode::OK, wire::rows::json(&rows, false)));
    }
    let mut subscription = door.tidings.subscription(who.clone());
    subscription.with_entities(entities, Access::Granted(who));
    let watched = subscription.change_watches(|watches| {
        watches.set_secret(secret);
        watches.watch(&key, Wish { state: true, trouble: true })
    });
    watched.expect("made for entities")?;
    sse::answer(&door, subscription, true, &parts)
}

/// `POST /v1/entities/{entity}/{id}/changed`: whoever watches it gets its rows anew, on every server.
pub async fn changed(State(door): State<Door>, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    let who = gate::counted(&door, &parts).await?;
    let key = address::entity_key(&parts.uri)?;
    Query::parse(&parts.uri, &[])?;
    if !who.may_publish(&key.topic()) {
        return Err(Error::MayNotPublish(key.topic()).into());
    }
    door.tidings.entities().notify_changed(key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn secret(headers: &HeaderMap) -> Result<Secret, Refusal> {
    let Some(value) = headers.get(SECRET) else { return Ok(Secret::default()) };
    let text = value.to_str().map_err(|_| Refusal::parameter("X-Entity-Secret is plain text"))?;
    Ok(Secret::new(text))
}
