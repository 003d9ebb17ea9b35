//! Webhooks as a receiver sees them.

use super::receiver::{Hit, Receiver, Say};
use super::*;
use crate::harness::now_s;
use std::collections::HashMap;
use std::sync::Mutex;

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    range.map(|n| json!({ "n": n })).collect()
}

/// Fails the first `times` that each event for which `which` holds is met.
fn failing(times: usize, which: impl Fn(u64) -> bool + Send + Sync) -> impl Fn(&Hit) -> Say + Send + Sync {
    let met: Mutex<HashMap<u64, usize>> = Mutex::default();
    move |hit| {
        let n = hit.n();
        let mut met = met.lock().unwrap();
        let count = met.entry(n).or_default();
        *count += 1;
        Say::Status(if which(n) && *count <= times { 500 } else { 200 })
    }
}

#[tokio::test]
async fn each_event_is_one_post_with_the_whole_event_and_its_headers() {
    let (server, receiver) = (Hooks::start().await, Receiver::willing().await);
    let path = server
        .hook("hook", "users:7", &receiver, json!({ "headers": { "x-own": "1" }, "user_agent": "me" }))
        .await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    let event = json!({ "id": "7d444840-9dc0-11d1-b245-5ffdce74fad2", "name": "paid", "data": { "n": 1 }, "user": "ann",
        "trace_key": "t", "context": { "a": { "b": 1 } } });
    assert_eq!(server.post("users:7", &server.admin, event.to_string()).await.status(), 201);
    server.publish("users:8", &numbered(2..=2)).await;
    server.publish("users:7", &numbered(3..=3)).await;
    let hits = receiver.got(2).await;
    let hit = &hits[0];
    let body = hit.json();
    assert_eq!(
        (&body["type"], &body["data"]["topic"], &body["data"]["user_key"]),
        (&json!("paid"), &json!("users:7"), &json!("ann"))
    );
    assert_eq!(body["data"]["context"], json!({ "a": { "b": 1 } }));
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(hit.header("webhook-id"), "7d444840-9dc0-11d1-b245-5ffdce74fad2");
    assert!(now_s().abs_diff(hit.header("webhook-timestamp").parse().unwrap()) < 60);
    assert_eq!(hit.header("x-event-relay-destination-id"), id);
    assert_eq!(
        (hit.header("x-event-relay-topic-name"), hit.header("x-event-relay-topic-identifier")),
        ("users", "7")
    );
    assert_eq!((hit.header("x-own"), hit.header("user-agent"), hit.path.as_str()), ("1", "me", "/in"));
    assert_eq!(hits[1].n(), 3);
    until("everything is settled", async || server.json(&path).await["behind"] == 0).await;
    assert_eq!(receiver.hits().len(), 2);
}

#[tokio::test]
async fn any_2xx_acknowledges_and_everything_else_is_tried_again() {
    let server = Hooks::start().await;
    let elsewhere = Receiver::willing().await;
    let url = elsewhere.url();
    let says = vec![
        Say::Status(200),
        Say::Status(201),
        Say::Status(204),
        Say::Status(299),
        Say::With(301, vec![("location", url.clone())], ""),
        Say::With(302, vec![("location", url)], ""),
        Say::Status(400),
        Say::Status(404),
        Say::Status(500),
        Say::Hang,
        Say::Close,
        Say::Status(204),
    ];
    let script = says.clone();
    let receiver =
        Receiver::start(move |hit| script.get(hit.number).cloned().unwrap_or(Say::Status(200))).await;
    let path = server.hook("hook", "t", &receiver, json!({ "timeout_ms": 200 })).await;
    server.publish("t", &numbered(1..=5)).await;
    let hits = receiver.got(12).await;
    let numbers: Vec<u64> = hits.iter().map(Hit::n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5]);
    assert!(elsewhere.hits().is_empty(), "a redirect was followed");
    until("all are settled", async || server.json(&path).await["behind"] == 0).await;
    let id = path.rsplit('/').next().unwrap();
    let delivery = server.json(&format!("/v1/deliveries/{id}.5")).await;
    assert_eq!(delivery["status"], "delivered");
    let statuses: Vec<&Value> =
        delivery["attempts"].as_array().unwrap().iter().map(|a| &a["status"]).collect();
    let none = &Value::Null;
    assert_eq!(
        statuses,
        [&json!(301), &json!(302), &json!(400), &json!(404), &json!(500), none, none, &json!(204)]
    );
    assert!(delivery["attempts"][5]["error"].as_str().unwrap().contains("200 ms"));
    assert!(delivery["attempts"][5]["duration_ms"].as_u64().unwrap() >= 200);
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fields = json!({ "name": "gone", "topic": "u", "url": format!("http://{gone}/"), "max_attempts": 2 });
    let path = server.destination(fields).await;
    server.publish("u", &numbered(1..=1)).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    until("it is dead", async || {
        server.json(&format!("/v1/deliveries?destination={id}&status=dead")).await["deliveries"][0]["tries"]
            == 2
    })
    .await;
}

#[tokio::test]
async fn an_event_that_fails_holds_its_own_line_only_and_nothing_overtakes_it() {
    let server = Hooks::start().await;
    let (one, two, other) =
        (Receiver::start(failing(3, |n| n == 5)).await, Receiver::willing().await, Receiver::willing().await);
    server.hook("one", "t", &one, json!({ "retry_base_ms": 300 })).await;
    server.hook("two", "t", &two, json!({})).await;
    server.hook("three", "u", &other, json!({})).await;
    server.publish("t", &numbered(1..=100)).await;
    server.publish("u", &numbered(1..=20)).await;
    assert_eq!(two.got(100).await.len(), 100);
    other.got(20).await;
    assert!(one.hits().len() < 100, "what fails must not have caught up yet");
    one.got(103).await;
    let expected: Vec<u64> = (1..=4).chain([5, 5, 5, 5]).chain(6..=100).collect();
    assert_eq!(one.numbers(), expected);
    assert_eq!(two.numbers(), (1..=100).collect::<Vec<u64>>());
    assert_eq!(other.numbers(), (1..=20).collect::<Vec<u64>>());
    // What others do with them does not change what is in the topic.
    let all: Vec<u64> = server.read_all("t").await.iter().map(|e| e["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(all, (1..=100).collect::<Vec<u64>>());
}

#[tokio::test]
async fn with_order_by_key_keys_go_in_parallel_and_each_in_order() {
    let server = Hooks::start().await;
    let receiver = Receiver::start(failing(2, |n| n == 3)).await;
    let path = server
        .hook("hook", "t", &receiver, json!({ "order": "key", "retry_base_ms": 400, "parallel": 8 }))
        .await;
    let events: Vec<Value> =
        (1..=60).map(|n| json!({ "key": format!("k{}", n % 3), "data": { "n": n } })).collect();
    assert_eq!(server.post("t", &server.admin, json!(events).to_string()).await.status(), 201);
    receiver.got(62).await;
    let numbers = receiver.numbers();
    for key in 0..3u64 {
        let of_key: Vec<u64> = numbers.iter().copied().filter(|n| n % 3 == key).collect();
        let mut expected: Vec<u64> = (1..=60).filter(|n| n % 3 == key).collect();
        if key == 0 {
            expected.splice(..1, [3, 3, 3]);
        }
        assert_eq!(of_key, expected, "key {key}");
    }
    let third = numbers.iter().rposition(|n| *n == 3).unwrap();
    assert!(third > 40, "the other keys went on while this one waited: {numbers:?}");
    until("all are settled", async || server.json(&path).await["behind"] == 0).await;
}

#[tokio::test]
async fn after_twenty_attempts_it_is_dead_and_the_next_goes_on_and_a_replay_delivers_it() {
    let server = Hooks::start().await;
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let says = move |hit: &Hit| match hit.n() == 1 && !well.load(Ordering::SeqCst) {
        true => Say::With(503, Vec::new(), "not today"),
        false => Say::Status(200),
    };
    let receiver = Receiver::start(says).await;
    let path = server.hook("hook", "t", &receiver, json!({ "retry_base_ms": 1, "retry_max_ms": 4 })).await;
    let mut trouble = server.sse("$destinations", "from=earliest").await;
    server.publish("t", &numbered(1..=2)).await;
    receiver.got(21).await;
    assert_eq!(receiver.numbers(), [vec![1; 20], vec![2]].concat());
    let hits = receiver.hits();
    assert!(hits[..20].iter().all(|hit| hit.header("webhook-id") == hits[0].header("webhook-id")));
    for said in ["failing", "dead", "recovered"] {
        let event = trouble.event().await;
        assert_eq!((&event["name"], &event["data"]["name"]), (&json!(said), &json!("hook")));
    }
    let id = path.rsplit('/').next().unwrap().to_owned();
    let dead =
        server.json(&format!("/v1/deliveries?destination={id}&status=dead")).await["deliveries"][0].clone();
    assert_eq!((&dead["offset"], &dead["tries"]), (&json!(1), &json!(20)));
    let attempts = dead["attempts"].as_array().unwrap();
    assert_eq!(
        (attempts.len(), &attempts[19]["status"], &attempts[19]["answer"]),
        (20, &json!(503), &json!("not today"))
    );
    is_well.store(true, Ordering::SeqCst);
    let replay = format!("/v1/deliveries/{}/replay", dead["id"].as_str().unwrap());
    assert_eq!(server.send_json(Method::POST, &replay, json!({})).await.status(), StatusCode::ACCEPTED);
    let hits = receiver.got(22).await;
    assert_eq!((hits[21].n(), hits[21].header("webhook-id")), (1, hits[0].header("webhook-id")));
    until("it is delivered", async || {
        let delivery = server.json(&format!("/v1/deliveries/{}", dead["id"].as_str().unwrap())).await;
        delivery["status"] == "delivered" && delivery["attempts"].as_array().unwrap().len() == 21
    })
    .await;
    let page = server.json(&format!("/v1/deliveries?destination={id}&status=dead")).await;
    // A name will do, too.
    let named = server.json(&format!("/v1/destinations/{id}")).await["name"].as_str().unwrap().to_owned();
    assert_eq!(server.json(&format!("/v1/deliveries?destination={named}&status=dead")).await, page);
    let unknown = server.get("/v1/deliveries?destination=nobody").await;
    assert_eq!(code(unknown).await, (400, "parameter_invalid".into()));
    assert_eq!(page["deliveries"], json!([]));
}

#[tokio::test]
async fn waits_grow_and_retry_after_is_honoured_and_410_pauses() {
    let server = Hooks::start().await;
    let date = httpdate(now_s() + 3);
    let says = move |hit: &Hit| match hit.number {
        0..3 => Say::Status(500),
        3 => Say::With(429, vec![("retry-after", "1".into())], ""),
        4 => Say::With(503, vec![("retry-after", date.clone())], ""),
        5 => Say::Status(410),
        _ => Say::Status(200),
    };
    let receiver = Receiver::start(says).await;
    let path = server.hook("hook", "t", &receiver, json!({ "retry_base_ms": 100 })).await;
    let begun = now_s();
    server.publish("t", &numbered(1..=2)).await;
    let hits = receiver.got(6).await;
    let ended = now_s();
    let wait = |i: usize| (hits[i + 1].at - hits[i].at).as_millis();
    assert!(wait(0) >= 99 && wait(1) >= 199 && wait(2) >= 399, "{} {} {}", wait(0), wait(1), wait(2));
    assert!(wait(3) >= 990, "{}", wait(3));
    assert!(ended >= begun + 3, "the date was not waited for");
    let first = &hits[0];
    assert!(hits.iter().all(|hit| hit.header("webhook-id") == first.header("webhook-id")));
    assert_ne!(hits[5].header("webhook-timestamp"), first.header("webhook-timestamp"));
    assert_ne!(hits[5].header("webhook-signature"), first.header("webhook-signature"));
    until("it is paused", async || server.json(&path).await["paused"] == true).await;
    assert_eq!(receiver.hits().len(), 6);
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(server.json(&format!("/v1/deliveries/{id}.1")).await["status"], "dead");
    server.call(Method::POST, &format!("{path}/resume"), json!({})).await;
    receiver.got(7).await;
    assert_eq!(receiver.numbers()[6], 2);
}

#[tokio::test]
async fn a_receiver_that_asks_to_wait_gets_no_more_attempts_for_it() {
    let server = Hooks::start().await;
    let says = |hit: &Hit| match hit.n() {
        1 => Say::With(503, vec![("retry-after", "0".into())], ""),
        _ => Say::Status(200),
    };
    let receiver = Receiver::start(says).await;
    server.hook("hook", "t", &receiver, json!({ "max_attempts": 3 })).await;
    server.publish("t", &numbered(1..=3)).await;
    receiver.got(5).await;
    assert_eq!(receiver.numbers(), [1, 1, 1, 2, 3]);
}

/// An HTTP date.
fn httpdate(s: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(s);
    let done = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{s}"), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output();
    let _ = at;
    String::from_utf8(done.expect("date").stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_pause_sends_nothing_and_then_goes_on_and_the_beginning_is_a_choice() {
    let server = Hooks::start().await;
    let (paused, late, whole) =
        (Receiver::willing().await, Receiver::willing().await, Receiver::willing().await);
    let path = server.hook("paused", "t", &paused, json!({ "paused": true })).await;
    server.publish("t", &numbered(1..=3)).await;
    server.hook("late", "t", &late, json!({})).await;
    server.hook("whole", "t", &whole, json!({ "from": "earliest" })).await;
    server.publish("t", &numbered(4..=5)).await;
    late.got(2).await;
    whole.got(5).await;
    assert_eq!((late.numbers(), whole.numbers()), (vec![4, 5], vec![1, 2, 3, 4, 5]));
    assert!(paused.hits().is_empty());
    server.call(Method::POST, &format!("{path}/resume"), json!({})).await;
    paused.got(5).await;
    assert_eq!(paused.numbers(), [1, 2, 3, 4, 5]);
    // A range again, by offset.
    let again =
        server.send_json(Method::POST, &format!("{path}/replay"), json!({ "from": 2, "to": 3 })).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    paused.got(7).await;
    assert_eq!(paused.numbers()[5..], [2, 3]);
}

#[tokio::test]
async fn a_line_that_holds_goes_on_when_its_dead_delivery_is_replayed() {
    let server = Hooks::start().await;
    let receiver = Receiver::start(failing(2, |n| n == 1)).await;
    let path = server
        .hook("hook", "t", &receiver, json!({ "on_dead": "hold", "max_attempts": 2, "retry_base_ms": 1 }))
        .await;
    server.publish("t", &numbered(1..=3)).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    let dead = format!("/v1/deliveries?destination={id}&status=dead");
    until("it is dead", async || server.json(&dead).await["deliveries"].as_array().unwrap().len() == 1).await;
    assert_eq!(receiver.numbers(), [1, 1]);
    server.call(Method::POST, &format!("{path}/replay"), json!({ "dead": true })).await;
    receiver.got(5).await;
    assert_eq!(receiver.numbers(), [1, 1, 1, 2, 3]);
}

#[tokio::test]
async fn a_scheduled_event_is_delivered_once_it_is_due() {
    let (server, receiver) = (Hooks::start().await, Receiver::willing().await);
    server.hook("hook", "t", &receiver, json!({ "filter": "data.n < 3" })).await;
    let at = now_s() + 2;
    let event = json!({ "data": { "n": 1 }, "available_at": time_text(at) });
    assert_eq!(server.post("t", &server.admin, event.to_string()).await.status(), 201);
    server.publish("t", &numbered(2..=3)).await;
    receiver.got(2).await;
    assert!(now_s() >= at);
    assert_eq!(receiver.numbers(), [2, 1]);
}
