//! `POST /v1/topics/{topic}/events`: the busiest door, so it does nothing that is not needed.
//!
//! Owns: which form a body has, and the receipt as JSON. Never: decides about an event; a refused body is
//! taken from the wire so that the client gets to read why.

use super::body::Parts;
use super::{Route, address, cloudevents, layers, ndjson, reply};
use crate::rates::Call;
use crate::refusal::Refusal;
use crate::{Door, gate, wire};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, StatusCode, header, request};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::pin::pin;
use std::sync::Arc;
use tidings_engine::Error;
use tidings_model::{Code, EventError, NewEvent, Principal, Topic};

/// The header by which binary CloudEvents are known.
const SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// This route in the table, whose first it is; the test of the metrics would notice another.
const ROUTE: &Route = &super::ROUTES[0];

/// Publishes what the body holds.
pub async fn post(State(door): State<Door>, request: Request) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let answer = pin!(answer(&door, request));
    layers::watched(&door, ROUTE, origin, answer).await
}

async fn answer(door: &Door, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = Parts::new(body, door.tidings.limits().read_timeout_ms);
    match publish(door, &head, &mut body).await {
        Ok(response) => response,
        Err(refusal) => {
            body.discard(&door.services);
            refusal.into_response()
        }
    }
}

async fn publish(door: &Door, head: &request::Parts, body: &mut Parts) -> Result<Response, Refusal> {
    let who = gate::bearer(door, &head.headers).await?;
    gate::count(door, head, &who, Call::Publish)?;
    let topic = address::topic(head.uri.path())?;
    address::Query::parse(&head.uri, &[])?;
    let max = door.tidings.limits().body_bytes;
    let events = match Form::of(&head.headers)? {
        // Boxed: what it needs is large, and would be moved about with every single event.
        Form::Lines => return Box::pin(ndjson::publish(door, who, topic, body)).await,
        Form::Json => json(&body.whole(max).await?, &topic, door.tidings.limits().batch_events)?,
        Form::CloudEvent => vec![cloudevents::structured(&body.whole(max).await?, &topic)?],
        Form::CloudEvents => {
            cloudevents::batch(&body.whole(max).await?, &topic, door.tidings.limits().batch_events)?
        }
        Form::CloudBinary => vec![cloudevents::binary(&head.headers, body.whole(max).await?, &topic)?],
    };
    let receipt = door.tidings.publish(&who, events).await?;
    Ok(reply::json(StatusCode::CREATED, wire::receipt(&receipt)))
}

/// Who publishes, and where to. Calls are not counted here.
pub struct Sender {
    who: Arc<Principal>,
    topic: Topic,
}

impl Sender {
    /// Of requests to `path` with this `Authorization`.
    pub async fn of(door: &Door, path: &str, authorization: &[u8]) -> Result<Self, Refusal> {
        Ok(Self { who: gate::by_value(door, authorization).await?, topic: address::topic(path)? })
    }

    /// Whether the same request would have the same sender now.
    pub fn is_current(&self, door: &Door) -> bool {
        self.who.is_current() && self.who.is_in_time(door.tidings.clock().now())
    }

    /// Publishes what a whole body of JSON holds; answers with the receipt, whose status is 201 and whose headers are
    /// [`reply::HEADERS`].
    pub async fn publish(&self, door: &Door, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let events = json(body, &self.topic, door.tidings.limits().batch_events)?;
        Ok(wire::receipt(&door.tidings.publish(&self.who, events).await?))
    }
}

/// Notes that a publish was answered.
pub fn count(door: &Door, status: StatusCode) {
    door.metrics.request(ROUTE.method, ROUTE.path, status);
}

/// The forms a body may have.
enum Form {
    Json,
    Lines,
    CloudEvent,
    CloudEvents,
    CloudBinary,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let kind = headers.get(header::CONTENT_TYPE);
        // What nearly everybody sends, as it is nearly always written.
        if kind.is_some_and(|kind| kind == "application/json") && !headers.contains_key(SPECVERSION) {
            return Ok(Self::Json);
        }
        let kind = kind.map_or(Some(""), |v| v.to_str().ok());
        let kind = kind.unwrap_or("?").split(';').next().unwrap_or_default().trim();
        let is = |known: &[&str]| known.iter().any(|own| kind.eq_ignore_ascii_case(own));
        if is(&["application/cloudevents+json"]) {
            return Ok(Self::CloudEvent);
        }
        if is(&["application/cloudevents-batch+json"]) {
            return Ok(Self::CloudEvents);
        }
        // Binary CloudEvents are known by their headers; their Content-Type is that of the data.
        if headers.contains_key(SPECVERSION) {
            return Ok(Self::CloudBinary);
        }
        if is(&["", "application/json"]) {
            return Ok(Self::Json);
        }
        if is(&["application/x-ndjson", "application/ndjson", "application/jsonl"]) {
            return Ok(Self::Lines);
        }
        let detail = "send application/json, application/x-ndjson, or CloudEvents 1.0";
        Err(Refusal::new(Code::MediaTypeUnsupported, detail))
    }
}

/// One event, or an array of events.
fn json(body: &[u8], topic: &Topic, max: usize) -> Result<Vec<NewEvent>, Refusal> {
    let is_array = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if !is_array {
        return Ok(vec![NewEvent::parse(body, topic)?]);
    }
    let parse = |(index, json): (usize, &RawValue)| {
        NewEvent::parse(json.get().as_bytes(), topic)
            .map_err(|source| Refusal::from(Error::Event { index, source }))
    };
    array(body, max)?.into_iter().enumerate().map(parse).collect()
}

/// The elements of a JSON array, of which there are at most `max`.
pub fn array(body: &[u8], max: usize) -> Result<Vec<&RawValue>, Refusal> {
    /// Stops at the first element too many, so that a body of `[1,1,1,...` costs no memory.
    struct Elements(usize);
    impl<'de> Visitor<'de> for Elements {
        type Value = Result<Vec<&'de RawValue>, usize>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element()? {
                elements.push(element);
                if elements.len() > self.0 {
                    while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                    return Ok(Err(self.0));
                }
            }
            Ok(Ok(elements))
        }
    }
    let text = EventError::text(body)?;
    let mut json = serde_json::Deserializer::from_str(text);
    let elements = json.deserialize_seq(Elements(max)).map_err(|e| EventError::from_json(&e))?;
    json.end().map_err(|e| EventError::from_json(&e))?;
    elements.map_err(|max| {
        let detail = format!("the array has more than {max} events; NDJSON has no such bound");
        Refusal::new(Code::BatchTooLarge, detail)
    })
}
