//! `/v1/users`: signing up, and what an admin does with users.
//!
//! Owns: a user as JSON. Never: shows a hash.

use super::address::{self, Query};
use super::body::Parts;
use super::reply;
use crate::Door;
use crate::caller::Caller;
use crate::gate::{self, Who};
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tidings_engine::auth::{NewSecret, NewUser, User, UserPatch};
use tidings_model::{Code, EventError, Grant, Grants, Uuid};

/// A user with a thousand grants for each direction.
const BODY_BYTES_MAX: usize = 256 << 10;

/// A user as a client describes it; `null` for a collection takes it away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    id: Option<Uuid>,
    name: Option<String>,
    password: Option<String>,
    hash: Option<String>,
    #[serde(default, deserialize_with = "present")]
    collection_id: Option<Option<Uuid>>,
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Uuid>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// `POST /v1/users`: an admin adds a user, anybody signs up if that is allowed.
pub async fn create(
    State(door): State<Door>,
    Caller(peer): Caller,
    request: Request,
) -> Result<Response, Refusal> {
    let who = gate::optional(&door, request.headers()).await?;
    let wire: Wire = body(&door, request).await?;
    let new = NewUser {
        secret: wire.secret()?.ok_or_else(|| Refusal::parameter("a user has a `password`"))?,
        publish: grants(wire.publish)?.unwrap_or_default(),
        subscribe: grants(wire.subscribe)?.unwrap_or_default(),
        name: wire.name.ok_or_else(|| Refusal::parameter("a user has a `name`"))?,
        collection_id: wire.collection_id.flatten(),
        id: wire.id,
    };
    let user = match &who {
        Some(who) if who.is_admin => door.users.add(who, new).await?,
        who => door.users.sign_up(who.as_deref(), new, door.users.rules(), peer).await?,
    };
    Ok(reply::json(StatusCode::CREATED, json(&user).to_string()))
}

/// `GET /v1/users`: in name order; with `name` that one alone.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let query = Query::parse(&uri, &["after", "limit", "name"])?;
    let limit = query.limit(door.tidings.limits())?;
    let users = match query.one("name")? {
        Some(name) => door.users.by_name(&who, name).await?.into_iter().collect(),
        None => door.users.list(&who, query.one("after")?, limit).await?,
    };
    let mut answer = json!({ "users": users.iter().map(json).collect::<Vec<_>>() });
    if let Some(last) = users.last().filter(|_| users.len() == limit) {
        answer["next"] = last.name.as_str().into();
    }
    Ok(reply::json(StatusCode::OK, answer.to_string()))
}

/// `GET /v1/users/{id}`: for an admin, and for the user.
pub async fn get(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    let id = plain(&uri)?;
    Ok(described(&door.users.by_id(&who, id).await?))
}

/// `PATCH /v1/users/{id}`: what is left out stays.
pub async fn update(State(door): State<Door>, Who(who): Who, request: Request) -> Result<Response, Refusal> {
    let id = plain(request.uri())?;
    let wire: Wire = body(&door, request).await?;
    if wire.name.is_some() || wire.id.is_some() {
        return Err(Refusal::parameter("a user keeps its `name` and `id`"));
    }
    let patch = UserPatch {
        password: wire.secret()?,
        publish: grants(wire.publish)?,
        subscribe: grants(wire.subscribe)?,
        collection_id: wire.collection_id,
    };
    Ok(described(&door.users.update(&who, id, patch).await?))
}

/// `DELETE /v1/users/{id}`.
pub async fn delete(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    door.users.delete(&who, plain(&uri)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/users/{id}/revoke`.
pub async fn revoke(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Ok(described(&door.users.revoke(&who, plain(&uri)?).await?))
}

/// `POST /v1/users/{id}/restore`.
pub async fn restore(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Ok(described(&door.users.restore(&who, plain(&uri)?).await?))
}

impl Wire {
    fn secret(&self) -> Result<Option<NewSecret>, Refusal> {
        match (&self.password, &self.hash) {
            (Some(_), Some(_)) => Err(Refusal::parameter("either `password` or `hash`, not both")),
            (Some(password), None) => Ok(Some(NewSecret::Password(password.clone()))),
            (None, Some(hash)) => Ok(Some(NewSecret::Hash(hash.clone()))),
            (None, None) => Ok(None),
        }
    }
}

/// Grants as a client lists them.
pub fn grants(texts: Option<Vec<String>>) -> Result<Option<Grants>, Refusal> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.len() > Grants::MAX {
        return Err(Refusal::parameter(format!("at most {} grants for each direction", Grants::MAX)));
    }
    let grants: Result<Grants, _> = texts.iter().map(|text| Grant::parse(text)).collect();
    Ok(Some(grants?))
}

fn plain(uri: &Uri) -> Result<Uuid, Refusal> {
    Query::parse(uri, &[])?;
    address::user_id(uri)
}

/// The whole body as one JSON object; without a content type it is taken for that.
pub async fn body<T: DeserializeOwned>(door: &Door, request: Request) -> Result<T, Refusal> {
    Query::parse(request.uri(), &[])?;
    let kind = request.headers().get(header::CONTENT_TYPE).map_or(Some(""), |v| v.to_str().ok());
    let kind = kind.unwrap_or("?").split(';').next().unwrap_or_default().trim();
    if !kind.is_empty() && !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(Code::MediaTypeUnsupported, "send application/json"));
    }
    let mut parts = Parts::new(request.into_body(), door.tidings.limits().read_timeout_ms);
    let bytes = match parts.whole(BODY_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(refusal) => {
            let detail = format!("the body has more than {BODY_BYTES_MAX} bytes");
            let is_large = refusal.code == Code::BodyTooLarge;
            return Err(if is_large { Refusal::new(refusal.code, detail) } else { refusal });
        }
    };
    // The parser's text may quote a value that was sent, and that may be a password.
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        (error.into_inner(), Some(place).filter(|place| place != "."))
    });
    read.and_then(|read| json.end().map(|()| read).map_err(|error| (error, None))).map_err(
        |(error, place)| match EventError::from_json(&error) {
            EventError::FieldUnknown(text) => Refusal::new(Code::FieldUnknown, text),
            EventError::Type(_) => Refusal::parameter(match place {
                Some(place) => format!("`{place}` has the wrong type, or a word that does not belong there"),
                None => "a field is missing or stands there twice, or this is no object".into(),
            }),
            other => other.into(),
        },
    )
}

fn described(user: &User) -> Response {
    reply::json(StatusCode::OK, json(user).to_string())
}

/// Grants as an answer lists them.
pub fn texts(grants: &Grants) -> Vec<String> {
    grants.iter().map(Grant::to_string).collect()
}

/// A user as an answer shows it.
pub fn json(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "collection_id": user.collection_id,
        "publish": texts(&user.publish),
        "subscribe": texts(&user.subscribe),
        "created_at": user.created_at,
        "revoked": user.revoked,
    })
}
