//! API keys: made, used on every door, changed and revoked while connections are open.

use crate::harness::{Server, Sse, code};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::path::Path;

impl Server {
    async fn send(&self, method: Method, path: &str, token: &str, body: Value) -> Response {
        self.request(method, path, token).json(&body).send().await.expect("an answer")
    }

    /// Creates an API key; the answer has its secret and token.
    pub async fn api_key(&self, key: Value) -> Value {
        let response = self.send(Method::POST, "/v1/keys", &self.admin, key).await;
        assert_eq!(response.status(), 201);
        response.json().await.expect("JSON")
    }

    async fn ask_as(&self, method: Method, path: &str, token: &str) -> Response {
        self.request(method, path, token).send().await.expect("an answer")
    }
}

/// `path` of a key.
fn at(key: &Value, rest: &str) -> String {
    format!("/v1/keys/{}{rest}", key["id"].as_str().unwrap())
}

fn token(key: &Value) -> &str {
    key["token"].as_str().unwrap()
}

/// Whether a file in `dir` or below has `bytes` in it.
fn contains(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return contains(&path, bytes);
        }
        std::fs::read(path).unwrap().windows(bytes.len()).any(|part| part == bytes)
    })
}

#[tokio::test]
async fn a_key_publishes_to_its_topics_only_and_its_secret_is_shown_once() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let key = server.api_key(json!({"name": "shop", "kind": "producer", "publish": ["users:123"]})).await;
    assert_eq!(server.post("users:123", token(&key), r#"{"data":1}"#).await.status(), 201);
    for other in ["users", "users:4", "orders"] {
        assert_eq!(
            code(server.post(other, token(&key), r#"{"data":1}"#).await).await,
            (403, "forbidden".into())
        );
    }
    let read = server.ask_as(Method::GET, "/v1/topics/users/events", token(&key)).await;
    assert_eq!(read.status(), 403, "a producer reads nothing");
    for path in ["/v1/keys", "/v1/users"] {
        assert_eq!(server.ask_as(Method::GET, path, token(&key)).await.status(), 403);
    }
    let shown = server.json(&at(&key, "")).await;
    assert!(shown.get("secret").is_none() && shown.get("token").is_none());
    assert_eq!((&shown["kind"], &shown["status"]), (&json!("producer"), &json!("active")));
    server.crash_and_restart().await;
    assert_eq!(server.post("users:123", token(&key), r#"{"data":1}"#).await.status(), 201);
    assert_eq!(server.json("/v1/keys").await["keys"].as_array().unwrap().len(), 1);
    let is_on_disk = |text: &Value| contains(&server.data(), text.as_str().unwrap().as_bytes());
    assert!(is_on_disk(&key["id"]) && !is_on_disk(&key["secret"]), "the key is stored, its secret is not");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_also_right_after_the_right_one() {
    let server = Server::start().await;
    let key = server.api_key(json!({"name": "shop", "kind": "admin"})).await;
    let encode = |secret: &str| {
        use base64::Engine as _;
        let text = format!("{}:{secret}", key["key"].as_str().unwrap());
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    assert_eq!(encode(key["secret"].as_str().unwrap()), token(&key));
    let list = |token: String| {
        let server = &server;
        async move { server.ask_as(Method::GET, "/v1/keys", &token).await }
    };
    assert_eq!(list(token(&key).to_owned()).await.status(), 200);
    for wrong in ["", "x", &"A".repeat(43)] {
        assert_eq!(code(list(encode(wrong)).await).await, (401, "token_invalid".into()));
    }
    assert_eq!(list(token(&key).to_owned()).await.status(), 200);
}

#[tokio::test]
async fn a_change_counts_on_open_streams_and_revoking_ends_them() {
    let server = Server::start().await;
    let key = json!({"name": "reader", "kind": "consumer", "subscribe": ["a", "b"]});
    let key = server.api_key(key).await;
    let sse = |topic: &str| {
        let path = format!("/v1/topics/{topic}/events");
        let server = &server;
        let token = token(&key).to_owned();
        async move { Sse::open(server, &path, &token, None).await }
    };
    let (mut a, mut b, mut ws) = (sse("a").await, sse("b").await, server.ws(token(&key)).await);
    ws.subscribe("a", "latest").await;
    for topic in ["a", "b"] {
        server.publish(topic, &[json!(1)]).await;
    }
    assert_eq!((&a.event().await["data"], &b.event().await["data"]), (&json!(1), &json!(1)));
    assert_eq!(ws.event().await["data"], 1);

    let patch = json!({"subscribe": ["a"]});
    let patched = server.send(Method::PATCH, &at(&key, ""), &server.admin, patch).await;
    assert_eq!(patched.status(), 200);
    assert_eq!(b.own("$close").await["code"], "forbidden");
    server.publish("a", &[json!(2)]).await;
    assert_eq!((&a.event().await["data"], &ws.event().await["data"]), (&json!(2), &json!(2)));

    let revoked = server.ask_as(Method::POST, &at(&key, "/revoke"), &server.admin).await;
    assert_eq!(revoked.json::<Value>().await.unwrap()["status"], "revoked");
    assert_eq!(a.own("$close").await["code"], "token_revoked");
    assert_eq!(ws.op("close").await["code"], "token_revoked");
    assert_eq!(ws.end().await, (4401, "token_revoked".into()));
    let again = server.ask_as(Method::POST, &at(&key, "/revoke"), &server.admin).await;
    assert_eq!(code(again).await, (409, "key_revoked".into()));
    let late = server.ask_as(Method::GET, "/v1/topics/a/events", token(&key)).await;
    assert_eq!(code(late).await, (401, "token_revoked".into()));
}

#[tokio::test]
async fn each_kind_takes_what_it_can_use_and_names_are_taken_once() {
    let server = Server::start().await;
    let id = "11111111-2222-3333-4444-555555555555";
    let refused = |key: Value| {
        let server = &server;
        async move { code(server.send(Method::POST, "/v1/keys", &server.admin, key).await).await }
    };
    for (kind, what, value) in [
        ("producer", "subscribe", json!(["a"])),
        ("producer", "destinations", json!([id])),
        ("consumer", "publish", json!(["a"])),
        ("admin", "publish", json!(["a"])),
    ] {
        let answer = refused(json!({"name": "n", "kind": kind, what: value})).await;
        assert_eq!(answer, (409, "key_kind".into()), "{kind} {what}");
    }
    let unknown = json!({"name": "n", "kind": "consumer", "destinations": [id]});
    assert_eq!(refused(unknown).await, (404, "destination_unknown".into()));
    assert_eq!(code(server.get(&format!("/v1/keys/{id}")).await).await, (404, "key_unknown".into()));
    let queue = json!({"name": "queue", "kind": "queue", "topic": "a"});
    let made = server.send(Method::POST, "/v1/destinations", &server.admin, queue).await;
    let id = made.json::<Value>().await.expect("JSON")["id"].clone();
    server
        .api_key(json!({"name": "n", "kind": "producer_consumer", "publish": ["*"], "destinations": [id]}))
        .await;
    assert_eq!(refused(json!({"name": "n", "kind": "admin"})).await, (409, "key_name_taken".into()));
    assert_eq!(refused(json!({"name": " ", "kind": "admin"})).await, (400, "parameter_invalid".into()));
    assert_eq!(refused(json!({"name": "m", "kind": "root"})).await, (400, "parameter_invalid".into()));
    assert_eq!(server.json("/v1/keys?name=n").await["keys"][0]["destinations"], json!([id]));
}

#[tokio::test]
async fn a_consumer_takes_from_its_own_destinations_and_reads_what_flows_into_them() {
    let server = Server::start().await;
    let mut queues = Vec::new();
    for name in ["own", "other"] {
        let queue = json!({"name": name, "kind": "queue", "topic": "jobs:1", "from": "earliest"});
        let made = server.send(Method::POST, "/v1/destinations", &server.admin, queue).await;
        let made: Value = made.json().await.expect("JSON");
        queues.push(format!("/v1/destinations/{}", made["id"].as_str().unwrap()));
    }
    let id = queues[0].rsplit('/').next().unwrap();
    let key = server.api_key(json!({"name": "worker", "kind": "consumer", "destinations": [id]})).await;
    server.publish("jobs:1", &[json!(1), json!(2)]).await;
    let pull = |path: &str| {
        let (server, path) = (&server, format!("{path}/pull"));
        let token = token(&key).to_owned();
        async move { server.send(Method::POST, &path, &token, json!({})).await }
    };
    let taken: Value = pull(&queues[0]).await.json().await.unwrap();
    assert_eq!(taken["events"].as_array().unwrap().len(), 2);
    assert_eq!(
        code(pull(&queues[1]).await).await,
        (403, "forbidden".into()),
        "the same topic, another queue"
    );
    let page = |topic: &'static str| {
        let (server, token) = (&server, token(&key).to_owned());
        async move {
            server.ask_as(Method::GET, &format!("/v1/topics/{topic}/events"), &token).await.status().as_u16()
        }
    };
    assert_eq!((page("jobs:1").await, page("jobs").await, page("jobs:2").await), (200, 403, 403));
    assert_eq!(server.post("jobs:1", token(&key), r#"{"data":1}"#).await.status(), 403);
    let mut live = Sse::open(&server, "/v1/topics/jobs:1/events", token(&key), None).await;
    server.publish("jobs:1", &[json!(3)]).await;
    assert_eq!(live.event().await["data"], 3);
    assert_eq!(server.ask_as(Method::DELETE, &queues[0], &server.admin).await.status(), 204);
    assert_eq!(live.own("$close").await["code"], "forbidden", "the grant went with the destination");
    assert_eq!(page("jobs:1").await, 403);
}

#[tokio::test]
async fn keys_are_managed_from_the_command_line() {
    let server = Server::start().await;
    let added = server.cli(&["keys", "add", "app", "--kind", "producer", "--publish", "a"], b"").await.ok();
    let token = added.trim();
    assert_eq!(server.post("a", token, r#"{"data":1}"#).await.status(), 201);
    server.cli(&["keys", "grant", "app", "--publish", "b"], b"").await.ok();
    assert_eq!(server.post("a", token, r#"{"data":1}"#).await.status(), 403);
    assert_eq!(server.post("b", token, r#"{"data":1}"#).await.status(), 201);
    let listed = server.cli(&["keys", "list"], b"").await.ok();
    assert!(listed.contains("app") && listed.contains("producer") && listed.contains("active"), "{listed}");
    server.cli(&["keys", "revoke", "app"], b"").await.ok();
    assert_eq!(server.post("b", token, r#"{"data":1}"#).await.status(), 401);
    server.cli(&["keys", "remove", "app"], b"").await.ok();
    assert_eq!(server.cli(&["keys", "list", "--json"], b"").await.ok().trim(), "");
}
