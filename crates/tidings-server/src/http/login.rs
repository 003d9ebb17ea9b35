//! `/v1/login`, `/v1/logout`, `/v1/users/me`: what a user does for itself.

use super::address::Query;
use super::{reply, users};
use crate::Door;
use crate::caller::Caller;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use tidings_engine::auth::Login;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    old: String,
    new: String,
}

/// `POST /v1/login`: a token for name and password.
pub async fn login(
    State(door): State<Door>,
    Caller(peer): Caller,
    request: Request,
) -> Result<Response, Refusal> {
    let Credentials { name, password } = users::body(&door, request).await?;
    Ok(welcome(&door.users.login(&name, &password, peer).await?))
}

/// `POST /v1/logout`: every token and connection of the user ends.
pub async fn logout(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    door.users.logout(&who).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v1/users/me`: the user of the token.
pub async fn me(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    let user = door.users.me(&who).await?;
    Ok(reply::json(StatusCode::OK, users::json(&user).to_string()))
}

/// `POST /v1/users/me/password`: every token so far ends; the answer has a new one.
pub async fn password(
    State(door): State<Door>,
    Who(who): Who,
    Caller(peer): Caller,
    request: Request,
) -> Result<Response, Refusal> {
    let Change { old, new } = users::body(&door, request).await?;
    Ok(welcome(&door.users.change_password(&who, &old, &new, peer).await?))
}

fn welcome(login: &Login) -> Response {
    let answer = json!({
        "token": login.token,
        "expires_at": login.expires_at,
        "user": users::json(&login.user),
    });
    reply::json(StatusCode::OK, answer.to_string())
}
