//! Inbound webhooks: who is admitted, and what becomes of what they send.

use crate::harness::{Server, code, now_s};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

impl Server {
    /// Adds an inbound webhook; the answer has its secret.
    async fn inbound(&self, new: Value) -> Value {
        let request = self.request(Method::POST, "/v1/inbound", &self.admin).json(&new);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 201);
        response.json().await.expect("JSON")
    }

    fn sends(&self, inbound: &Value, body: &str) -> RequestBuilder {
        let url = self.url(inbound["path"].as_str().unwrap());
        self.http.post(url).header("content-type", "application/json").body(body.to_owned())
    }

    async fn sends_as(&self, inbound: &Value, secret: &str, body: &str) -> Response {
        let request = self.sends(inbound, body).basic_auth(inbound["key"].as_str().unwrap(), Some(secret));
        request.send().await.expect("an answer")
    }

    /// Signs as Standard Webhooks has it.
    async fn signs(&self, inbound: &Value, secret: &str, (id, at): (&str, u64), body: &str) -> Response {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let tag = aws_lc_rs::hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(tag));
        let request = self.sends(inbound, body).header("webhook-id", id).header("webhook-timestamp", at);
        request.header("webhook-signature", signature).send().await.expect("an answer")
    }
}

async fn is_ok(response: Response) {
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(response.text().await.unwrap(), "OK");
}

#[tokio::test]
async fn who_knows_key_and_password_posts_events_and_nobody_else() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let named = json!({"name": "shop", "topic": "orders:7", "event_name": "order.paid"});
    let (named, plain) =
        (server.inbound(named).await, server.inbound(json!({"name": "any", "topic": "orders"})).await);
    let (secret, other) = (named["secret"].as_str().unwrap(), plain["secret"].as_str().unwrap());
    let body = "{ \"total\" : 1.0, \"id\":7 }";
    is_ok(server.sends_as(&named, secret, body).await).await;
    is_ok(server.sends_as(&plain, other, "[1, 2]").await).await;
    let all = server.read_all("orders").await;
    assert_eq!(
        (&all[0]["name"], &all[0]["topic"], &all[0]["data"]["id"]),
        (&json!("order.paid"), &json!("orders:7"), &json!(7))
    );
    assert_eq!((&all[0]["verified"], &all[0]["source"]), (&json!(false), &json!("shop")));
    assert_eq!((&all[1]["name"], &all[1]["data"]), (&json!("webhook.inbound"), &json!([1, 2])));
    for (inbound, secret) in [(&named, other), (&plain, secret), (&named, ""), (&named, "x")] {
        let response = server.sends_as(inbound, secret, body).await;
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
        let status = response.status();
        let refused: Value = response.json().await.unwrap();
        assert_eq!((status.as_u16(), &refused["errors"]), (401, &json!(["Unauthorized"])));
    }
    for path in ["/webhooks/ingest/04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c", "/webhooks/ingest/x"] {
        let nowhere = json!({"path": path, "key": named["key"]});
        let refused = server.sends_as(&nowhere, secret, body).await;
        assert_eq!(code(refused).await, (401, "credentials_invalid".into()));
    }
    assert_eq!(code(server.sends(&named, body).send().await.unwrap()).await.0, 401);
    assert_eq!(code(server.sends_as(&named, secret, "{").await).await, (400, "json_invalid".into()));
    let large = format!("\"{}\"", "x".repeat((1 << 20) + 1));
    assert_eq!(code(server.sends_as(&named, secret, &large).await).await.0, 413);
    // They are there after a crash; a sender that repeats a message's id is answered and not stored twice.
    server.crash_and_restart().await;
    for _ in 0..2 {
        let request = server.sends(&plain, "3").header("webhook-id", "m1");
        let request = request.basic_auth(plain["key"].as_str().unwrap(), Some(other));
        is_ok(request.send().await.unwrap()).await;
    }
    assert_eq!(server.read_all("orders").await.len(), 3);
    // The password lies nowhere, not even in the data directory.
    let log = std::fs::read(server.data().join("segments/0000000001.log")).unwrap();
    let holds = |text: &str| log.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds(named["key"].as_str().unwrap()) && !holds(secret));
}

#[tokio::test]
async fn a_signature_over_the_bytes_as_they_came_is_verified() {
    let server = Server::start().await;
    let inbound =
        server.inbound(json!({"name": "pay", "topic": "payments", "kind": "standard_webhook"})).await;
    let secret = inbound["signing_secret"].as_str().unwrap().to_owned();
    assert!(inbound.get("secret").is_none());
    let body = r#"{ "type":"invoice.paid", "timestamp":"2026-01-02T03:04:05.000Z", "data":{"x" : 1e2} }"#;
    let now = now_s();
    is_ok(server.signs(&inbound, &secret, ("msg_1", now), body).await).await;
    // Sent again, within the time and with the same id: the same event.
    is_ok(server.signs(&inbound, &secret, ("msg_1", now + 1), body).await).await;
    let all = server.read_all("payments").await;
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["name"], &all[0]["verified"]), (&json!("invoice.paid"), &json!(true)));
    assert_eq!(
        (&all[0]["data"]["x"], &all[0]["occurred_at"]),
        (&json!(100.0), &json!("2026-01-02T03:04:05.000Z"))
    );
    let wrong = format!("whsec_{}", STANDARD.encode([7; 32]));
    for (secret, at) in [(&wrong, now), (&secret, now - 301), (&secret, now + 320)] {
        let refused = server.signs(&inbound, secret, ("msg_2", at), body).await;
        assert_eq!(code(refused).await, (401, "credentials_invalid".into()));
    }
    let bare = server.sends(&inbound, body).send().await.unwrap();
    assert_eq!(code(bare).await.0, 401);
    // New secrets: the old one counts no longer.
    let path = format!("/v1/inbound/{}/rotate", inbound["id"].as_str().unwrap());
    let rotated: Value =
        server.request(Method::POST, &path, &server.admin).send().await.unwrap().json().await.unwrap();
    assert_eq!(server.signs(&inbound, &secret, ("msg_3", now), body).await.status(), 401);
    let fresh = rotated["signing_secret"].as_str().unwrap();
    is_ok(server.signs(&inbound, fresh, ("msg_3", now), body).await).await;
    assert_eq!(server.read_all("payments").await.len(), 2);
}

#[tokio::test]
async fn admins_keep_inbound_webhooks_over_http_and_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, "[inbound]\nmax = 2\nburst = 3\nper_minute = 1\n").unwrap();
    let server = Server::start_with(&["--config", path.to_str().unwrap()]).await;
    let user = server.token(&["--topics", "*"]).await;
    let ask =
        |method, path: String, body: Value| server.request(method, &path, &server.admin).json(&body).send();
    let refused =
        server.request(Method::POST, "/v1/inbound", &user).json(&json!({"name": "a", "topic": "t"}));
    assert_eq!(code(refused.send().await.unwrap()).await, (403, "forbidden".into()));
    for (bad, expected) in [
        (json!({"name": "", "topic": "t"}), "parameter_invalid"),
        (json!({"name": "a", "topic": "*"}), "topic_invalid"),
        (json!({"name": "a", "topic": "$schedule"}), "forbidden"),
        (json!({"name": "a", "topic": "t", "event_name": "$x"}), "parameter_invalid"),
        (json!({"name": "a", "topic": "t", "secret": "short"}), "parameter_invalid"),
        (json!({"name": "a", "topic": "t", "signing_secret": "whsec_AAAA"}), "parameter_invalid"),
        (json!({"name": "a", "topic": "t", "kind": "other"}), "parameter_invalid"),
    ] {
        let answer = ask(Method::POST, "/v1/inbound".into(), bad.clone()).await.unwrap();
        assert_eq!(code(answer).await.1, expected, "{bad}");
    }
    let added = server.cli(&["inbound", "add", "shop", "--topic", "t:1"], b"").await.ok();
    let first: Value = serde_json::from_str(&added).unwrap();
    let own = "a secret of one's own, long enough".replace(' ', "-");
    let given = json!({"name": "b", "topic": "t", "key": "from-before", "secret": own});
    let second = server.inbound(given).await;
    assert_eq!((&second["key"], &second["secret"]), (&json!("from-before"), &json!(own)));
    let full = ask(Method::POST, "/v1/inbound".into(), json!({"name": "c", "topic": "t"})).await.unwrap();
    assert_eq!(code(full).await, (507, "inbound_full".into()));
    let listed = server.cli(&["inbound", "list"], b"").await.ok();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((listed.len(), &listed[0]["id"], listed[0].get("secret")), (2, &first["id"], None));
    let at = format!("/v1/inbound/{}", second["id"].as_str().unwrap());
    let patch = json!({"topic": "elsewhere", "event_name": "seen"});
    let patched: Value = ask(Method::PATCH, at.clone(), patch).await.unwrap().json().await.unwrap();
    assert_eq!((&patched["topic"], &patched["name"]), (&json!("elsewhere"), &json!("b")));
    for _ in 0..3 {
        is_ok(server.sends_as(&second, &own, "{}").await).await;
    }
    let paced = server.sends_as(&second, &own, "{}").await;
    assert!(paced.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    assert_eq!(code(paced).await, (429, "rate_limited".into()));
    assert_eq!(server.read_all("elsewhere").await[2]["name"], "seen");
    server.cli(&["inbound", "remove", second["id"].as_str().unwrap()], b"").await.ok();
    let gone = server.request(Method::GET, &at, &server.admin).send().await.unwrap();
    assert_eq!(code(gone).await, (404, "inbound_unknown".into()));
    assert_eq!(server.sends_as(&second, &own, "{}").await.status(), 401);
    let mut secret = first["secret"].clone();
    for which in [&first["id"], &first["name"]] {
        let rotated = server.cli(&["inbound", "rotate", which.as_str().unwrap()], b"").await.ok();
        let rotated: Value = serde_json::from_str(&rotated).unwrap();
        assert!(rotated["id"] == first["id"] && rotated["secret"] != secret, "{rotated}");
        secret = rotated["secret"].clone();
    }
    let nobody = server.cli(&["inbound", "remove", "nobody"], b"").await.fails(1);
    assert!(nobody.contains("inbound_unknown"), "{nobody}");
}
