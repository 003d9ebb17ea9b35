//! Phoenix channels, spoken by Phoenix's own clients and by hand.

mod client;
mod dead;
mod destinations;
mod frames;
mod life;

use crate::harness::{Server, Sse};
use client::Node;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server with these settings, which can be started again.
async fn server(settings: &str) -> (Server, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, settings).expect("a file");
    (Server::start_to_restart(&["--config", path.to_str().expect("text")]).await, dir)
}

/// Everything that may be said of an event, with data as text.
fn full(name: &str, data: &Value) -> Value {
    json!({
        "name": name, "source": "websocket", "data": data.to_string(), "context": {"ip": "::1"},
        "user_key": "u", "anonymous_key": "a", "group_key": "g", "reference_key": "r", "trace_key": "t",
        "prev_id": "p", "occurred_at": "2020-01-01T00:00:00.000Z",
        "data_schema": "{\"type\":\"object\"}",
    })
}

#[tokio::test]
async fn both_clients_join_publish_and_hear_what_is_theirs() {
    let server = Server::start().await;
    let mine = server.token(&["--topics", "users:123"]).await;
    let mut node = Node::start();
    for version in [1, 2] {
        let (socket, data) = (format!("v{version}"), json!({"cart": {"total": version}}));
        let topic = "events:users:123";
        node.connect(&server, &socket, version).await;
        assert_eq!(node.join(&socket, topic, &mine).await, json!({}));
        for other in ["users:1234", "users", "other:123"] {
            server.publish(other, &[json!("not here")]).await;
        }
        let call = json!({"topic": "users:123", "durable": true, "events": [full("user.seen", &data)]});
        let (status, reply) = node.push(&socket, topic, "publish_events", call).await;
        assert_eq!((status.as_str(), &reply["status"]), ("ok", &json!("ok")));
        let (channel, event) = node.event(&socket).await;
        assert_eq!(channel, topic);
        assert_eq!((&event["data"], &event["offset"]), (&data, &reply["events"][0]["offset"]));
        for (name, value) in [
            ("id", reply["events"][0]["id"].clone()),
            ("topic_name", json!("users")),
            ("topic_identifier", json!("123")),
            ("name", json!("user.seen")),
            ("source", json!("websocket")),
            ("user_key", json!("u")),
            ("anonymous_key", json!("a")),
            ("group_key", json!("g")),
            ("reference_key", json!("r")),
            ("trace_key", json!("t")),
            ("prev_id", json!("p")),
            ("context", json!({"ip": "::1"})),
            ("occurred_at", json!("2020-01-01T00:00:00.000Z")),
            ("data_schema", json!({"type": "object"})),
            ("verified", json!(true)),
            ("errors", json!([])),
        ] {
            assert_eq!(event[name], value, "{name}");
        }
        assert!(event["available_at"].is_string());
        // The same event by page.
        let page = server.json("/v1/topics/users:123/events").await;
        let stored = page["events"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&stored["id"], &stored["data"], &stored["group_key"]),
            (&event["id"], &data, &json!("g"))
        );
        // A forbidden topic does not cost the channel.
        for (forbidden, durable) in [("users", true), ("users:9", false), ("$schedule", true)] {
            let call = json!({"topic": forbidden, "durable": durable, "events": [full("n", &data)]});
            let refused = node.push(&socket, topic, "publish_events", call).await;
            assert_eq!(refused, ("error".into(), json!({"reason": "unauthorized"})));
        }
        assert_eq!(node.push(&socket, topic, "dance", json!({})).await.0, "error");
        server.publish("users:123", &[json!(version)]).await;
        assert_eq!(node.event(&socket).await.1["data"], json!(version));
        node.tell(json!({"do": "leave", "socket": socket, "topic": topic})).await;
        node.hear("left", &socket).await;
        server.publish("users:123", &[json!("left")]).await;
        // Back again: only what comes from now on.
        node.join(&socket, topic, &mine).await;
        server.publish("users:123", &[json!("back")]).await;
        assert_eq!(node.event(&socket).await.1["data"], "back");
        node.tell(json!({"do": "disconnect", "socket": socket})).await;
    }
}

#[tokio::test]
async fn a_join_needs_a_token_that_reaches_the_topic() {
    let server = Server::start().await;
    let (mine, writer) =
        (server.token(&["--topics", "users:123"]).await, server.token(&["--publish", "users"]).await);
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    let unauthorized = json!({"reason": "unauthorized"});
    for params in [json!({}), json!({"token": "x"}), json!({"token": writer}), json!({"token": null})] {
        assert_eq!(node.refused("s", "events:users:123", params.clone()).await, unauthorized, "{params}");
    }
    for topic in ["events:users", "events:users:1", "topic:orders:123", "topic:$schedule", "events:$dead"] {
        assert_eq!(node.refused("s", topic, json!({"token": mine})).await, unauthorized, "{topic}");
    }
    for topic in ["room:lobby", "events:", "topic:*", "users:123"] {
        let reason = node.refused("s", topic, json!({"token": mine})).await;
        assert_eq!(reason, json!({"reason": "unmatched topic"}), "{topic}");
    }
    assert_eq!(
        node.refused("s", "events:users:123", json!({"token": mine, "cursor": "x"})).await["code"],
        "parameter_invalid"
    );
    assert_eq!(node.join("s", "topic:users:123", &mine).await, json!({}));
}

#[tokio::test]
async fn two_channels_of_one_socket_each_get_their_own() {
    let server = Server::start().await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    for topic in ["events:users", "events:users:1", "topic:users"] {
        node.join("s", topic, &server.admin).await;
    }
    let filtered = json!({"token": server.admin, "filter": "data.n > 1"});
    node.try_join("s", "topic:users:1", filtered).await;
    node.hear("joined", "s").await;
    server.publish("users:1", &[json!({"n": 1})]).await;
    server.publish("users:1", &[json!({"n": 2})]).await;
    let mut got = Vec::new();
    for _ in 0..7 {
        let (channel, event) = node.event("s").await;
        got.push(format!("{channel} {}", event["data"]["n"]));
    }
    got.sort();
    let expected = [
        "events:users 1",
        "events:users 2",
        "events:users:1 1",
        "events:users:1 2",
        "topic:users 1",
        "topic:users 2",
        "topic:users:1 2",
    ];
    assert_eq!(got, expected);
}

#[tokio::test]
async fn what_is_not_stored_reaches_those_who_are_there_on_every_transport() {
    let server = Server::start().await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    node.join("s", "events:users", &server.admin).await;
    let mut sse = server.sse("users", "").await;
    let mut two = Sse::open(&server, "/v1/stream?topic=users&topic=users:1", &server.admin, None).await;
    let mut ws = server.ws(&server.admin).await;
    ws.subscribe("users:1", "latest").await;
    let data = json!({"x": {"y": [1, 2]}});
    let call = json!({"topic": "users:1", "durable": false, "events": [full("moved", &data)]});
    let (status, reply) = node.push("s", "events:users", "publish_events", call).await;
    assert_eq!((status.as_str(), reply["events"][0].get("offset")), ("ok", None));
    let event = node.event("s").await.1;
    assert_eq!(
        (&event["data"], &event["id"], &event["offset"]),
        (&data, &reply["events"][0]["id"], &Value::Null)
    );
    assert!(event.get("cursor").is_none() && event["durable"] == false);
    for stream in [&mut sse, &mut two] {
        let frame = loop {
            let frame = stream.next().await.unwrap();
            if frame.data.is_some() {
                break frame;
            }
        };
        let event: Value = serde_json::from_str(&frame.data.unwrap()).unwrap();
        assert_eq!((&event["data"], event.get("offset"), frame.id), (&data, None, None));
    }
    let frame = ws.op("event").await;
    assert_eq!((&frame["event"]["data"], frame.get("cursor")), (&data, None));
    // Nothing of it is stored; the first that is has the first offset, and comes once.
    let page = server.get("/v1/topics/users/events").await;
    assert_eq!(page.status(), 404, "a topic came into being");
    server.publish("users:1", &[json!("stored")]).await;
    for event in [node.event("s").await.1, sse.event().await, two.event().await, ws.event().await] {
        assert_eq!((&event["data"], &event["offset"]), (&json!("stored"), &json!(1)));
    }
    assert_eq!(server.read_all("users").await.len(), 1);
}

#[tokio::test]
async fn a_bad_event_does_not_keep_the_good_ones_out() {
    let server = Server::start().await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    node.join("s", "events:users", &server.admin).await;
    let due = "2999-01-01T00:00:00.000Z";
    let events = json!([
        full("first", &json!({"n": 1})),
        {"data": {"n": 2}},
        {"name": "third", "data": "[]"},
        {"name": "later", "data": {}, "available_at": due},
        {"name": "last", "userId": "7", "eventOccurredAt": "nonsense", "data": {}},
        {"eventId": "04f7f9b0-5b9b-11eb-9e8b-0f1f9b4f4a9c", "name": "sixth", "userId": "7", "data": {"n": 6}},
    ]);
    // Left out, `durable` is true.
    let call = json!({"topic": "users", "events": events});
    let (status, reply) = node.push("s", "events:users", "publish_events", call).await;
    assert_eq!((status.as_str(), &reply["status"]), ("ok", &json!("ok")));
    let answers = reply["events"].as_array().unwrap();
    assert_eq!((&answers[0]["offset"], &answers[5]["offset"]), (&json!(1), &json!(2)));
    assert_eq!(answers[1]["errors"], json!(["Name can't be blank"]));
    assert_eq!(answers[2]["errors"], json!(["Data must be a JSON object"]));
    assert_eq!(answers[4]["errors"].as_array().unwrap().len(), 1);
    assert!(answers[3].get("offset").is_none(), "an event for later is not there yet");
    assert_eq!(node.event("s").await.1["name"], "first");
    let event = node.event("s").await.1;
    assert_eq!((&event["eventId"], &event["userId"]), (&answers[5]["id"], &json!("7")));
    for call in [json!({"topic": "users"}), json!({"topic": "", "events": []}), json!([])] {
        let (status, reply) = node.push("s", "events:users", "publish_events", call).await;
        assert!(status == "error" && reply["reason"] != "unauthorized", "{reply}");
    }
}
