//! One event, and one token, at every door of EventRelay's: gRPC, HTTP, channels, webhooks, queues.

use super::{SECRET, one, publish, signed};
use crate::delivery::Hooks;
use crate::delivery::receiver::Receiver;
use crate::grpc::{admin, caller};
use crate::harness::{Server, Ws, now_s, soon};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

const PUBLISH: &str = "eventrelay.Events/PublishEvents";
const PULL: &str = "eventrelay.Events/PullEvents";

/// A socket of Phoenix's, and what a join of `channel` was answered with.
async fn joined(server: &Server, channel: &str, token: &str) -> (Ws, Value) {
    let url = server.url("/socket/websocket?vsn=2.0.0");
    let mut ws = Ws::try_open_at(&url, None).await.expect("an upgrade");
    ws.send(json!(["1", "1", channel, "phx_join", { "token": token }])).await;
    let answer = ws.next().await.expect("an answer")[4].take();
    (ws, answer)
}

/// The payload of the next event.
async fn event(ws: &mut Ws) -> Value {
    let mut frame = soon("an event", ws.next()).await.expect("the connection goes on");
    assert_eq!(frame[3], "event:published", "{frame}");
    frame[4].take()
}

/// A destination made over gRPC; its id.
async fn destination(server: &Server, kind: &str, config: Value) -> String {
    let request = json!({ "name": format!("a {kind}"), "topic_name": "users", "topic_identifier": "123",
        "destination_type": kind, "config": config });
    let made = admin(server).call("eventrelay.Destinations/CreateDestination", &request).await.unwrap();
    made["destination"]["id"].as_str().unwrap().to_owned()
}

fn names(page: &Value) -> Vec<String> {
    page["events"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_event_is_the_same_at_every_door() {
    let (server, receiver) = (Hooks::start().await, Receiver::willing().await);
    let hook = destination(&server, "webhook", json!({ "endpoint_url": receiver.url() })).await;
    let live = destination(&server, "websocket", json!({})).await;
    let (mut ws, answer) = joined(&server, &format!("events:{live}"), &server.admin).await;
    assert_eq!(answer, json!({ "status": "ok", "response": {} }));
    let sent = json!({
        "name": "user.seen", "data": r#"{"cart":{"total":12.5}}"#, "source": "s", "group_key": "g",
        "reference_key": "r", "trace_key": "t", "user_key": "u", "anonymous_key": "a",
        "occurred_at": "2020-01-01T00:00:00.000Z", "context": { "ip": "::1" },
        "data_schema": r#"{"type":"object"}"#, "prev_id": "0198a7a0-0000-7000-8000-000000000001",
    });
    let call = json!({ "topic": "users:123", "durable": true, "events": [sent] });
    let answered = admin(&server).call(PUBLISH, &call).await.unwrap()["events"][0].take();
    let begun = Instant::now();
    let pushed = event(&mut ws).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "within a second");
    let hit = receiver.got(1).await.remove(0);
    let posted = hit.json();
    for (what, seen) in [("pushed", &pushed), ("posted", &posted["data"])] {
        for name in [
            "name",
            "source",
            "group_key",
            "reference_key",
            "trace_key",
            "user_key",
            "anonymous_key",
            "occurred_at",
            "context",
            "prev_id",
        ] {
            assert_eq!(seen[name], sent[name], "{what} {name}");
        }
        assert_eq!((&seen["id"], &seen["offset"]), (&answered["id"], &answered["offset"]), "{what}");
        assert_eq!(
            (&seen["topic_name"], &seen["topic_identifier"]),
            (&json!("users"), &json!("123")),
            "{what}"
        );
        assert_eq!(
            (&seen["data"], &seen["verified"]),
            (&json!({ "cart": { "total": 12.5 } }), &json!(true)),
            "{what}"
        );
        assert_eq!(
            (&seen["data_schema"], &seen["errors"]),
            (&json!({ "type": "object" }), &json!([])),
            "{what}"
        );
        assert!(seen["available_at"].is_string(), "{what}");
    }
    assert_eq!((&posted["type"], posted["timestamp"].is_string()), (&json!("user.seen"), true));
    assert_eq!(hit.header("webhook-id"), answered["id"].as_str().unwrap());
    assert_eq!(hit.header("x-event-relay-event-id"), answered["id"].as_str().unwrap());
    assert_eq!(hit.header("x-event-relay-destination-id"), hook);
    assert!(hit.header("webhook-signature").starts_with("v1,") && !hit.header("user-agent").is_empty());
    // What is not stored reaches those who listen, whole, and nobody else.
    let mut passing = call.clone();
    (passing["durable"], passing["events"][0]["name"]) = (json!(false), json!("passing"));
    let id = admin(&server).call(PUBLISH, &passing).await.unwrap()["events"][0]["id"].take();
    let seen = event(&mut ws).await;
    assert_eq!((&seen["id"], &seen["name"]), (&id, &json!("passing")), "the one before came once");
    assert_eq!(seen["data"], json!({ "cart": { "total": 12.5 } }));
    let pulled = admin(&server).call(PULL, &json!({ "topic": "users:123" })).await.unwrap();
    assert_eq!(names(&pulled), ["user.seen"]);
    let mut last = call;
    last["events"][0]["name"] = json!("last");
    admin(&server).call(PUBLISH, &last).await.unwrap();
    assert_eq!(receiver.got(2).await[1].json()["type"], "last", "a webhook is sent what is stored");
}

#[tokio::test]
async fn what_is_for_later_is_nowhere_until_it_is_due_and_then_once() {
    let (server, receiver) = (Hooks::start().await, Receiver::willing().await);
    destination(&server, "webhook", json!({ "endpoint_url": receiver.url() })).await;
    let queue = destination(&server, "api", json!({})).await;
    let (mut ws, _) = joined(&server, "events:users:123", &server.admin).await;
    let due = now_s() + 4;
    let at = crate::delivery::time_text(due);
    let events = json!([
        { "name": "later", "data": "{}", "available_at": at },
        { "name": "now", "data": "{}" },
    ]);
    let call = json!({ "topic": "users:123", "durable": true, "events": events });
    let answered = admin(&server).call(PUBLISH, &call).await.unwrap();
    assert_eq!((&answered["events"][0]["offset"], &answered["events"][1]["offset"]), (&json!(0), &json!(1)));
    let pull = async || names(&admin(&server).call(PULL, &json!({ "topic": "users:123" })).await.unwrap());
    let take = json!({ "destination_id": queue });
    let take =
        async || names(&admin(&server).call("eventrelay.Events/PullQueuedEvents", &take).await.unwrap());
    let (pulled, taken) = (pull().await, take().await);
    assert_eq!(event(&mut ws).await["name"], "now");
    assert_eq!(receiver.got(1).await[0].json()["type"], "now");
    assert!(now_s() < due, "too slow a machine to see anything");
    assert_eq!((pulled, taken), (vec!["now".to_owned()], vec!["now".to_owned()]));
    assert_eq!(event(&mut ws).await["name"], "later");
    assert!(now_s() >= due);
    assert_eq!(pull().await, ["now", "later"]);
    assert_eq!((take().await, take().await), (vec!["later".to_owned()], vec![]));
    let call = json!({ "topic": "users:123", "durable": true, "events": [{ "name": "end", "data": "{}" }] });
    admin(&server).call(PUBLISH, &call).await.unwrap();
    assert_eq!(event(&mut ws).await["name"], "end");
    let types: Vec<Value> = receiver.got(3).await.iter().map(|hit| hit.json()["type"].take()).collect();
    assert_eq!(types, ["now", "later", "end"]);
}

#[tokio::test]
async fn one_token_counts_at_every_door_and_one_that_is_not_right_at_none() {
    let server = super::relay().await;
    let claims = |more: Value| {
        let mut claims = json!({ "topics": "users:123, visits:123", "exp": now_s() + 60 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let good = signed(Algorithm::HS256, SECRET, &claims(json!({})));
    let grpc = async |token: &str, topic: &str| {
        let events = json!([{ "name": "n", "data": "{}" }]);
        let call = json!({ "topic": topic, "durable": true, "events": events });
        caller(&server, token).call(PUBLISH, &call).await.map_err(|refused| refused.status)
    };
    let http = async |token: &str, topic: &str| publish(&server, token, &one(topic)).await.status().as_u16();
    let join = async |token: &str, topic: &str| joined(&server, &format!("events:{topic}"), token).await.1;
    assert!(grpc(&good, "users:123").await.is_ok());
    assert_eq!(http(&good, "users:123").await, 201);
    assert_eq!(join(&good, "users:123").await["status"], "ok");
    let unauthorized = json!({ "status": "error", "response": { "reason": "unauthorized" } });
    for topic in ["users:456", "checkouts:123"] {
        assert_eq!(grpc(&good, topic).await.unwrap_err(), "PermissionDenied");
        assert_eq!(http(&good, topic).await, 403);
        assert_eq!(join(&good, topic).await, unauthorized);
    }
    let parts: Vec<&str> = good.split('.').collect();
    for (what, bad) in [
        ("alg none", format!("eyJhbGciOiJub25lIn0.{}.", parts[1])),
        (
            "wrong signature",
            signed(Algorithm::HS256, "another secret with 32 characters", &claims(json!({}))),
        ),
        ("HS512", signed(Algorithm::HS512, SECRET, &claims(json!({})))),
        ("expired", signed(Algorithm::HS256, SECRET, &claims(json!({ "exp": now_s() - 1 })))),
        ("not yet", signed(Algorithm::HS256, SECRET, &claims(json!({ "nbf": now_s() + 50 })))),
    ] {
        assert_eq!(grpc(&bad, "users:123").await.unwrap_err(), "Unauthenticated", "{what}");
        assert_eq!(http(&bad, "users:123").await, 401, "{what}");
        assert_eq!(join(&bad, "users:123").await, unauthorized, "{what}");
    }
}

#[tokio::test]
async fn a_token_made_over_grpc_joins_a_channel_and_ends_it_at_its_time() {
    let server = Server::start().await;
    let live = destination(&server, "websocket", json!({})).await;
    let key = server.api_key(json!({ "name": "c", "kind": "consumer", "destinations": [live] })).await;
    let key = caller(&server, key["token"].as_str().unwrap());
    let create = async |expiration: u64| {
        let answer =
            key.call("eventrelay.JWT/CreateJWT", &json!({ "expiration": expiration })).await.unwrap();
        answer["jwt"].as_str().unwrap().to_owned()
    };
    let end = now_s() + 3;
    let token = create(end).await;
    let channel = format!("events:{live}");
    let (mut ws, answer) = joined(&server, &channel, &token).await;
    assert_eq!(answer["status"], "ok");
    server.publish("users:123", &[json!({ "n": 1 })]).await;
    assert_eq!(event(&mut ws).await["data"], json!({ "n": 1 }));
    let ended = soon("the end of the channel", ws.next()).await.expect("a frame");
    assert_eq!((&ended[3], &ended[4]["reason"]), (&json!("phx_error"), &json!("token_expired")));
    assert!(now_s() >= end);
    assert_eq!(joined(&server, &channel, &token).await.1["response"]["reason"], "unauthorized");
    // Without a time it is an hour.
    use base64::Engine as _;
    let usual = create(0).await;
    let claims = usual.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert!(claims["exp"].as_u64().unwrap().abs_diff(now_s() + 3600) < 60, "{claims}");
    assert_eq!(joined(&server, &channel, &usual).await.1["status"], "ok");
}
