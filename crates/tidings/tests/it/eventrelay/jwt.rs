//! Tokens that a customer's own backend signs with `ER_JWT_SECRET`.

use super::{SECRET, answer, one, publish, relay, signed, token};
use crate::harness::{Server, code, now_s};
use jsonwebtoken::Algorithm;
use reqwest::Method;
use serde_json::{Value, json};

async fn status(server: &Server, token: &str, topic: &str) -> u16 {
    answer(publish(server, token, &one(topic)).await).await.0
}

#[tokio::test]
async fn the_claim_names_topics_with_their_ids() {
    let server = relay().await;
    for topics in
        [json!("users:123,visits:123"), json!(" users:123 , visits:123 "), json!(["users:123", "visits:123"])]
    {
        let token = token(&topics);
        for (topic, expected) in [
            ("users:123", 201),
            ("visits:123", 201),
            ("users:456", 403),
            ("users", 403),
            ("checkouts:123", 403),
        ] {
            assert_eq!(status(&server, &token, topic).await, expected, "{topics} {topic}");
        }
        for (topic, expected) in [("users:123", 200), ("users:456", 403), ("users", 403)] {
            let read = server
                .request(Method::GET, &format!("/v1/topics/{topic}/events"), &token)
                .send()
                .await
                .unwrap();
            assert_eq!(read.status(), expected, "{topics} {topic}");
        }
    }
    let whole = token(&json!("users"));
    for (topic, expected) in [("users", 201), ("users:9", 201), ("user", 403)] {
        assert_eq!(status(&server, &whole, topic).await, expected, "{topic}");
    }
    let mut ws = server.ws(&whole).await;
    ws.subscribe("users:9", "earliest").await;
    assert_eq!(ws.event().await["topic"], "users:9");
}

#[tokio::test]
async fn a_token_that_is_not_right_is_refused() {
    let server = relay().await;
    let (now, topics) = (now_s(), "users");
    let fine = json!({"topics": topics, "exp": now + 60});
    assert_eq!(status(&server, &signed(Algorithm::HS256, SECRET, &fine), "users").await, 201);
    let no_topics = json!({"exp": now + 60});
    assert_eq!(status(&server, &signed(Algorithm::HS256, SECRET, &no_topics), "users").await, 403);
    let unsigned = {
        use base64::Engine as _;
        let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(r#"{"alg":"none","typ":"JWT"}"#.into()), encode(fine.to_string()))
    };
    for (what, bad) in [
        ("wrong signature", signed(Algorithm::HS256, "another secret with 32 characters", &fine)),
        ("alg none", unsigned),
        ("HS512", signed(Algorithm::HS512, SECRET, &fine)),
        ("expired", signed(Algorithm::HS256, SECRET, &json!({"topics": topics, "exp": now - 1}))),
        (
            "not yet",
            signed(Algorithm::HS256, SECRET, &json!({"topics": topics, "exp": now + 60, "nbf": now + 30})),
        ),
        ("for ever", signed(Algorithm::HS256, SECRET, &json!({"topics": topics}))),
    ] {
        assert_eq!(status(&server, &bad, "users").await, 401, "{what}");
        let read = server.request(Method::GET, "/v1/topics/users/events", &bad).send().await.unwrap();
        assert_eq!(code(read).await.0, 401, "{what}");
    }
    let admin = signed(Algorithm::HS256, SECRET, &json!({"admin": true, "exp": now + 60}));
    let keys = server.request(Method::GET, "/v1/keys", &admin).send().await.unwrap();
    assert_eq!(code(keys).await, (403, "forbidden".into()), "a shared secret makes no admin");
}

#[tokio::test]
async fn the_claims_of_eventrelays_own_tokens_are_understood() {
    let server = relay().await;
    let claims: Value = json!({
        "api_key_id": "11111111-2222-3333-4444-555555555555", "api_key_type": "producer",
        "topic_names": ["users"], "exp": now_s() + 60,
    });
    let token = signed(Algorithm::HS256, SECRET, &claims);
    assert_eq!(status(&server, &token, "users:9").await, 201);
    assert_eq!(status(&server, &token, "orders").await, 403);
    let read = server.request(Method::GET, "/v1/topics/users/events", &token).send().await.unwrap();
    assert_eq!(read.status(), 403, "they name what may be published to");
}
