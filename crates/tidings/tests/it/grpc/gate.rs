//! Who may call what: the same tokens as everywhere.

use super::{admin, caller};
use crate::harness::{Server, now_s};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const SECRET: &str = "a secret of at least 32 characters, shared";

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let mut claims = claims.clone();
    if claims["exp"].is_null() {
        claims["exp"] = json!(now_s() + 600);
    }
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn publish(topic: &str) -> Value {
    json!({ "topic": topic, "durable": true, "events": [{ "name": "n", "data": "{}" }] })
}

#[tokio::test]
async fn a_token_reaches_the_topics_and_ids_that_it_names() {
    let server = Server::start_with(&["--secret", SECRET]).await;
    server.publish("users", &[json!({})]).await;
    for (topics, good, bad) in [
        (json!("users:123, visits:123,checkouts:123"), "users:123", &["users:456", "carts:123", "users"][..]),
        (json!("users"), "users:9", &["visits"]),
        (json!(["users"]), "users", &["visits"]),
        (json!(null), "", &["users"]),
    ] {
        let claims = if topics.is_null() { json!({}) } else { json!({ "topics": topics }) };
        let token = signed(Algorithm::HS256, SECRET, &claims);
        let caller = caller(&server, &token);
        if !good.is_empty() {
            caller.call("eventrelay.Events/PublishEvents", &publish(good)).await.unwrap();
            caller.call("eventrelay.Events/PullEvents", &json!({ "topic": good })).await.unwrap();
            caller.call("tidings.v1.Events/Pull", &json!({ "topic": good })).await.unwrap();
        }
        for topic in bad {
            let requests = [
                ("eventrelay.Events/PublishEvents", publish(topic)),
                ("eventrelay.Events/PullEvents", json!({ "topic": topic })),
                ("eventrelay.Events/StreamEvents", json!({ "topic": topic })),
                ("tidings.v1.Events/Publish", json!({ "topic": topic, "events": [{ "data": "1" }] })),
                ("tidings.v1.Events/PublishStream", json!({ "topic": topic, "events": [{ "data": "1" }] })),
                ("tidings.v1.Events/Pull", json!({ "topic": topic })),
                ("tidings.v1.Events/Subscribe", json!({ "topics": [topic], "from": "earliest" })),
            ];
            for (method, request) in requests {
                let refused = caller.call(method, &request).await.unwrap_err();
                assert_eq!(refused.status, "PermissionDenied", "{method} {topic}: {refused:?}");
            }
        }
    }
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused_in_every_service() {
    let server = Server::start_with(&["--secret", SECRET]).await;
    let now = now_s() as i64;
    let all = json!({ "topics": "*" });
    let good = signed(Algorithm::HS256, SECRET, &all);
    let parts: Vec<&str> = good.split('.').collect();
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    for token in [
        signed(Algorithm::HS256, "another secret of at least 32 characters", &all),
        none,
        signed(Algorithm::HS512, SECRET, &all),
        signed(Algorithm::HS256, SECRET, &json!({ "topics": "*", "exp": now - 10 })),
        signed(Algorithm::HS256, SECRET, &json!({ "topics": "*", "nbf": now + 600 })),
        "not a token".into(),
    ] {
        for (method, request) in [
            ("eventrelay.Events/PublishEvents", publish("users")),
            ("eventrelay.Topics/ListTopics", json!({})),
            ("tidings.v1.Events/Publish", json!({ "topic": "users", "events": [{ "data": "1" }] })),
        ] {
            let refused = caller(&server, &token).call(method, &request).await.unwrap_err();
            assert_eq!(refused.status, "Unauthenticated", "{method}: {refused:?}");
            if method.starts_with("eventrelay") {
                assert!(refused.message.starts_with("Invalid credentials"), "{refused:?}");
            }
        }
    }
    assert_eq!(server.get("/v1/topics/users").await.status(), 404, "nothing was published");
    caller(&server, &good).call("eventrelay.Events/PublishEvents", &publish("users")).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_carries_its_code_and_which_event_it_was() {
    let server = Server::start().await;
    let admin = admin(&server);
    for (method, request, status, code) in [
        (
            "Publish",
            json!({ "topic": "a", "events": [{ "data": "1" }, { "data": "{" }] }),
            "InvalidArgument",
            "json_invalid",
        ),
        ("Publish", json!({ "events": [{ "data": "1" }] }), "InvalidArgument", "event_invalid"),
        ("Publish", json!({ "topic": "a:", "events": [] }), "InvalidArgument", "topic_invalid"),
        ("Pull", json!({ "topic": "a", "from": "state" }), "InvalidArgument", "parameter_invalid"),
        ("Pull", json!({ "topic": "a", "limit": 100000 }), "InvalidArgument", "parameter_invalid"),
        ("Pull", json!({ "topic": "a" }), "NotFound", "topic_unknown"),
        ("Subscribe", json!({ "topics": [] }), "InvalidArgument", "parameter_invalid"),
        ("Subscribe", json!({ "topics": ["a"], "filter": "data ==" }), "InvalidArgument", "filter_invalid"),
        ("Subscribe", json!({ "topics": ["a"], "from": "yesterday" }), "InvalidArgument", "cursor_invalid"),
    ] {
        let refused = admin.call(&format!("tidings.v1.Events/{method}"), &request).await.unwrap_err();
        assert_eq!(refused.status, status, "{request}: {refused:?}");
        assert!(refused.all.contains(&format!("tidings-code: {code}")), "{request}: {refused:?}");
        if code == "json_invalid" {
            assert!(refused.all.contains("tidings-index: 1"), "{refused:?}");
        }
    }
    let unserved = admin.call("eventrelay.Metrics/ListMetrics", &json!({})).await.unwrap_err();
    assert_eq!(unserved.status, "Unimplemented");
    assert_eq!(server.get("/v1/topics/a").await.status(), 404, "all or nothing");
}
