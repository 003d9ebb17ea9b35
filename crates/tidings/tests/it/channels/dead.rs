//! Events that `publish_events` refuses: answered in their place, and kept in `$dead`.

use super::client::Node;
use crate::harness::Server;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn what_is_wrong_is_told_of_each_event_and_kept_for_admins() {
    let server = Server::start().await;
    let settings = json!({"schemas": {"paid": {"type": "object", "required": ["total"]}}});
    server.call(Method::PUT, "/v1/topics/orders", settings).await;
    let own_schema = r#"{"properties": {"n": {"type": "integer"}}}"#;
    let events = json!([
        {"name": "first", "data": {"n": 1}},
        {"data": {"n": 2}, "user_key": "u", "context": {"ip": "::1"}},
        {"name": "when", "data": {}, "occurred_at": "nonsense"},
        {"name": "half", "data": "{"},
        {"name": "paid", "data": {"sum": 1}},
        {"name": "own", "data": {"n": "x"}, "data_schema": own_schema},
        7,
        {"name": "paid", "data": {"total": 1.5}},
    ]);
    let bad = [1, 2, 3, 4, 5, 6];
    let token = server.token(&["--topics", "orders", "--sub", "ann"]).await;
    let mut node = Node::start();
    // Whether they are to be stored or not: bad ones are kept.
    for (round, durable) in [true, false].into_iter().enumerate() {
        let (socket, channel) = (format!("s{round}"), "events:orders:1");
        node.connect(&server, &socket, 2).await;
        node.join(&socket, channel, &token).await;
        let call = json!({"topic": "orders:1", "durable": durable, "events": events});
        let (status, reply) = node.push(&socket, channel, "publish_events", call).await;
        assert_eq!(status, "ok", "{reply}");
        let answers = reply["events"].as_array().unwrap();
        for (n, answer) in answers.iter().enumerate() {
            let is_bad = answer["errors"].as_array().is_some_and(|errors| !errors.is_empty());
            assert_eq!(is_bad, bad.contains(&n), "{n}: {answer}");
        }
        assert!(answers[4]["errors"][0].as_str().unwrap().contains("total"), "{reply}");
        // Those who listen hear of the good ones only.
        let heard = [node.event(&socket).await.1, node.event(&socket).await.1];
        assert_eq!(heard.each_ref().map(|event| &event["name"]), ["first", "paid"]);
        let dead = server.read_all("$dead").await;
        assert_eq!(dead.len(), bad.len() * (round + 1));
        for (event, n) in dead[bad.len() * round..].iter().zip(bad) {
            let data = &event["data"];
            assert_eq!(
                (&event["user"], &data["door"], &data["topic"]),
                (&json!("ann"), &json!("channels"), &json!("orders:1"))
            );
            assert_eq!((&data["errors"], &data["event"]), (&answers[n]["errors"], &events[n]), "{n}");
        }
    }
    let stored = server.read_all("orders").await;
    let names: Vec<&Value> = stored.iter().map(|event| &event["name"]).collect();
    assert_eq!(names, ["first", "paid"]);
    // A channel's token does not reach them, an admin's does.
    node.connect(&server, "peek", 2).await;
    let refused = node.refused("peek", "events:$dead", json!({"token": token})).await;
    assert_eq!(refused, json!({"reason": "unauthorized"}));
}
