//! Channels of websocket destinations.

use super::client::Node;
use crate::harness::Server;
use reqwest::Method;
use serde_json::{Value, json};

/// A destination's id.
async fn destination(server: &Server, name: &str, more: Value) -> String {
    let mut fields = json!({"name": name, "kind": "websocket", "topic": "users:123"});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.destination(fields).await.rsplit('/').next().unwrap().to_owned()
}

async fn change(server: &Server, id: &str, patch: Value) {
    server.call(Method::PATCH, &format!("/v1/destinations/{id}"), patch).await;
}

#[tokio::test]
async fn a_destination_lets_through_what_is_its_own_to_who_may_have_it() {
    let server = Server::start().await;
    let open = destination(&server, "open", json!({})).await;
    let some = destination(&server, "some", json!({"filter": "data.n > 1"})).await;
    let queue = server.destination(json!({"name": "queue", "kind": "queue", "topic": "users:123"})).await;
    let key = json!({"name": "reader", "kind": "consumer", "destinations": [some]});
    let key = server.api_key(key).await;
    let mut node = Node::start();
    let (admin, key) = (server.admin.clone(), key["token"].as_str().unwrap().to_owned());
    let mine = server.token(&["--topics", "users:123"]).await;
    let other = server.token(&["--topics", "users:124"]).await;
    for (socket, version, id, token) in
        [("a", 1, &open, &admin), ("k", 2, &some, &key), ("m", 2, &some, &mine)]
    {
        node.connect(&server, socket, version).await;
        node.join(socket, &format!("events:{id}"), token).await;
    }
    let unauthorized = json!({"reason": "unauthorized"});
    let unknown = "04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c";
    let queue = queue.rsplit('/').next().unwrap();
    for (id, token) in [(&*open, &other), (&*open, &key), (unknown, &admin), (queue, &admin)] {
        let refused = node.refused("m", &format!("events:{id}"), json!({"token": token})).await;
        assert_eq!(refused, unauthorized, "{id}");
    }
    for (topic, data) in [("users:124", 5), ("users", 5), ("users:123", 1), ("users:123", 2)] {
        server.publish(topic, &[json!({"n": data})]).await;
    }
    assert_eq!(node.event("a").await.1["data"]["n"], 1);
    for socket in ["a", "k", "m"] {
        let (channel, event) = node.event(socket).await;
        assert_eq!((&event["data"]["n"], channel.starts_with("events:")), (&json!(2), true), "{socket}");
    }
}

#[tokio::test]
async fn a_change_of_a_destination_counts_at_once() {
    let server = Server::start().await;
    let id = destination(&server, "live", json!({})).await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    let (topic, path) = (format!("events:{id}"), format!("/v1/destinations/{id}"));
    node.join("s", &topic, &server.admin).await;
    server.publish("users:123", &[json!({"n": 1})]).await;
    assert_eq!(node.event("s").await.1["data"]["n"], 1);
    // What comes while it is paused is not pushed, now or later. The channel takes the change in by itself; asking
    // something through it shows that it has.
    server.call(Method::POST, &format!("{path}/pause"), json!({})).await;
    node.push("s", &topic, "nothing", json!({})).await;
    server.publish("users:123", &[json!({"n": 2})]).await;
    server.call(Method::POST, &format!("{path}/resume"), json!({})).await;
    node.push("s", &topic, "nothing", json!({})).await;
    server.publish("users:123", &[json!({"n": 3})]).await;
    assert_eq!(node.event("s").await.1["data"]["n"], 3);
    change(&server, &id, json!({"filter": "data.n > 4"})).await;
    node.push("s", &topic, "nothing", json!({})).await;
    server.publish("users:123", &[json!({"n": 4}), json!({"n": 5})]).await;
    assert_eq!(node.event("s").await.1["data"]["n"], 5);
    let gone = server.request(Method::DELETE, &path, &server.admin).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let close = node.hear("close", "s").await;
    assert_eq!(close["payload"]["reason"], "destination_unknown");
}
