//! EventRelay's service `Events`: publishing, and pages counted in events.

use super::{Refused, admin};
use crate::harness::Server;
use serde_json::{Value, json};

const PUBLISH: &str = "eventrelay.Events/PublishEvents";
const PULL: &str = "eventrelay.Events/PullEvents";

async fn publish(server: &Server, topic: &str, events: Value) -> Result<Vec<Value>, Refused> {
    let request = json!({ "topic": topic, "durable": true, "events": events });
    let answer = admin(server).call(PUBLISH, &request).await?;
    Ok(answer["events"].as_array().unwrap().clone())
}

async fn pull(server: &Server, request: Value) -> Result<Value, Refused> {
    admin(server).call(PULL, &request).await
}

fn event(n: usize, data: &Value) -> Value {
    json!({ "name": format!("e{n}"), "source": "tests", "data": data.to_string() })
}

fn names(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_answered_in_their_order_and_bad_ones_with_what_is_wrong() {
    let server = Server::start().await;
    let three: Vec<Value> = (0..3).map(|n| event(n, &json!({ "n": n }))).collect();
    let answered = publish(&server, "users:123", json!(three)).await.unwrap();
    for (n, answer) in answered.iter().enumerate() {
        assert_eq!(answer["topic"], "users:123");
        assert_eq!(answer["name"], format!("e{n}"));
        assert_eq!(answer["offset"], n + 1);
        assert_eq!(answer["id"].as_str().unwrap().len(), 36);
    }
    let none = publish(&server, "", json!(three)).await.unwrap_err();
    assert!(none.is("InvalidArgument", "A topic must be provided to publish_events"), "{none:?}");
    let mut mixed = three.clone();
    mixed[1]["name"] = json!("");
    mixed[1]["occurred_at"] = json!("nonsense");
    let answered = publish(&server, "users:7", json!(mixed)).await.unwrap();
    let errors: Vec<usize> = answered.iter().map(|a| a["errors"].as_array().unwrap().len()).collect();
    assert_eq!(errors, [0, 2, 0], "{answered:?}");
    assert_eq!(answered[1]["errors"][0], "Name can't be blank");
    assert_eq!((&answered[1]["id"], &answered[1]["offset"]), (&json!(""), &json!(0)));
    assert_eq!((&answered[0]["offset"], &answered[2]["offset"]), (&json!(4), &json!(5)));
    let kept = pull(&server, json!({ "topic": "users:7" })).await.unwrap();
    assert_eq!(names(&kept), ["e0", "e2"]);
    let system = publish(&server, "$schedule", json!(three)).await.unwrap_err();
    assert_eq!(system.status, "PermissionDenied");
}

#[tokio::test]
async fn every_attribute_comes_back_and_the_time_is_now_where_none_is_sent() {
    let server = Server::start().await;
    let full = json!({
        "name": "n", "data": r#"{"a": 1.0}"#, "source": "s", "group_key": "g", "reference_key": "r",
        "trace_key": "t", "user_key": "u", "anonymous_key": "a", "occurred_at": "2020-01-01T00:00:00.000Z",
        "context": { "ip": "127.0.0.1", "x": "ü" }, "data_schema": r#"{"type":"object"}"#,
        "prev_id": "0198a7a0-0000-7000-8000-000000000001",
    });
    let answered = publish(&server, "users:1", json!([full, { "name": "n", "data": "{}" }])).await.unwrap();
    let pulled = pull(&server, json!({ "topic": "users" })).await.unwrap();
    for (sent, seen) in [
        ("name", "name"),
        ("data", "data"),
        ("source", "source"),
        ("group_key", "groupKey"),
        ("reference_key", "referenceKey"),
        ("trace_key", "traceKey"),
        ("user_key", "userKey"),
        ("anonymous_key", "anonymousKey"),
        ("occurred_at", "occurredAt"),
        ("context", "context"),
        ("data_schema", "dataSchema"),
        ("prev_id", "prevId"),
    ] {
        assert_eq!(pulled["events"][0][seen], full[sent], "{sent}");
        assert_eq!(answered[0][seen], full[sent], "{sent}");
    }
    let now = pulled["events"][1]["occurredAt"].as_str().unwrap();
    assert!(now > "2026" && now.ends_with('Z'), "{now}");
    // The same event, read by HTTP.
    let page = server.json("/v1/topics/users/events").await;
    assert_eq!(page["events"][0]["user"], "u");
    assert_eq!(page["events"][0]["data"], json!({ "a": 1.0 }));
}

#[tokio::test]
async fn an_offset_counts_events_and_following_it_reads_everything_once() {
    let server = Server::start().await;
    for n in 0..5 {
        let topic = if n % 2 == 0 { "users:123" } else { "users:9" };
        publish(&server, topic, json!([event(n, &json!({ "n": n }))])).await.unwrap();
    }
    let first = pull(&server, json!({ "topic": "users", "batch_size": 2 })).await.unwrap();
    let numbers = |page: &Value| {
        ["totalCount", "nextOffset", "previousOffset", "totalBatches"].map(|f| page[f].as_u64().unwrap())
    };
    assert_eq!(numbers(&first), [5, 2, 0, 3]);
    let (mut read, mut offset) = (Vec::new(), 0);
    loop {
        let request = json!({ "topic": "users", "batch_size": 2, "offset": offset });
        let page = pull(&server, request).await.unwrap();
        read.extend(names(&page).into_iter().map(str::to_owned));
        offset = page["nextOffset"].as_u64().unwrap();
        if offset == 0 {
            break;
        }
    }
    assert_eq!(read, ["e0", "e1", "e2", "e3", "e4"]);
    let third = pull(&server, json!({ "topic": "users", "batch_size": 2, "offset": 4 })).await.unwrap();
    assert_eq!(numbers(&third), [5, 0, 2, 3]);
    let keyed = pull(&server, json!({ "topic": "users:123", "batch_size": 2 })).await.unwrap();
    assert_eq!(names(&keyed), ["e0", "e2"]);
    assert_eq!(numbers(&keyed), [3, 2, 0, 2]);
    for (field, value) in [("offset", -1), ("batch_size", -1)] {
        let refused = pull(&server, json!({ "topic": "users", field: value })).await.unwrap_err();
        assert_eq!(refused.status, "InvalidArgument");
    }
}

#[tokio::test]
async fn a_query_selects_and_one_that_cannot_be_read_is_refused() {
    let server = Server::start().await;
    let carts = [
        json!({ "cart": { "total": 20 }, "email": "thomas@example.com" }),
        json!({ "cart": { "total": 5 } }),
        json!({ "cart": { "total": true } }),
        json!({ "cart": { "total": 11 } }),
    ];
    let events: Vec<Value> = carts.iter().enumerate().map(|(n, data)| event(n, data)).collect();
    publish(&server, "carts", json!(events)).await.unwrap();
    for (query, wanted) in [
        ("data.cart.total > 10 AND name == 'e3'", vec!["e3"]),
        ("name == 'e1' OR (data.cart.total > 10 AND name != 'e0')", vec!["e1", "e3"]),
        ("data.email == 'thomas@example.com'", vec!["e0"]),
        ("data.cart.total > 10", vec!["e0", "e3"]),
    ] {
        let page = pull(&server, json!({ "topic": "carts", "query": query })).await.unwrap();
        assert_eq!(names(&page), wanted, "{query}");
        assert_eq!(page["totalCount"], wanted.len());
    }
    let odd = pull(&server, json!({ "topic": "carts", "query": "data.total >" })).await.unwrap_err();
    assert!(odd.status == "InvalidArgument" && odd.all.contains("filter_invalid"), "{odd:?}");
}

#[tokio::test]
async fn batches_are_at_most_1000_and_counting_says_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tidings.toml");
    std::fs::write(&config, "[limits]\npull_scan_events = 1000\n").unwrap();
    let server = Server::start_with(&["--config", &config.display().to_string()]).await;
    let data: Vec<Value> = (0..1200).map(|n| json!(n)).collect();
    server.publish("many", &data).await;
    let size = async |batch: i32| {
        let page = pull(&server, json!({ "topic": "many", "batch_size": batch })).await.unwrap();
        page["events"].as_array().unwrap().len()
    };
    assert_eq!([size(0).await, size(1000).await, size(5000).await], [100, 1000, 1000]);
    let request = json!({ "topic": "many", "batch_size": 10, "query": "data >= 990" });
    let (page, said) = admin(&server).answered(PULL, &request).await.unwrap();
    assert_eq!(page["events"].as_array().unwrap().len(), 10);
    assert_eq!((&page["totalCount"], &page["nextOffset"]), (&json!(10), &json!(10)));
    assert!(said.contains("tidings-counted-to: 1000"), "{said}");
    let beyond = json!({ "topic": "many", "query": "data >= 1100" });
    let refused = pull(&server, beyond).await.unwrap_err();
    assert!(refused.status == "OutOfRange" && refused.message.contains("tidings.v1"), "{refused:?}");
}

#[tokio::test]
async fn pages_and_queues_stay_below_what_clients_take_as_a_message() {
    let server = Server::start().await;
    let queue = json!({ "name": "work", "topic_name": "big", "destination_type": "api", "config": { "lease_ms": "600000" } });
    let queue = admin(&server).call("eventrelay.Destinations/CreateDestination", &queue).await.unwrap();
    let queue = queue["destination"]["id"].clone();
    let text = "x".repeat(900_000);
    for n in 0..10 {
        server.publish("big", &[json!({ "n": n, "text": text })]).await;
    }
    let offsets = |page: &Value| -> Vec<u64> {
        page["events"].as_array().unwrap().iter().map(|e| e["offset"].as_u64().unwrap()).collect()
    };
    for query in ["", "data.n >= 0"] {
        let (mut read, mut offset, mut pages) = (Vec::new(), 0, 0);
        loop {
            let request = json!({ "topic": "big", "offset": offset, "query": query });
            let page = pull(&server, request).await.unwrap();
            assert_eq!(page["totalCount"], 10);
            read.extend(offsets(&page));
            (offset, pages) = (page["nextOffset"].as_u64().unwrap(), pages + 1);
            if offset == 0 {
                break;
            }
        }
        assert_eq!(read, (1..=10).collect::<Vec<u64>>(), "{query}");
        assert!(pages > 2, "{pages}");
    }
    let take = async || {
        let request = json!({ "destination_id": queue });
        admin(&server).call("eventrelay.Events/PullQueuedEvents", &request).await.unwrap()
    };
    let first = take().await;
    let mut taken = offsets(&first);
    assert!((1..4).contains(&taken.len()), "{taken:?}");
    // What is given back comes first, and with what follows it is no more than a client takes either.
    let ids: Vec<&Value> = first["events"].as_array().unwrap().iter().map(|e| &e["id"]).collect();
    let back = json!({ "destination_id": queue, "event_ids": ids });
    admin(&server).call("eventrelay.Events/UnLockQueuedEvents", &back).await.unwrap();
    taken.clear();
    while taken.len() < 10 {
        let some = offsets(&take().await);
        assert!(!some.is_empty(), "{taken:?}");
        taken.extend(some);
    }
    assert_eq!(taken, (1..=10).collect::<Vec<u64>>());
}
