//! Events that `PublishEvents` refuses: answered in their place, and kept in `$dead`.

use super::{admin, caller};
use crate::harness::Server;
use serde_json::{Value, json};

const PUBLISH: &str = "eventrelay.Events/PublishEvents";

#[tokio::test]
async fn what_is_wrong_is_told_of_each_event_and_kept_for_admins() {
    let server = Server::start().await;
    let settings = json!({ "schemas": { "paid": { "type": "object", "required": ["total"] } } });
    server.call(reqwest::Method::PUT, "/v1/topics/orders", settings).await;
    let own_schema = r#"{"properties": {"n": {"type": "integer"}}}"#;
    let good = |name: &str, data: &str| json!({ "name": name, "data": data });
    let events = json!([
        good("first", r#"{"n": 1}"#),
        { "name": "", "data": "{}", "user_key": "u", "context": { "ip": "::1" } },
        { "name": "when", "data": "{}", "occurred_at": "nonsense" },
        good("what", "[1]"),
        good("half", "{"),
        good("paid", r#"{"sum": 1}"#),
        { "name": "own", "data": r#"{"n": "x"}"#, "data_schema": own_schema },
        { "name": "own", "data": r#"{"n": 7}"#, "data_schema": own_schema },
        good("paid", r#"{"total": 1.50}"#),
    ]);
    let token = server.token(&["--topics", "orders", "--sub", "ann"]).await;
    let request = json!({ "topic": "orders:1", "durable": true, "events": events });
    let answer = caller(&server, &token).call(PUBLISH, &request).await.unwrap();
    let errors = |n: usize| answer["events"][n]["errors"].as_array().unwrap();
    let bad = [1, 2, 3, 4, 5, 6];
    for n in 0..9 {
        assert_eq!(errors(n).is_empty(), !bad.contains(&n), "{n}: {answer}");
        assert_eq!(answer["events"][n]["id"] == "", bad.contains(&n), "{n}");
    }
    assert!(errors(5)[0].as_str().unwrap().contains("total"), "{answer}");
    assert!(errors(6)[0].as_str().unwrap().contains("integer"), "{answer}");
    let kept = server.read_all("orders").await;
    assert_eq!(
        kept.iter().map(|e| e["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["first", "own", "paid"]
    );
    // A schema comes back as it was sent.
    let pulled =
        admin(&server).call("eventrelay.Events/PullEvents", &json!({ "topic": "orders:1" })).await.unwrap();
    assert_eq!(pulled["events"][1]["dataSchema"], own_schema);
    let dead = server.read_all("$dead").await;
    assert_eq!(dead.len(), bad.len());
    for (event, n) in dead.iter().zip(bad) {
        let data = &event["data"];
        assert_eq!(
            (&event["user"], &data["door"], &data["topic"]),
            (&json!("ann"), &json!("grpc"), &json!("orders:1"))
        );
        assert_eq!(data["errors"], answer["events"][n]["errors"], "{n}");
    }
    let first = &dead[0]["data"]["event"];
    assert_eq!(first, &json!({ "data": {}, "user_key": "u", "context": { "ip": "::1" } }));
    assert_eq!(dead[3]["data"]["event"]["data"], "{", "what is no JSON is kept as text");
    assert_eq!(dead[4]["data"]["event"]["data"], json!({ "sum": 1 }));
    let refused =
        caller(&server, &token).call("eventrelay.Events/PullEvents", &json!({ "topic": "$dead" })).await;
    assert_eq!(refused.unwrap_err().status, "PermissionDenied");
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_checked_all_the_same_and_a_whole_call_may_be_bad() {
    let server = Server::start().await;
    let events: Vec<Value> = vec![json!({ "name": "" }), json!({ "name": "n" })];
    let answer = admin(&server).call(PUBLISH, &json!({ "topic": "a", "events": events })).await.unwrap();
    assert!((0..2).all(|n| !answer["events"][n]["errors"].as_array().unwrap().is_empty()), "{answer}");
    assert_eq!(server.read_all("$dead").await.len(), 2);
    assert_eq!(server.get("/v1/topics/a").await.status(), 404);
    let none = admin(&server).call(PUBLISH, &json!({ "topic": "a", "durable": true })).await.unwrap();
    assert_eq!(none["events"], json!([]));
}
