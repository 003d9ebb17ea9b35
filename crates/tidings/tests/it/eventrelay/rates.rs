//! How often one caller may call.

use super::{answer, one, publish};
use crate::harness::{Server, code, until};
use serde_json::json;

async fn start(settings: &str) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, format!("[rates]\n{settings}")).unwrap();
    (Server::start_with(&["--config", path.to_str().unwrap()]).await, dir)
}

#[tokio::test]
async fn calls_too_many_are_refused_for_that_caller_until_time_has_passed() {
    let (server, _dir) = start("relay_publish = \"3/12s\"").await;
    let ann = server.token(&["--topics", "users", "--sub", "ann"]).await;
    let bob = server.token(&["--topics", "users", "--sub", "bob"]).await;
    for _ in 0..3 {
        assert_eq!(publish(&server, &ann, &one("users")).await.status(), 201);
    }
    let refused = publish(&server, &ann, &one("users")).await;
    let wait: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    let text = "Rate limit exceeded for publish_events at 3 requests per 12 second(s)";
    assert_eq!(answer(refused).await, (429, json!({"errors": [text]})));
    assert_eq!(publish(&server, &bob, &one("users")).await.status(), 201);
    assert_eq!(server.post("users", &ann, r#"{"data":1}"#).await.status(), 201, "/v1 has no bound");
    let (server, ann) = (&server, &ann);
    until("a call comes back after a third of the window", || async move {
        publish(server, ann, &one("users")).await.status() == 201
    })
    .await;
}

#[tokio::test]
async fn the_native_interface_has_bounds_where_they_are_set() {
    let (server, _dir) = start("publish = \"2/60s\"\nother = \"4/60s\"").await;
    let ann = server.token(&["--topics", "a", "--sub", "ann"]).await;
    for _ in 0..2 {
        assert_eq!(server.post("a", &ann, r#"{"data":1}"#).await.status(), 201);
    }
    assert_eq!(code(server.post("a", &ann, r#"{"data":1}"#).await).await, (429, "rate_limited".into()));
    let mut ws = server.ws(&ann).await;
    ws.send(json!({"op": "publish", "ref": "1", "topic": "a", "event": {"data": 1}})).await;
    assert_eq!(ws.op("error").await["code"], "rate_limited");
    for expected in [200, 200, 200, 200, 429] {
        let page = server.request(reqwest::Method::GET, "/v1/topics/a/events", &ann).send().await.unwrap();
        assert_eq!(page.status(), expected);
    }
    assert_eq!(publish(&server, &ann, &one("a")).await.status(), 201, "EventRelay's have their own");
}

#[tokio::test]
async fn a_rate_that_is_none_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tidings.toml"), "[rates]\npublish = \"5/m\"\n").unwrap();
    let program = crate::harness::Program::new();
    let said = program.run(dir.path(), &["serve", "--port", "0"], b"").await.fails(2);
    assert!(said.contains("tidings.toml, line 2") && said.contains("a rate is"), "{said}");
}
