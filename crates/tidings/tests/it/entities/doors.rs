//! Entities over the doors of this server's own, and from its own log.

use super::{ITEMS, server};
use crate::harness::entities::{App, Es, changed, metric};
use crate::harness::{Sse, Ws, code, until};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_websocket_gets_the_state_first_and_then_every_change() {
    let app = App::start().await;
    app.set("/items/1", &[json!({"n": 0}), json!("second row")]);
    let (server, _dir) = server(ITEMS, &app).await;
    let token = server.token(&["--subscribe", "items"]).await;
    let mut ws = Ws::open(&server, Some(&token)).await;
    ws.send(json!({"op": "secret", "ref": "1", "secret": "s"})).await;
    assert_eq!(ws.op("accepted").await["ref"], "1");
    ws.send(json!({"op": "subscribe", "ref": "2", "entity": "items", "id": "1"})).await;
    let subscribed = ws.op("subscribed").await;
    assert_eq!((&subscribed["entity"], &subscribed["id"]), (&json!("items"), &json!("1")));
    let rows = ws.op("rows").await;
    assert_eq!(rows, json!({"op": "rows", "entity": "items", "id": "1", "rows": [{"n": 0}, "second row"]}));
    assert_eq!(app.asked(), [("/items/1".to_owned(), "s".to_owned())]);
    app.set("/items/1", &[]);
    changed(&server, "items", "1").await;
    assert_eq!(ws.op("rows").await["rows"], json!([]));

    for (op, code) in [
        (json!({"op": "subscribe", "entity": "users", "id": "1"}), "forbidden"),
        (json!({"op": "unsubscribe", "entity": "items", "id": "2"}), "subscription_unknown"),
        (json!({"op": "subscribe", "entity": "items", "id": ""}), "topic_invalid"),
    ] {
        ws.send(op).await;
        assert_eq!(ws.op("error").await["code"], code);
    }
    // Trouble is told, and the rows come once they can be had.
    app.fail(true);
    changed(&server, "items", "1").await;
    let error = ws.op("error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("resolver_failed"), &json!("1")));
    app.fail(false);
    while ws.next().await.expect("it goes on")["op"] != "rows" {}
    ws.send(json!({"op": "unsubscribe", "entity": "items", "id": "1"})).await;
    ws.op("unsubscribed").await;
}

#[tokio::test]
async fn a_renewed_token_that_grants_less_ends_its_entities() {
    let app = App::start().await;
    app.set("/items/1", &[json!(1)]);
    let (server, _dir) = server(ITEMS, &app).await;
    let token = server.token(&["--subscribe", "items"]).await;
    let mut ws = Ws::open(&server, Some(&token)).await;
    ws.send(json!({"op": "subscribe", "entity": "items", "id": "1"})).await;
    ws.op("rows").await;
    let less = server.token(&["--subscribe", "users"]).await;
    ws.send(json!({"op": "auth", "token": less})).await;
    ws.op("authenticated").await;
    let error = ws.op("error").await;
    assert!(error["message"].as_str().unwrap().contains("items:1"), "{error}");
    crate::harness::entities::subscriptions(&server, "items", 0).await;
}

#[tokio::test]
async fn http_gives_the_rows_once_or_as_a_stream() {
    let app = App::start().await;
    app.set("/items/1", &[json!(1)]);
    let (server, _dir) = server(ITEMS, &app).await;
    let reader = server.token(&["--subscribe", "items"]).await;
    let get = |path: &str, token: &str| server.request(Method::GET, path, token).send();
    let answer = get("/v1/entities/items/1", &reader).await.unwrap();
    let json: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(json, json!({"entity": "items", "id": "1", "rows": [1]}));
    let mut stream = Sse::open(&server, "/v1/entities/items/1", &reader, None).await;
    assert_eq!(stream.own("rows").await["rows"], json!([1]));
    app.set("/items/1", &[json!(2), json!(3)]);
    changed(&server, "items", "1").await;
    assert_eq!(stream.own("rows").await["rows"], json!([2, 3]));

    let publisher = server.token(&["--publish", "items"]).await;
    for (path, token, expected) in [
        ("/v1/entities/items/1", publisher.clone(), (403, "forbidden")),
        ("/v1/entities/nothing/1", server.admin.clone(), (404, "entity_unknown")),
        ("/v1/entities/it%3Aems/1", server.admin.clone(), (400, "topic_invalid")),
    ] {
        let (status, word) = code(get(path, &token).await.unwrap()).await;
        assert_eq!((status, word.as_str()), expected, "{path}");
    }
    app.only("somebody");
    let (status, word) = code(get("/v1/entities/items/1", &reader).await.unwrap()).await;
    assert_eq!((status, word.as_str()), (403, "forbidden"));
    app.fail(true);
    let (status, word) = code(get("/v1/entities/items/1", &reader).await.unwrap()).await;
    assert_eq!((status, word.as_str()), (502, "resolver_failed"));
    app.fail(false);

    let post = |token: String| server.request(Method::POST, "/v1/entities/items/1/changed", &token).send();
    assert_eq!(code(post(reader.clone()).await.unwrap()).await, (403, "forbidden".into()));
    assert_eq!(post(publisher).await.unwrap().status(), 204);
    let tokenless = server.http.post(server.url("/v1/entities/items/1/changed")).send().await.unwrap();
    assert_eq!(code(tokenless).await, (401, "token_missing".into()));
}

#[tokio::test]
async fn an_entity_may_be_the_newest_event_of_a_topic() {
    let app = App::start().await;
    let settings = r#"
[entities.orders]
topic = "orders"
[entities.items]
http = "APP/items/{id}"
topic = "item-changes"
"#;
    let (server, _dir) = server(settings, &app).await;
    let mut client = Es::open(&server, "?state=1&ack=1").await;
    client.subscribe("orders", "17").await;
    client.subscribe("items", "5").await;
    client.json().await;
    client.json().await;
    server.publish("orders:17", &[json!({"state": "placed"})]).await;
    assert_eq!(client.frame().await, r#"{"state":"placed"}"#);
    app.set("/items/5", &[json!("fresh")]);
    server.publish("item-changes:5", &[json!("whatever")]).await;
    assert_eq!(client.frame().await, "\"fresh\"", "an event says that something has changed");
    let mut late = Es::open(&server, "?state=1").await;
    late.subscribe("orders", "17").await;
    assert_eq!(late.frame().await, r#"{"state":"placed"}"#);
    // A topic of an entity's name is another thing than the entity.
    assert_eq!(metric(&server, "tidings_entity_subscriptions{entity=\"orders\"}").await, 2);
    let mut other = Es::open(&server, "?errors=1").await;
    other.subscribe("item-changes", "5").await;
    assert_eq!(other.json().await["body"]["code"], "entity_unknown");
}

#[tokio::test]
async fn a_queue_out_of_reach_is_told_and_this_servers_readers_go_on() {
    let app = App::start().await;
    app.set("/items/1", &[json!(1)]);
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, ITEMS.replace("APP", &app.url(""))).unwrap();
    let bus = format!("nats://127.0.0.1:{port}");
    let args = ["--config", path.to_str().unwrap(), "--bus", &bus];
    let server = crate::harness::Server::start_unready(&args).await;
    let ready = server.http.get(server.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("bus_unavailable"));
    let mut client = Es::open(&server, "?ack=1").await;
    client.subscribe("items", "1").await;
    client.json().await;
    let path = "/v1/entities/items/1/changed";
    let answer = server.request(Method::POST, path, &server.admin).send().await.unwrap();
    assert_eq!(code(answer).await, (503, "bus_unavailable".into()));
    assert_eq!(client.frame().await, "1");
    until("it to be counted", || async { metric(&server, "tidings_bus_lost").await == 1 }).await;
}
