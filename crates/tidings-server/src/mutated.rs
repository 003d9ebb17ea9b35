//! What strangers send over gRPC and in channels, changed in every way, against the real services over a log in
//! memory: each input gets an answer, nothing panics, and afterwards everything works as before. Seeded.

use crate::grpc::Grpc;
use crate::phoenix::publish;
use crate::rates::{Rate, Rates};
use crate::{Config, Door};
use axum::body::Body;
use http::{HeaderMap, Request, Version};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as Cases, RngSeed, TestCaseError, TestRunner};
use prost::Message;
use serde_json::json;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tidings_engine::auth::{Gate, Keys, Secret, UserSettings, Users};
use tidings_engine::{Hub, Services, Tidings};
use tidings_log::SystemClock;
use tidings_log::memory::MemoryLog;
use tidings_model::{Limits, Principal, Timestamp};
use tidings_proto::client::{eventrelay as relay, tidings::v1};
use tokio::runtime::Runtime;

const CASES: u32 = 4000;
/// No answer to a few hundred bytes is longer.
const ANSWER_BYTES_MAX: usize = 5 << 20;
/// Bytes that mean something to parsers of lengths, numbers or text.
const ODD: &[u8] = b"\x00\x01\x07\x08\x0a\x12\x1a \"$*,:[\\]{}\x7f\x80\xc0\xff";

/// One change to bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Put(Index, u8),
    Cut(Index),
    Drop(Index, usize),
    Repeat(Index, usize, u32),
    Insert(Index, Vec<u8>),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<Index>;
        prop_oneof![
            (at(), 0u8..8).prop_map(|(at, bit)| Self::Flip(at, 1 << bit)),
            (at(), prop::sample::select(ODD)).prop_map(|(at, byte)| Self::Put(at, byte)),
            at().prop_map(Self::Cut),
            (at(), 1usize..16).prop_map(|(at, len)| Self::Drop(at, len)),
            (at(), 1usize..32, 0u32..9).prop_map(|(at, len, times)| Self::Repeat(at, len, 1 << times)),
            (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, part)| Self::Insert(at, part)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        let until = |at: usize, n: usize| at..(at + n).min(len);
        match self {
            Self::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Self::Put(at, byte) => bytes[at.index(len)] = *byte,
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Drop(at, n) => drop(bytes.drain(until(at.index(len), *n))),
            Self::Repeat(at, n, times) => {
                let at = at.index(len);
                let part = bytes[until(at, *n)].repeat(*times as usize);
                bytes.splice(at..at, part);
            }
            Self::Insert(at, part) => drop(bytes.splice(at.index(len)..at.index(len), part.iter().copied())),
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(Change::any(), 0..5)
}

fn changed(base: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    changes.iter().for_each(|change| change.apply(&mut bytes));
    bytes
}

fn runner() -> TestRunner {
    TestRunner::new(Cases {
        cases: CASES,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Cases::default()
    })
}

/// A server without a socket, the token of an admin, and time that passes when nothing is left to do.
struct Site {
    door: Door,
    token: String,
    runtime: Runtime,
}

impl Site {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let entered = runtime.enter();
        let limits = Limits::default();
        let hub = Arc::new(Hub::new(&limits));
        let log = MemoryLog::new(Arc::new(SystemClock), Arc::clone(&hub) as _);
        let tidings = Tidings::new(Arc::new(log), hub, Arc::new(SystemClock), limits);
        let secret = Secret::new(b"a secret of more than 32 characters".to_vec());
        let users = Users::new(tidings.clone(), UserSettings::default(), secret.clone());
        let gate = Gate::new(Keys::default().own(&secret), users);
        // What is refused for its rate is not looked at.
        let off = Rate::OFF;
        let rates = Rates {
            relay_publish: off,
            relay_publish_passing: off,
            relay_create_topic: off,
            relay_other: off,
            ..Rates::default()
        };
        let config = Config { rates, ..Config::default() };
        let door = Door::new(tidings, gate, config, Services::new());
        let exp = door.tidings.clock().now().as_millis() / 1000 + 3600;
        let token = secret.sign(&json!({ "admin": true, "exp": exp })).unwrap();
        drop(entered);
        Self { door, token, runtime }
    }
}

/// What a call came to: its status, and how long its answer was.
struct Answer {
    status: Option<u32>,
    code: String,
    bytes: usize,
}

async fn call(grpc: &Grpc, token: &str, method: &str, body: Vec<u8>) -> Result<Answer, TestCaseError> {
    let request = Request::post(method)
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from(body));
    let response = grpc.call(request.unwrap()).await;
    prop_assert_eq!(response.status(), 200);
    let (head, mut body) = response.into_parts();
    let mut answer = Answer { status: None, code: String::new(), bytes: 0 };
    answer.note(&head.headers);
    // A stream goes on for as long as it is listened to.
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(1), body.frame()).await {
        let frame = frame.map_err(|error| TestCaseError::fail(format!("{method}: {error}")))?;
        match frame.into_data() {
            Ok(data) => answer.bytes += data.len(),
            Err(frame) => answer.note(frame.trailers_ref().expect("data or trailers")),
        }
    }
    Ok(answer)
}

impl Answer {
    fn note(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(status) = text("grpc-status") {
            self.status = status.parse().ok();
        }
        if let Some(code) = text("tidings-code") {
            code.clone_into(&mut self.code);
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// A method, and messages that mean something to it.
fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let at = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 });
    let native = v1::NewEvent {
        topic: "users:1".into(),
        name: "seen".into(),
        user: "u".into(),
        occurred_at: at,
        data: Some(r#"{"n":[1,{"a":2.5}]}"#.into()),
        context: Some(r#"{"ip":"::1"}"#.into()),
        data_schema: Some(r#"{"type":"object","properties":{"n":{"type":"array"}}}"#.into()),
        prev_id: Some("p".into()),
        verified: Some(true),
        ..Default::default()
    };
    let event = relay::NewEvent {
        name: "seen".into(),
        data: r#"{"n":{"a":2.5}}"#.into(),
        source: "s".into(),
        occurred_at: "2020-01-01T00:00:00.000Z".into(),
        available_at: "2999-01-01T00:00:00Z".into(),
        context: [("ip".to_owned(), "::1".to_owned())].into(),
        data_schema: r#"{"$ref":"#.to_owned() + r##""#/$defs/a","$defs":{"a":{"type":"object"}}}"##,
        ..Default::default()
    };
    let id = "00000000-0000-4000-8000-000000000001".to_owned();
    let config = [("endpoint_url", "https://example.com/"), ("max_attempts", "3"), ("from", "earliest")];
    let config = config.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let publish = v1::PublishRequest { topic: "users".into(), events: vec![native.clone(), native.clone()] };
    let (query, topic) = ("data.n > 1 AND name == 'seen' OR not (context.ip in ['::1'])", "users:1");
    let stream = v1::PublishStreamRequest { topic: topic.into(), events: vec![native], receipts: true };
    let subscribe = v1::SubscribeRequest {
        topics: vec!["users".into(), topic.into()],
        from: "earliest".into(),
        filter: query.into(),
        names: vec!["se*".into()],
    };
    let pull = v1::PullRequest { topic: topic.into(), limit: 9, filter: query.into(), ..Default::default() };
    let relay_publish = |durable| relay::PublishEventsRequest {
        topic: topic.into(),
        events: vec![event.clone(), relay::NewEvent::default(), event.clone()],
        durable,
    };
    let destination = relay::CreateDestinationRequest {
        name: "hook".into(),
        topic_name: "users".into(),
        topic_identifier: "1".into(),
        config,
        destination_type: "webhook".into(),
        group_key: "g".into(),
        ..Default::default()
    };
    let key = relay::CreateApiKeyRequest {
        r#type: 2,
        name: "key".into(),
        group_key: "g".into(),
        ..Default::default()
    };
    let topics = relay::AddTopicsToApiKeyRequest { id: id.clone(), topic_names: vec![topic.into()] };
    let page =
        relay::PullEventsRequest { topic: topic.into(), batch_size: 2, offset: 1, query: query.into() };
    let queue = relay::PullQueuedEventsRequest { destination_id: id.clone(), batch_size: 9 };
    let unlock = relay::UnLockQueuedEventsRequest { destination_id: id.clone(), event_ids: vec![id.clone()] };
    let listen = relay::StreamEventsRequest { topic: topic.into(), query: query.into() };
    vec![
        ("/tidings.v1.Events/Publish", publish.encode_to_vec()),
        ("/tidings.v1.Events/PublishStream", stream.encode_to_vec()),
        ("/tidings.v1.Events/Pull", pull.encode_to_vec()),
        ("/tidings.v1.Events/Subscribe", subscribe.encode_to_vec()),
        ("/eventrelay.Events/PublishEvents", relay_publish(true).encode_to_vec()),
        ("/eventrelay.Events/PublishEvents", relay_publish(false).encode_to_vec()),
        ("/eventrelay.Events/PullEvents", page.encode_to_vec()),
        ("/eventrelay.Events/PullQueuedEvents", queue.encode_to_vec()),
        ("/eventrelay.Events/UnLockQueuedEvents", unlock.encode_to_vec()),
        ("/eventrelay.Events/StreamEvents", listen.encode_to_vec()),
        (
            "/eventrelay.Topics/CreateTopic",
            relay::CreateTopicRequest { name: "t".into(), group_key: "g".into() }.encode_to_vec(),
        ),
        ("/eventrelay.Topics/DeleteTopic", relay::DeleteTopicRequest { id: id.clone() }.encode_to_vec()),
        ("/eventrelay.Destinations/CreateDestination", destination.encode_to_vec()),
        (
            "/eventrelay.Destinations/ListDestinations",
            relay::ListDestinationsRequest { page: 1, page_size: 2 }.encode_to_vec(),
        ),
        (
            "/eventrelay.Destinations/GetDestination",
            relay::GetDestinationRequest { id: id.clone() }.encode_to_vec(),
        ),
        ("/eventrelay.ApiKeys/CreateApiKey", key.encode_to_vec()),
        ("/eventrelay.ApiKeys/AddTopicsToApiKey", topics.encode_to_vec()),
        ("/eventrelay.ApiKeys/RevokeApiKey", relay::RevokeApiKeyRequest { id }.encode_to_vec()),
        ("/eventrelay.JWT/CreateJWT", relay::CreateJwtRequest { expiration: 9_000_000_000 }.encode_to_vec()),
        ("/grpc.health.v1.Health/Check", b"\x0a\x01a".to_vec()),
    ]
}

#[test]
fn every_call_is_answered_whatever_it_says() {
    let site = Site::start();
    let grpc = site.runtime.block_on(async { Grpc::new(site.door.clone()) });
    let seeds = seeds();
    for (method, message) in &seeds {
        let answer = site.runtime.block_on(call(&grpc, &site.token, method, framed(message))).unwrap();
        assert!(
            !["internal", "json_invalid", "filter_invalid"].contains(&&*answer.code),
            "{method}: {}",
            answer.code
        );
    }
    let counts = Cell::new((0, 0));
    let input = (prop::sample::select(seeds), changes(), any::<bool>());
    let checked = runner().run(&input, |((method, message), changes, is_framed)| {
        // Within a whole frame a message is read; a broken frame is refused before that.
        let body = if is_framed {
            framed(&changed(&message, &changes))
        } else {
            changed(&framed(&message), &changes)
        };
        let answer = site.runtime.block_on(call(&grpc, &site.token, method, body))?;
        prop_assert!(answer.code != "internal", "{} failed within", method);
        prop_assert!(answer.bytes <= ANSWER_BYTES_MAX, "{}: {} bytes", method, answer.bytes);
        // Only a stream that goes on has no status yet.
        let is_open = method.ends_with("/Subscribe") || method.ends_with("/StreamEvents");
        let (answered, refused) = counts.get();
        counts.set((answered + 1, refused + u32::from(answer.status != Some(0))));
        prop_assert!(is_open || answer.status.is_some_and(|status| status <= 16), "{}", method);
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    let (answered, refused) = counts.get();
    assert!(answered == CASES && (CASES / 4..CASES).contains(&refused), "{refused} of {answered} refused");
    let good = relay::PublishEventsRequest {
        topic: "afterwards".into(),
        events: vec![relay::NewEvent { name: "n".into(), data: "{}".into(), ..Default::default() }],
        durable: true,
    };
    let body = framed(&good.encode_to_vec());
    let answer =
        site.runtime.block_on(call(&grpc, &site.token, "/eventrelay.Events/PublishEvents", body)).unwrap();
    assert_eq!(answer.status, Some(0));
}

#[test]
fn what_a_channel_publishes_is_taken_or_refused_whatever_it_says() {
    let site = Site::start();
    let who = Principal::admin();
    let seeds = [
        r#"{"topic":"users:1","durable":true,"events":[{"name":"a","data":"{\"x\":1}","source":"s","context":{"a":1}}]}"#,
        r#"{"topic":"users","durable":false,"events":[{"eventId":"04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c","name":"a",
            "userId":"1","eventOccurredAt":"2020-01-01T00:00:00.000Z","data":{},"data_schema":"{\"type\":\"object\"}"}]}"#,
        r#"{"topic":"users","events":[{"name":"later","data":{},"available_at":"2999-01-01T00:00:00Z"},{"name":7},3]}"#,
    ];
    let input = (prop::sample::select(seeds.to_vec()), changes());
    let checked = runner().run(&input, |(seed, changes)| {
        let bytes = changed(seed.as_bytes(), &changes);
        let text = String::from_utf8_lossy(&bytes);
        match site.runtime.block_on(publish::publish(&site.door, &who, &text)) {
            Ok(answer) => {
                let answers = answer["events"].as_array().expect("a list");
                let is_told =
                    |answer: &serde_json::Value| answer["id"].is_string() || answer["errors"].is_array();
                prop_assert!(answers.iter().all(is_told), "{}", answer);
            }
            Err(refusal) => {
                let reason = publish::reason(&refusal).to_string();
                prop_assert!(refusal.code.as_str() != "internal" && reason.len() < 2000, "{}", reason);
            }
        }
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    let good = r#"{"topic":"afterwards","events":[{"name":"n","data":{}}]}"#;
    let answer = site.runtime.block_on(publish::publish(&site.door, &who, good)).unwrap();
    assert_eq!(answer["events"][0]["offset"], 1);
    assert!(site.door.tidings.clock().now() > Timestamp::default());
}
