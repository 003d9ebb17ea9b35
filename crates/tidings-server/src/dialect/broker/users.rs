//! `POST /users` and `POST /login`.

use super::denied::Denied;
use super::{ascii, form, who};
use crate::Door;
use crate::caller::Caller;
use crate::http::reply;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde::Deserialize;
use tidings_engine::Error;
use tidings_engine::auth::{NewSecret, NewUser, Rules, UserError};
use tidings_model::{Code, Uuid};

#[derive(Deserialize)]
#[serde(expecting = "an object with username, password and collection_id")]
struct SignUp {
    username: String,
    password: String,
    collection_id: Uuid,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with username and password")]
struct Login {
    username: String,
    password: String,
}

/// Broker has no rules; what is not there at all is refused all the same.
const RULES: Rules = Rules { name_bytes_min: 1, password_chars_min: 1 };

/// Creates a user, where `users.sign_up` lets the caller.
pub async fn sign_up(
    State(door): State<Door>,
    Caller(peer): Caller,
    request: Request,
) -> Result<Response, Denied> {
    let who = match request.headers().contains_key(header::AUTHORIZATION) {
        true => Some(who::bearer(&door, request.headers()).await?),
        false => None,
    };
    let body = form::body(&door, request).await?;
    let SignUp { username, password, collection_id } = form::fields(&body)?;
    let secret = NewSecret::Password(password);
    let new = NewUser { name: username, secret, collection_id: Some(collection_id), ..NewUser::default() };
    match door.users.sign_up(who.as_deref(), new, RULES, peer).await {
        Ok(user) => Ok(reply::json(StatusCode::OK, format!("{{\"id\":\"{}\"}}", user.id))),
        // Broker's own words, under its own status.
        Err(Error::User(UserError::NameTaken)) => {
            Err(Denied::with_status(Code::UserNameTaken, 400, "username already taken"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Signs a token for name and password.
pub async fn login(
    State(door): State<Door>,
    Caller(peer): Caller,
    request: Request,
) -> Result<Response, Denied> {
    let body = form::body(&door, request).await?;
    let Login { username, password } = form::fields(&body)?;
    let login = door.users.login(&username, &password, peer).await?;
    let mut out = b"{\"jwt\":".to_vec();
    ascii::string(&mut out, &login.token);
    out.push(b'}');
    Ok(reply::json(StatusCode::OK, out))
}
