//! How often one caller may call.

use super::{Caller, admin, caller, python};
use crate::harness::{Server, until};
use serde_json::{Value, json};

async fn start(settings: &str) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidings.toml");
    std::fs::write(&path, format!("[rates]\n{settings}")).unwrap();
    (Server::start_with(&["--config", path.to_str().unwrap()]).await, dir)
}

async fn named(server: &Server, name: &str) -> Caller {
    caller(server, &server.token(&["--topics", "users", "--sub", name]).await)
}

const PUBLISH: &str = "eventrelay.Events/PublishEvents";

fn relay(durable: bool) -> Value {
    json!({ "topic": "users", "durable": durable, "events": [{ "name": "n", "data": "{}" }] })
}

#[tokio::test]
async fn a_call_too_many_is_refused_with_the_time_after_which_there_may_be_another() {
    let (server, _dir) = start("relay_publish = \"2/8s\"\nrelay_publish_passing = \"1/3600s\"").await;
    let (ann, bob) = (named(&server, "ann").await, named(&server, "bob").await);
    for _ in 0..2 {
        ann.call(PUBLISH, &relay(true)).await.unwrap();
    }
    let refused = ann.call(PUBLISH, &relay(true)).await.unwrap_err();
    let text = "Rate limit exceeded for PublishEvents at 2 requests per 8 second(s)";
    assert!(refused.is("ResourceExhausted", text), "{refused:?}");
    assert!(refused.all.contains("tidings-code: rate_limited"), "{refused:?}");
    let line = refused.all.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let wait: u32 = line.expect("a time").trim().parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    // The same as `google.rpc.RetryInfo { retry_delay: { seconds: wait } }`.
    use base64::Engine as _;
    let info = base64::engine::general_purpose::STANDARD.encode([0x0a, 2, 0x08, wait as u8]);
    assert!(refused.all.contains("google.rpc.RetryInfo") && refused.all.contains(&info), "{refused:?}");
    // What is not stored, other calls, others' calls and our own package have counts of their own.
    ann.call(PUBLISH, &relay(false)).await.unwrap();
    assert_eq!(ann.call(PUBLISH, &relay(false)).await.unwrap_err().status, "ResourceExhausted");
    bob.call(PUBLISH, &relay(true)).await.unwrap();
    ann.call("eventrelay.Events/PullEvents", &json!({ "topic": "users" })).await.unwrap();
    for _ in 0..3 {
        let native = json!({ "topic": "users", "events": [{ "data": "1" }] });
        ann.call("tidings.v1.Events/Publish", &native).await.unwrap();
    }
    let ann = &ann;
    until("a call comes back after a part of the window", || async move {
        ann.call(PUBLISH, &relay(true)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn topics_are_made_five_a_second_and_everything_else_has_room() {
    let server = Server::start().await;
    python(&server, "rates", &[]).await;
    admin(&server).call("eventrelay.Topics/ListTopics", &json!({})).await.unwrap();
}

#[tokio::test]
async fn our_own_package_has_bounds_where_they_are_set_and_counts_each_request_of_a_stream() {
    let (server, _dir) = start("publish = \"3/3600s\"\nother = \"2/3600s\"").await;
    let ann = named(&server, "ann").await;
    let publish = json!({ "topic": "users", "events": [{ "data": "1" }] });
    ann.call("tidings.v1.Events/Publish", &publish).await.unwrap();
    let three = format!("{publish}{publish}{publish}");
    let words: Vec<String> =
        ["-max-time", "20", "-H", &format!("authorization: Bearer {}", ann.token), "-d", "@"]
            .into_iter()
            .chain([&*ann.address, "tidings.v1.Events/PublishStream"])
            .map(str::to_owned)
            .collect();
    let refused = ann.run(&words, &three).await.unwrap_err();
    assert_eq!(refused.status, "ResourceExhausted", "{refused:?}");
    assert!(refused.message.starts_with("Rate limit exceeded for PublishStream at 3"), "{refused:?}");
    let pull = json!({ "topic": "users" });
    let page = ann.call("tidings.v1.Events/Pull", &pull).await.unwrap();
    assert_eq!(page["events"].as_array().unwrap().len(), 3, "what came before it is stored");
    ann.call("tidings.v1.Events/Pull", &pull).await.unwrap();
    for (method, request) in
        [("Pull", pull), ("Subscribe", json!({ "topics": ["users"] })), ("Publish", publish)]
    {
        let refused = ann.call(&format!("tidings.v1.Events/{method}"), &request).await.unwrap_err();
        assert_eq!(refused.status, "ResourceExhausted", "{method}: {refused:?}");
    }
    ann.call(PUBLISH, &relay(true)).await.unwrap();
}
