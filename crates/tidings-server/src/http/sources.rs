//! `/v1/sources`: the databases whose changes are captured, and how that goes.

use super::address::Query;
use super::reply;
use crate::Door;
use crate::gate::Who;
use crate::refusal::Refusal;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use tidings_engine::{Error, SourceStatus};

/// `GET /v1/sources`: all of them, for admins only.
pub async fn list(State(door): State<Door>, Who(who): Who, uri: Uri) -> Result<Response, Refusal> {
    Query::parse(&uri, &[])?;
    if !who.is_admin {
        return Err(Error::AdminOnly.into());
    }
    let all: Vec<Value> = door.tidings.sources().statuses().iter().map(source).collect();
    Ok(reply::json(StatusCode::OK, json!({ "sources": all }).to_string()))
}

/// A source as JSON; what is not known is left out.
fn source(status: &SourceStatus) -> Value {
    let mut source = json!({
        "name": status.name,
        "kind": status.kind,
        "mode": status.mode,
        "database": status.database,
        "state": status.state.as_str(),
        "since": status.since.to_string(),
        "events": status.events,
        "failures": status.failures,
    });
    let optional = [
        ("position", status.position.clone().map(Value::from)),
        ("lag_bytes", status.lag_bytes.map(Value::from)),
        ("lag_ms", status.lag.map(|lag| Value::from(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)))),
        ("retained_bytes", status.retained_bytes.map(Value::from)),
        ("retained_bytes_alarm", status.retained_bytes_alarm.map(Value::from)),
        ("error", status.error.as_ref().map(|(at, text)| json!({ "at": at.to_string(), "text": text }))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            source[name] = value;
        }
    }
    source
}
