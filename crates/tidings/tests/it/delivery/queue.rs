//! A queue gives each event to one consumer at a time.

use super::*;
use std::collections::BTreeSet;

fn ids(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().expect("events").iter();
    events.map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

async fn pull(server: &Server, path: &str, body: Value) -> Vec<String> {
    ids(&server.call(Method::POST, &format!("{path}/pull"), body).await)
}

#[tokio::test]
async fn two_consumers_never_get_the_same_event_and_what_is_given_back_comes_again() {
    let server = Server::start().await;
    let queue = json!({ "name": "work", "kind": "queue", "topic": "jobs:a", "filter": "data.n != 7", "lease_ms": 600_000 });
    let path = server.destination(queue).await;
    let data: Vec<Value> = (0..200).map(|n| json!({ "n": n })).collect();
    let other = server.publish("jobs:b", &data[..5]).await;
    assert_eq!(other["events"].as_array().unwrap().len(), 5);
    server.publish("jobs:a", &data).await;
    let consume = async |name: &'static str| {
        let mut all = Vec::new();
        loop {
            let some = pull(&server, &path, json!({ "max": 7, "consumer": name })).await;
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    };
    let (one, two) = tokio::join!(consume("one"), consume("two"));
    let distinct: BTreeSet<&String> = one.iter().chain(&two).collect();
    assert_eq!((one.len() + two.len(), distinct.len()), (199, 199));
    let back = [&one[3], &one[1]];
    let given = server.call(Method::POST, &format!("{path}/unlock"), json!({ "events": back })).await;
    assert_eq!(ids(&given), [one[1].clone(), one[3].clone()]);
    assert_eq!(pull(&server, &path, json!({ "max": 1 })).await, [one[1].clone()]);
    assert_eq!(pull(&server, &path, json!({ "max": 9, "consumer": "two" })).await, [one[3].clone()]);
}

#[tokio::test]
async fn a_crashed_consumers_events_come_back_after_the_lease_and_done_ones_do_not() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let queue = json!({ "name": "work", "kind": "queue", "topic": "jobs", "lease_ms": 1500 });
    let path = server.destination(queue).await;
    server.publish("jobs", &[json!(1), json!(2), json!(3)]).await;
    let begun = tokio::time::Instant::now();
    let first = pull(&server, &path, json!({ "max": 2 })).await;
    assert_eq!(first.len(), 2);
    let done =
        server.call(Method::POST, &format!("{path}/ack"), json!({ "events": [first[0], first[0]] })).await;
    assert_eq!(done["acknowledged"], 1);
    let strange =
        server.request(Method::POST, &format!("{path}/ack"), &server.admin).json(&json!({"events": ["x"]}));
    let strange: Value = strange.send().await.unwrap().json().await.unwrap();
    assert!(strange["detail"].as_str().unwrap().contains("`events` lists the ids"), "{strange}");
    // A restart forgets no lease.
    server.crash_and_restart().await;
    let third = pull(&server, &path, json!({ "consumer": "c" })).await;
    if begun.elapsed() < Duration::from_millis(1500) {
        assert_eq!(third.len(), 1);
    }
    // Asked by one who does not come for more, so nothing counts as done by asking.
    let mut again = Vec::new();
    soon("the lease's end", async {
        while !again.contains(&first[1]) {
            again.extend(pull(&server, &path, json!({})).await);
        }
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert!(!again.contains(&first[0]));
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_and_strangers_get_nothing() {
    let server = Server::start().await;
    let path =
        server.destination(json!({ "name": "work", "kind": "queue", "topic": "jobs", "paused": true })).await;
    server.publish("jobs", &[json!(1)]).await;
    assert!(pull(&server, &path, json!({})).await.is_empty());
    server.call(Method::POST, &format!("{path}/resume"), json!({})).await;
    let stranger = server.token(&["--subscribe", "others"]).await;
    let refused = server
        .request(Method::POST, &format!("{path}/pull"), &stranger)
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(code(refused).await, (403, "forbidden".into()));
    let reader = server.token(&["--subscribe", "jobs"]).await;
    let taken =
        server.request(Method::POST, &format!("{path}/pull"), &reader).json(&json!({})).send().await.unwrap();
    assert_eq!(ids(&taken.json().await.unwrap()).len(), 1);
    let hook =
        server.destination(json!({ "name": "hook", "topic": "jobs", "url": "https://example.com/" })).await;
    let refused = code(server.send_json(Method::POST, &format!("{hook}/pull"), json!({})).await).await;
    assert_eq!(refused, (400, "destination_invalid".into()));
}

#[tokio::test]
async fn rows_of_others_are_not_for_who_may_only_read_the_topic() {
    let server = Server::start().await;
    server.call(Method::PUT, "/v1/topics/orders", json!({ "row_rule": "owner" })).await;
    let path = server.destination(json!({ "name": "work", "kind": "queue", "topic": "orders" })).await;
    let ada = server.token(&["--sub", "ada", "--subscribe", "orders"]).await;
    let ask = async |token: &str| {
        let request = server.request(Method::POST, &format!("{path}/pull"), token);
        request.json(&json!({ "max": 2 })).send().await.expect("an answer")
    };
    server.publish("orders", &[json!({ "owner": "ada" })]).await;
    assert_eq!(ids(&ask(&ada).await.json().await.unwrap()).len(), 1);
    server.publish("orders", &[json!({ "owner": "bob" }), json!({ "owner": "ada" })]).await;
    assert_eq!(code(ask(&ada).await).await, (403, "forbidden".into()));
    assert_eq!(pull(&server, &path, json!({})).await.len(), 2, "the refused call lent nothing");
}
