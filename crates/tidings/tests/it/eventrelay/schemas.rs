//! JSON Schemas: a topic's own, and those that events carry.

use crate::harness::{Server, code};
use reqwest::{Method, Response};
use serde_json::{Value, json};

async fn set(server: &Server, topic: &str, settings: Value) -> Response {
    let request = server.request(Method::PUT, &format!("/v1/topics/{topic}"), &server.admin);
    request.json(&settings).send().await.expect("an answer")
}

async fn publish(server: &Server, topic: &str, event: Value) -> Response {
    server.post(topic, &server.admin, event.to_string()).await
}

#[tokio::test]
async fn a_topics_schemas_hold_at_every_door_and_after_a_restart() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let person = json!({
        "type": "object", "required": ["email"],
        "properties": {"email": {"type": "string", "maxLength": 20}},
    });
    let settings = json!({"schemas": {"user.created": person, "*": {"type": "integer"}}});
    assert_eq!(set(&server, "users", settings.clone()).await.status(), 200);
    assert_eq!(server.json("/v1/topics/users").await["settings"]["schemas"], settings["schemas"]);
    for _ in 0..2 {
        let right = json!({"name": "user.created", "data": {"email": "ada@example.com"}});
        assert_eq!(publish(&server, "users", right).await.status(), 201);
        assert_eq!(publish(&server, "users", json!({"name": "other", "data": 7})).await.status(), 201);
        let wrong = publish(&server, "users", json!({"name": "user.created", "data": {"email": 7}})).await;
        let problem: Value = wrong.json().await.unwrap();
        assert_eq!(problem["code"], "schema_violated");
        assert!(problem["detail"].as_str().unwrap().contains("/email: 7 is not of type"), "{problem}");
        server.crash_and_restart().await;
    }

    let batch = json!([{"name": "n", "data": 1}, {"name": "n", "data": "x"}]);
    let refused: Value = server.post("users", &server.admin, batch.to_string()).await.json().await.unwrap();
    assert_eq!((&refused["code"], &refused["index"]), (&json!("schema_violated"), &json!(1)));
    let lines = server.request(Method::POST, "/v1/topics/users/events", &server.admin);
    let lines = lines.header("content-type", "application/x-ndjson").body("{\"data\":1}\n{\"data\":\"x\"}\n");
    let refused: Value = lines.send().await.unwrap().json().await.unwrap();
    assert_eq!((&refused["line"], &refused["accepted"]), (&json!(2), &json!(1)), "{refused}");
    let mut ws = server.ws(&server.admin).await;
    ws.send(json!({"op": "publish", "ref": "1", "topic": "users", "event": {"data": "x"}})).await;
    assert_eq!(ws.op("error").await["code"], "schema_violated");

    let stored = server.read_all("users").await.len();
    assert_eq!(stored, 5, "nothing else was stored");
    assert_eq!(set(&server, "users", json!({"state": false})).await.status(), 200);
    let refused = publish(&server, "users", json!({"data": "x"})).await;
    assert_eq!(code(refused).await.1, "schema_violated", "what a setting does not mention stays");
    assert_eq!(set(&server, "users", json!({"schemas": {}})).await.status(), 200);
    assert_eq!(publish(&server, "users", json!({"data": "x"})).await.status(), 201);
}

#[tokio::test]
async fn an_event_may_carry_the_schema_of_its_data() {
    let server = Server::start().await;
    let event = |data: Value| json!({"data": data, "data_schema": r#"{"properties":{"n":{"minimum":10}}}"#});
    let receipt = publish(&server, "a", event(json!({"n": 10}))).await;
    assert_eq!(receipt.status(), 201);
    assert_eq!(server.read_all("a").await[0]["data_schema"], event(json!(1))["data_schema"]);
    let refused = publish(&server, "a", event(json!({"n": 9}))).await;
    assert_eq!(code(refused).await, (400, "schema_violated".into()));
    for (name, schema) in [
        ("no JSON", "{"),
        ("no schema", r#"{"type":"no such type"}"#),
        ("elsewhere", r#"{"$ref":"https://example.com/schema.json"}"#),
        ("a file", r#"{"$ref":"file:///etc/passwd"}"#),
        ("a circle", r##"{"$ref":"#"}"##),
    ] {
        let refused = publish(&server, "a", json!({"data": 1, "data_schema": schema})).await;
        assert_eq!(code(refused).await, (400, "schema_invalid".into()), "{name}");
    }
    let deep = format!("{}true{}", "{\"not\":".repeat(10_000), "}".repeat(10_000));
    let refused = publish(&server, "a", json!({"data": 1, "data_schema": deep})).await;
    assert_eq!(code(refused).await.1, "schema_invalid");
    server.assert_unaffected("b").await;
}

#[tokio::test]
async fn a_schema_that_is_none_is_not_set() {
    let server = Server::start().await;
    for schema in [json!({"type": 7}), json!({"$ref": "#/nowhere"}), json!({"pattern": "(a)\\1"}), json!(7)] {
        let refused = set(&server, "a", json!({"schemas": {"n": schema}})).await;
        assert_eq!(code(refused).await, (400, "schema_invalid".into()), "{schema}");
    }
    assert_eq!(publish(&server, "a", json!({"name": "n", "data": 1})).await.status(), 201);
}
