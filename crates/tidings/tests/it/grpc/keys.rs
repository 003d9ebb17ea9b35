//! EventRelay's services `ApiKeys` and `JWT`.

use super::{Refused, admin, caller, python};
use crate::harness::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const PUBLISH: &str = "eventrelay.Events/PublishEvents";
const PULL: &str = "eventrelay.Events/PullEvents";

async fn keys(server: &Server, method: &str, request: Value) -> Result<Value, Refused> {
    admin(server).call(&format!("eventrelay.ApiKeys/{method}"), &request).await
}

async fn create(server: &Server, kind: &str, name: &str) -> Value {
    let request = json!({ "type": kind, "name": name, "group_key": "g" });
    keys(server, "CreateApiKey", request).await.unwrap()["apiKey"].take()
}

/// What a client makes of a new key.
fn token(key: &Value) -> String {
    let part = |name: &str| key[name].as_str().unwrap();
    STANDARD.encode(format!("{}:{}", part("key"), part("secret")))
}

fn one(topic: &str) -> Value {
    json!({ "topic": topic, "durable": true, "events": [{ "name": "n", "data": "{}" }] })
}

#[tokio::test]
async fn a_producer_publishes_to_the_topics_it_is_given_for_as_long_as_it_has_them() {
    let server = Server::start().await;
    let key = create(&server, "PRODUCER", "shop").await;
    assert_eq!(
        (&key["type"], &key["status"], &key["groupKey"]),
        (&json!("PRODUCER"), &json!("ACTIVE"), &json!("g"))
    );
    let shop = caller(&server, &token(&key));
    assert_eq!(shop.call(PUBLISH, &one("users")).await.unwrap_err().status, "PermissionDenied");
    let topics = |names: Value| json!({ "id": key["id"], "topic_names": names });
    let added = keys(&server, "AddTopicsToApiKey", topics(json!(["users", "carts:1"]))).await.unwrap();
    assert_eq!((&added["id"], &added["topicNames"]), (&key["id"], &json!(["users", "carts:1"])));
    for (topic, may) in
        [("users", true), ("users:9", true), ("carts:1", true), ("carts:2", false), ("x", false)]
    {
        let answer = shop.call(PUBLISH, &one(topic)).await;
        assert_eq!(
            answer.map_err(|refused| refused.status).err(),
            (!may).then(|| "PermissionDenied".into()),
            "{topic}"
        );
    }
    assert_eq!(shop.call(PULL, &json!({ "topic": "users" })).await.unwrap_err().status, "PermissionDenied");
    keys(&server, "DeleteTopicsFromApiKey", topics(json!(["users"]))).await.unwrap();
    assert_eq!(shop.call(PUBLISH, &one("users")).await.unwrap_err().status, "PermissionDenied");
    shop.call(PUBLISH, &one("carts:1")).await.unwrap();
    let wrong = STANDARD.encode(format!("{}:wrong", key["key"].as_str().unwrap()));
    let refused = caller(&server, &wrong).call(PUBLISH, &one("carts:1")).await.unwrap_err();
    assert!(refused.is("Unauthenticated", "Invalid credentials"), "{refused:?}");
    let revoked = keys(&server, "RevokeApiKey", json!({ "id": key["id"] })).await.unwrap()["apiKey"].take();
    assert_eq!((&revoked["status"], &revoked["secret"]), (&json!("REVOKED"), &json!("")));
    assert_eq!(shop.call(PUBLISH, &one("carts:1")).await.unwrap_err().status, "Unauthenticated");
    for (method, request) in
        [("RevokeApiKey", json!({ "id": key["id"] })), ("AddTopicsToApiKey", topics(json!(["users"])))]
    {
        let again = keys(&server, method, request).await.unwrap_err();
        assert!(again.is("FailedPrecondition", "ApiKey is already revoked"), "{again:?}");
    }
}

#[tokio::test]
async fn a_consumer_reads_what_flows_into_its_destinations_and_both_kinds_of_key_do_both() {
    let server = Server::start().await;
    server.publish("jobs:1", &[json!({ "n": 1 })]).await;
    let queue = json!({"name": "work", "topic_name": "jobs", "topic_identifier": "1", "destination_type": "api",
        "config": { "from": "earliest" }});
    let queue = admin(&server).call("eventrelay.Destinations/CreateDestination", &queue).await.unwrap();
    let queue = queue["destination"]["id"].clone();
    let take = json!({ "destination_id": queue });
    for (kind, publishes) in [("CONSUMER", false), ("PRODUCER_CONSUMER", true)] {
        let key = create(&server, kind, kind).await;
        assert_eq!(key["type"], kind);
        let worker = caller(&server, &token(&key));
        let pull = async || worker.call(PULL, &json!({ "topic": "jobs:1" })).await;
        assert_eq!(pull().await.unwrap_err().status, "PermissionDenied");
        let given = json!({ "id": key["id"], "destination_ids": [queue] });
        let added = keys(&server, "AddDestinationsToApiKey", given.clone()).await.unwrap();
        assert_eq!(added["destinationIds"], json!([queue]));
        assert_eq!(pull().await.unwrap()["totalCount"], 1);
        worker.call("eventrelay.Events/PullQueuedEvents", &take).await.unwrap();
        assert_eq!(worker.call(PUBLISH, &one("jobs:1")).await.unwrap_err().status, "PermissionDenied");
        let topic =
            keys(&server, "AddTopicsToApiKey", json!({ "id": key["id"], "topic_names": ["out"] })).await;
        assert_eq!(
            topic.as_ref().map_err(|e| e.status.as_str()).err(),
            (!publishes).then_some("FailedPrecondition")
        );
        assert_eq!(worker.call(PUBLISH, &one("out")).await.is_ok(), publishes);
        let body = json!({ "topic": "out", "events": [{ "name": "n", "data": {} }] });
        let http = server.request(reqwest::Method::POST, "/api/events", &worker.token).json(&body);
        assert_eq!(http.send().await.unwrap().status(), if publishes { 201 } else { 403 });
        keys(&server, "DeleteDestinationsFromApiKey", given).await.unwrap();
        assert_eq!(pull().await.unwrap_err().status, "PermissionDenied");
        // Only admins manage keys, topics and destinations.
        for method in ["ApiKeys/CreateApiKey", "Topics/CreateTopic"] {
            let refused = worker.call(&format!("eventrelay.{method}"), &json!({ "name": "new" })).await;
            assert_eq!(refused.unwrap_err().status, "PermissionDenied", "{method}");
        }
    }
    let boss = caller(&server, &token(&create(&server, "ADMIN", "boss").await));
    boss.call("eventrelay.Topics/CreateTopic", &json!({ "name": "new" })).await.unwrap();
    boss.call(PUBLISH, &one("anything")).await.unwrap();
}

#[tokio::test]
async fn a_call_that_makes_no_sense_is_refused_and_names_are_taken_once() {
    let server = Server::start().await;
    let key = create(&server, "PRODUCER", "shop").await;
    let id = "11111111-2222-3333-4444-555555555555";
    for (method, request, status, said) in [
        ("CreateApiKey", json!({ "name": "shop" }), "AlreadyExists", "ApiKey already exists"),
        ("CreateApiKey", json!({ "name": "" }), "InvalidArgument", "name"),
        ("CreateApiKey", json!({ "name": "x", "type": 9 }), "InvalidArgument", "Type"),
        (
            "CreateApiKey",
            json!({ "name": "x", "tls_hostname": "a.example" }),
            "InvalidArgument",
            "Tls hostname",
        ),
        ("RevokeApiKey", json!({ "id": "7" }), "InvalidArgument", "Id is not a UUID"),
        ("RevokeApiKey", json!({ "id": id }), "NotFound", "ApiKey not found"),
        ("AddTopicsToApiKey", json!({ "id": id, "topic_names": ["a"] }), "NotFound", "ApiKey not found"),
        ("AddTopicsToApiKey", json!({ "id": key["id"], "topic_names": ["a:"] }), "InvalidArgument", ""),
        (
            "AddDestinationsToApiKey",
            json!({ "id": key["id"], "destination_ids": [id] }),
            "FailedPrecondition",
            "",
        ),
    ] {
        let refused = keys(&server, method, request.clone()).await.unwrap_err();
        assert!(
            refused.status == status && refused.message.contains(said),
            "{method} {request}: {refused:?}"
        );
    }
    let worker = create(&server, "CONSUMER", "worker").await;
    let unknown = json!({ "id": worker["id"], "destination_ids": [id] });
    let refused = keys(&server, "AddDestinationsToApiKey", unknown).await.unwrap_err();
    assert!(refused.is("NotFound", "Destinations not found"), "{refused:?}");
}

#[tokio::test]
async fn a_token_made_from_a_key_has_its_rights_and_ends_with_its_time_or_the_key() {
    let server = Server::start().await;
    python(&server, "jwt", &[]).await;
    let admin = admin(&server).call("eventrelay.JWT/CreateJWT", &json!({})).await.unwrap_err();
    assert_eq!(admin.status, "PermissionDenied", "a caller without a key has none to make a token from");
}
