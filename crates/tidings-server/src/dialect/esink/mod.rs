//! Esink's interface beside Socket.IO: `POST /publish`, `GET /ping`, and what its clients send with `event`.
//!
//! Owns: its statuses and words. A change goes to the topic of its table where that is one of the tables that
//! Socket.IO clients are sent, else to `esink.topic`, and its audience is the user that it names.
//! Never: repeats the security token to anybody.

mod body;
mod config;

pub use config::{Esink, SecurityToken};

use crate::Door;
use crate::http::body::Parts;
use crate::refusal::Refusal;
use crate::socketio;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use body::Change;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::LazyLock;
use tidings_engine::{Addressee, Error};
use tidings_model::{NewEvent, Principal, Topic, TopicName, Uuid};

/// Largest body of `/publish`.
const BODY_BYTES_MAX: usize = 100 << 10;
/// Addresses everybody.
const EVERYONE: &str = "*";
/// The server itself publishes, for whoever knows the security token.
static SERVER: LazyLock<Principal> = LazyLock::new(Principal::admin);

/// `POST /publish`.
pub async fn publish(State(door): State<Door>, request: Request) -> Response {
    let mut parts = Parts::new(request.into_body(), door.tidings.limits().read_timeout_ms);
    let body = match parts.whole(BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(refusal) => return refused(&refusal),
    };
    let text = std::str::from_utf8(&body)
        .ok()
        .filter(|text| text.trim().is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    let Some(text) = text else {
        let message = "the body is not valid JSON";
        let error = json!({ "name": "SyntaxError", "errors": [message] });
        let answer =
            json!({ "code": 400, "type": "SyntaxError", "key": null, "message": message, "error": error });
        return json(StatusCode::BAD_REQUEST, &answer);
    };
    let mut change = match Change::parse(text) {
        Ok(change) => change,
        Err(invalid) => return json(StatusCode::BAD_REQUEST, &invalid.to_json()),
    };
    match &door.config.esink.security_token {
        None => {
            let message = "Publishing API is disabled, because no security token is set (SECURITY_TOKEN)";
            return json(StatusCode::FORBIDDEN, &json!({ "code": 403, "message": message }));
        }
        Some(token) if !token.is(&change.security_token) => {
            let message = "Unauthorized, invalid security token";
            return json(StatusCode::UNAUTHORIZED, &json!({ "code": 401, "message": message }));
        }
        Some(_) => {}
    }
    let user = std::mem::take(&mut change.user);
    let sent_to = door.sessions.of(Some(&*user).filter(|user| *user != EVERYONE));
    let done = if user == EVERYONE {
        store(&door, change, "api", Addressee::Everyone).await
    } else {
        store(&door, change, "api", Addressee::User(&user)).await
    };
    match done {
        Ok(id) => {
            let message = "Message queued for publishing";
            let answer = json!({ "code": 200, "id": id.to_string(), "sentTo": sent_to, "message": message });
            json(StatusCode::OK, &answer)
        }
        Err(error) => refused(&error.into()),
    }
}

/// `GET /ping`.
pub async fn ping() -> Response {
    let mut response = Response::new(Body::from("pong"));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// How Esink answers a path that it does not have.
pub fn unknown() -> Response {
    json(StatusCode::NOT_FOUND, &json!({ "code": 404, "message": "Route not found" }))
}

/// A client publishes to its own user with `event`; the packets it is answered with, none if all is well.
pub async fn republish(door: &Door, who: &Principal, body: &str) -> Vec<String> {
    let tell = |answer: Value| vec![socketio::emit("error", &answer, None)];
    if !door.config.esink.allow_republishing {
        return tell(json!({ "code": 403, "message": "Republishing is disabled" }));
    }
    let change = match Change::parse(body) {
        Ok(change) => change,
        Err(invalid) => {
            let mut answer = invalid.to_json();
            answer["message"] = "Invalid parameters given".into();
            answer["originalBody"] = serde_json::from_str(body).unwrap_or_default();
            return tell(answer);
        }
    };
    let Some(user) = who.id.as_deref() else {
        return tell(json!({ "code": 403, "message": "the token names no user" }));
    };
    match store(door, change, "socketio", Addressee::User(user)).await {
        Ok(_) => Vec::new(),
        Err(error) => {
            let refusal = Refusal::from(error);
            tell(json!({ "code": refusal.code.status(), "message": refusal.detail }))
        }
    }
}

/// What the user of the token `TEST` gets to see. It is in no log and has no cursor.
pub fn sample(door: &Door) -> Vec<String> {
    let now = door.tidings.clock().now().as_millis();
    let of = |kind: &str| {
        json!({
            "table": "users", "type": kind, "data": { "id": -1, "name": "Test User" }, "source": "sample",
            "source_type": "api", "timestamp": now, "version": 1, "id": Uuid::new_v4().to_string(),
        })
    };
    let kinds = ["insert", "update", "delete"].map(of);
    let both = |change: &Value| ["users", "changes"].map(|name| socketio::emit(name, change, None));
    kinds.iter().flat_map(both).collect()
}

/// Puts a change into the log.
async fn store(door: &Door, mut change: Change, source_type: &str, to: Addressee<'_>) -> Result<Uuid, Error> {
    if let Some(columns) = door.esink_filters.get(&change.table) {
        change.without(columns);
    }
    let own = topic(door, &change.table);
    let table = own.is_none().then(|| change.table.clone());
    let name = match own {
        Some(name) => name,
        None => TopicName::parse(&door.config.esink.topic)?,
    };
    let context = change.context(source_type, table.as_deref());
    let usual = match source_type {
        "api" => &door.config.esink.default_source,
        other => other,
    };
    let source = change.source.unwrap_or_else(|| usual.to_owned());
    let event = NewEvent {
        name: Some(change.kind.into()),
        source: Some(source.into()),
        context: Some(context),
        ..NewEvent::new(Topic { name, key: None }, change.data)
    };
    let receipt = door.tidings.publish_to_captured(&SERVER, event, to).await?;
    Ok(receipt.events[0].id)
}

/// The topic of a table that has one. A dot may divide schema and table, or be part of the name.
fn topic(door: &Door, table: &str) -> Option<TopicName> {
    let (schema, rest) = table.split_once('.').map_or((None, table), |(schema, rest)| (Some(schema), rest));
    let names = [
        TopicName::parse_captured(table),
        TopicName::captured(schema, rest, ""),
        TopicName::captured(None, table, ""),
    ];
    names.into_iter().flatten().find(|name| door.is_table(name))
}

fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message =
        if status == StatusCode::INTERNAL_SERVER_ERROR { "Internal server error" } else { &refusal.detail };
    let error = json!({ "code": refusal.code.as_str() });
    json(status, &json!({ "code": status.as_u16(), "message": message, "error": error }))
}

fn json(status: StatusCode, answer: &Value) -> Response {
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
