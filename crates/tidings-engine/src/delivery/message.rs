//! An event as a webhook: body and headers.
//!
//! Owns: the three forms of the body, and what is signed. EventRelay's names are those its receivers know.

use super::courier::Request;
use super::destination::{Destination, Policy};
use super::secret::signatures;
use super::settings::Format;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tidings_model::{Attributes, Event, Timestamp, Uuid};

/// How much of an answer is kept.
const ANSWER_BYTES: usize = 2048;
const USER_AGENT: &str = concat!("Tidings/", env!("CARGO_PKG_VERSION"));

/// EventRelay's body.
#[derive(Serialize)]
struct Relay<'a> {
    timestamp: Timestamp,
    #[serde(rename = "type")]
    kind: &'a str,
    data: RelayEvent<'a>,
}

/// Every key is there, `null` where the event has nothing to say.
#[derive(Serialize)]
struct RelayEvent<'a> {
    id: Uuid,
    name: Option<&'a str>,
    topic: String,
    topic_name: &'a str,
    topic_identifier: Option<&'a str>,
    source: Option<&'a str>,
    data: Option<&'a RawValue>,
    data_schema: Option<&'a RawValue>,
    context: Option<&'a RawValue>,
    user_key: Option<&'a str>,
    anonymous_key: Option<&'a str>,
    group_key: Option<&'a str>,
    reference_key: Option<&'a str>,
    trace_key: Option<&'a str>,
    prev_id: Option<&'a str>,
    verified: Option<bool>,
    offset: u64,
    occurred_at: Timestamp,
    available_at: Timestamp,
    errors: [&'a str; 0],
}

#[derive(Serialize)]
struct Cloud<'a> {
    specversion: &'static str,
    id: Uuid,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    datacontenttype: &'static str,
    topic: &'a str,
    /// As text: numbers of a CloudEvent end at 32 bits.
    offset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// One attempt to deliver `event`, made at `now`.
pub fn request(destination: &Destination, policy: &Policy, event: &Event, now: Timestamp) -> Request {
    let settings = &destination.settings;
    let (body, content_type) = match settings.format {
        Format::EventRelay => (relay(event, now), "application/json"),
        Format::CloudEvents => (cloud(event), "application/cloudevents+json"),
        Format::Event => (event.to_json().into_bytes(), "application/json"),
    };
    let id = event.id().to_string();
    let seconds = now.as_millis().div_euclid(1000);
    let mut headers: Vec<(Box<str>, Box<str>)> = vec![
        ("content-type".into(), content_type.into()),
        ("user-agent".into(), settings.user_agent.as_deref().unwrap_or(USER_AGENT).into()),
        ("webhook-timestamp".into(), seconds.to_string().into()),
        ("webhook-signature".into(), signatures(&settings.secrets, &id, seconds, &body).into()),
        ("x-event-relay-event-id".into(), id.as_str().into()),
        ("x-event-relay-destination-id".into(), destination.id.to_string().into()),
        ("x-event-relay-topic-name".into(), header(event.topic().as_str())),
        ("x-event-relay-topic-identifier".into(), header(event.key().unwrap_or_default())),
    ];
    headers.push(("webhook-id".into(), id.into()));
    headers.extend(settings.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    Request {
        url: settings.url.clone().unwrap_or_default(),
        headers,
        body: body.into(),
        timeout: Duration::from_millis(policy.timeout_ms),
        allow_private: policy.allow_private,
        answer_bytes: ANSWER_BYTES,
    }
}

/// What a receiver branches on: the event's name, or its topic where it has none.
fn kind(event: &Event) -> &str {
    event.name().unwrap_or(event.topic().as_str())
}

fn relay(event: &Event, now: Timestamp) -> Vec<u8> {
    let record = event.record();
    // They were checked when they came in.
    let attributes = record.attributes().and_then(|json| serde_json::from_str::<Attributes>(json).ok());
    let attributes = attributes.unwrap_or_default();
    let topic = match event.key() {
        None => event.topic().to_string(),
        Some(key) => format!("{}:{key}", event.topic()),
    };
    let occurred_at = record.occurred_at().unwrap_or(record.published_at());
    let data = RelayEvent {
        id: event.id(),
        name: event.name(),
        topic,
        topic_name: event.topic().as_str(),
        topic_identifier: event.key(),
        source: record.source(),
        data: raw(record.data()),
        data_schema: raw(attributes.data_schema.as_deref()),
        context: raw(record.context()),
        user_key: record.user(),
        anonymous_key: attributes.anonymous_key.as_deref(),
        group_key: attributes.group_key.as_deref(),
        reference_key: attributes.reference_key.as_deref(),
        trace_key: attributes.trace_key.as_deref(),
        prev_id: attributes.prev_id.as_deref(),
        verified: attributes.verified,
        offset: event.offset().0,
        occurred_at,
        available_at: record.available_at().unwrap_or(record.published_at()),
        errors: [],
    };
    serde_json::to_vec(&Relay { timestamp: now, kind: kind(event), data }).expect("plain fields into memory")
}

fn cloud(event: &Event) -> Vec<u8> {
    let record = event.record();
    let cloud = Cloud {
        specversion: "1.0",
        id: event.id(),
        source: record.source().unwrap_or("tidings"),
        kind: kind(event),
        time: record.occurred_at().unwrap_or(record.published_at()),
        subject: event.key(),
        datacontenttype: "application/json",
        topic: event.topic().as_str(),
        offset: event.offset().to_string(),
        data: raw(record.data()),
    };
    serde_json::to_vec(&cloud).expect("plain fields into memory")
}

/// JSON as it was sent; a schema that is no JSON is left out.
fn raw(json: Option<&str>) -> Option<&RawValue> {
    json.and_then(|json| serde_json::from_str(json).ok())
}

/// A header holds visible ASCII; anything else is percent-encoded.
fn header(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{DestinationSettings, WebhookSettings};
    use serde_json::{Value, json};
    use tidings_model::{Epoch, NewEvent, Offset, RecordWriter, Topic};

    fn sent(format: &str) -> (Value, Request) {
        let text = r#"{"name":"paid","source":"shop","user":"u","data":{"a": 1.50},"context":{"c":"d"},"group_key":"g","prev_id":"p","verified":true,"occurred_at":"2020-01-01T00:00:00Z"}"#;
        let new = NewEvent::parse(text.as_bytes(), &Topic::parse("users:ä").unwrap()).unwrap();
        let mut record = RecordWriter::encode(&new, Uuid::from_u128(1));
        RecordWriter::stamp(&mut record, Timestamp::from_millis(5000).unwrap());
        let event = Event::new(new.topic.name, Epoch(1), Offset(7), record.into()).unwrap();
        let settings: DestinationSettings = serde_json::from_value(json!({
            "name": "hook", "topic": "users", "url": "https://example.com/", "format": format,
            "headers": { "authorization": "Bearer x" }, "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        }))
        .unwrap();
        let rules = WebhookSettings::default();
        let own = Destination::check(Uuid::from_u128(2), Timestamp::default(), settings, &rules).unwrap();
        let request = request(&own, &own.policy(&rules), &event, Timestamp::from_millis(9_999).unwrap());
        (serde_json::from_slice(&request.body).unwrap(), request)
    }

    #[test]
    fn eventrelays_body_has_the_whole_event_under_its_names() {
        let (body, request) = sent("eventrelay");
        assert_eq!((&body["timestamp"], &body["type"]), (&json!("1970-01-01T00:00:09.999Z"), &json!("paid")));
        let data = &body["data"];
        assert_eq!(
            *data,
            json!({
                "id": Uuid::from_u128(1), "name": "paid", "topic": "users:ä", "topic_name": "users",
                "topic_identifier": "ä", "source": "shop", "data": { "a": 1.50 }, "data_schema": null,
                "context": { "c": "d" }, "user_key": "u", "anonymous_key": null, "group_key": "g",
                "reference_key": null, "trace_key": null, "prev_id": "p", "verified": true, "offset": 7,
                "occurred_at": "2020-01-01T00:00:00.000Z", "available_at": "1970-01-01T00:00:05.000Z", "errors": [],
            })
        );
        assert!(std::str::from_utf8(&request.body).unwrap().contains(r#"{"a": 1.50}"#), "byte for byte");
        let header = |name: &str| request.headers.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v);
        assert_eq!(header("webhook-timestamp"), Some("9"));
        assert_eq!(header("x-event-relay-topic-identifier"), Some("%C3%A4"));
        assert_eq!(header("authorization"), Some("Bearer x"));
        assert!(header("webhook-signature").unwrap().starts_with("v1,"));
    }

    #[test]
    fn a_cloud_event_and_a_plain_event_are_what_they_are_elsewhere() {
        let (body, request) = sent("cloudevents");
        assert_eq!(
            (&body["specversion"], &body["type"], &body["data"]["a"]),
            (&json!("1.0"), &json!("paid"), &json!(1.5))
        );
        assert!(request.headers.iter().any(|(_, value)| &**value == "application/cloudevents+json"));
        let (body, _) = sent("event");
        assert_eq!(
            (&body["topic"], &body["key"], &body["offset"]),
            (&json!("users:ä"), &json!("ä"), &json!(7))
        );
    }
}
