//! What EventRelay's users bring along: keys, tokens, topics and the HTTP interface.

mod api_keys;
mod everywhere;
mod http;
mod jwt;
mod rates;
mod schemas;
mod variables;

use crate::harness::Server;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Response;
use serde_json::{Value, json};

const SECRET: &str = "a secret that has 32 characters!";

/// A server that verifies tokens signed with [`SECRET`].
async fn relay() -> Server {
    Server::start_in(&[("ER_JWT_SECRET", SECRET)]).await
}

/// A token of the customer's own backend.
fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).expect("a token")
}

/// A token for `topics`, valid for a minute.
fn token(topics: &Value) -> String {
    signed(Algorithm::HS256, SECRET, &json!({"topics": topics, "exp": crate::harness::now_s() + 60}))
}

/// `POST /api/events`.
async fn publish(server: &Server, token: &str, body: &Value) -> Response {
    server.request(reqwest::Method::POST, "/api/events", token).json(body).send().await.expect("an answer")
}

/// The status and the body of an answer.
async fn answer(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

/// One event that is as it should be.
fn one(topic: &str) -> Value {
    json!({"topic": topic, "durable": true, "events": [{"name": "user.created", "data": {"n": 1}}]})
}
