//! EventRelay's service `Destinations`, and events taken from a queue.

use super::{admin, caller, python};
use crate::harness::Server;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CREATE: &str = "eventrelay.Destinations/CreateDestination";
const LIST: &str = "eventrelay.Destinations/ListDestinations";
const GET: &str = "eventrelay.Destinations/GetDestination";
const DELETE: &str = "eventrelay.Destinations/DeleteDestination";
const PULL: &str = "eventrelay.Events/PullQueuedEvents";

/// Creates a destination and answers with it.
async fn create(server: &Server, request: Value) -> Value {
    admin(server).call(CREATE, &request).await.unwrap()["destination"].take()
}

fn ids(answer: &Value) -> BTreeSet<String> {
    answer["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_destination_is_made_shown_and_deleted_and_its_secret_stays_hidden() {
    let server = Server::start().await;
    let admin = admin(&server);
    let config = json!({
        "endpoint_url": "https://example.com/in", "query": "data.n > 1", "max_attempts": "3", "order": "key",
        "headers": r#"{"x-a":"b"}"#, "signing_secret": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
    });
    let request = json!({
        "name": "hook", "topic_name": "users", "topic_identifier": "123", "config": config, "paused": true,
        "destination_type": "webhook", "group_key": "g",
    });
    let made = create(&server, request.clone()).await;
    for (field, value) in [
        ("name", "hook"),
        ("topicName", "users"),
        ("topicIdentifier", "123"),
        ("destinationType", "webhook"),
        ("groupKey", "g"),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let mut shown = config.as_object().unwrap().clone();
    shown.remove("signing_secret");
    shown.insert("paused".into(), "true".into());
    assert_eq!(made["config"], Value::Object(shown));
    // The same destination over HTTP, where its secret is told to admins.
    let path = format!("/v1/destinations/{}", made["id"].as_str().unwrap());
    let other = server.json(&path).await;
    assert_eq!((&other["topic"], &other["filter"]), (&json!("users:123"), &json!("data.n > 1")));
    assert_eq!((&other["paused"], &other["max_attempts"]), (&json!(true), &json!(3)));
    let secret = server.json(&format!("{path}/secret")).await;
    assert_eq!(secret["secret"], "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0");
    let by_id = json!({ "id": made["id"] });
    assert_eq!(admin.call(GET, &by_id).await.unwrap()["destination"], made);
    let again = admin.call(CREATE, &request).await.unwrap_err();
    assert!(again.is("AlreadyExists", "Destination with that name already exists"), "{again:?}");
    assert_eq!(admin.call(DELETE, &by_id).await.unwrap()["destination"], made);
    for method in [GET, DELETE] {
        let unknown = admin.call(method, &by_id).await.unwrap_err();
        assert!(unknown.is("NotFound", "Destination not found"), "{unknown:?}");
        assert_eq!(admin.call(method, &json!({ "id": "7" })).await.unwrap_err().status, "InvalidArgument");
    }
    assert_eq!(server.get(&path).await.status(), 404);
}

#[tokio::test]
async fn what_makes_no_destination_is_refused_by_its_field_and_only_admins_make_any() {
    let server = Server::start().await;
    let request = |more: Value| {
        let mut all = json!({ "name": "new", "topic_name": "users", "destination_type": "api" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let webhook = |url: &str| json!({ "destination_type": "webhook", "config": { "endpoint_url": url } });
    for (more, said) in [
        (json!({ "name": "" }), "Name can't be blank"),
        (json!({ "name": "ab" }), "name"),
        (json!({ "topic_name": "" }), "Topic name can't be blank"),
        (json!({ "destination_type": "" }), "Destination type can't be blank"),
        (json!({ "destination_type": "file" }), "Destination type"),
        (json!({ "destination_type": "webhook" }), "url"),
        (webhook("http://127.0.0.1:9/"), "private"),
        (webhook("http://[::1]:9/"), "private"),
        (json!({ "config": { "query": "data.n >" } }), "filter"),
        (json!({ "config": { "pipeline": "{}" } }), "pipeline"),
        (json!({ "config": { "from": "state" } }), "from"),
    ] {
        let refused = admin(&server).call(CREATE, &request(more.clone())).await.unwrap_err();
        assert!(refused.status == "InvalidArgument" && refused.message.contains(said), "{more}: {refused:?}");
    }
    let user =
        caller(&server, &server.token(&["--topics", "*"]).await).call(CREATE, &request(json!({}))).await;
    assert_eq!(user.unwrap_err().status, "PermissionDenied");
    let made = create(&server, request(json!({}))).await;
    let token = server.token(&["--topics", "*"]).await;
    let by_id = json!({ "id": made["id"] });
    for (method, request) in [(LIST, json!({})), (GET, by_id.clone()), (DELETE, by_id)] {
        let refused = caller(&server, &token).call(method, &request).await.unwrap_err();
        assert_eq!(refused.status, "PermissionDenied", "{method}");
    }
    assert_eq!(made["destinationType"], "api");
}

#[tokio::test]
async fn destinations_are_listed_in_pages() {
    let server = Server::start().await;
    for n in 1..=5 {
        create(
            &server,
            json!({ "name": format!("queue-{n}"), "topic_name": "a", "destination_type": "api" }),
        )
        .await;
    }
    let page = async |page: i32, size: i32| {
        let all = admin(&server).call(LIST, &json!({ "page": page, "page_size": size })).await.unwrap();
        let names = all["destinations"].as_array().unwrap().iter();
        let names: Vec<String> = names.map(|d| d["name"].as_str().unwrap()[6..].to_owned()).collect();
        let numbers =
            ["totalCount", "nextPage", "previousPage", "totalPages"].map(|f| all[f].as_u64().unwrap());
        (names.concat(), numbers)
    };
    assert_eq!(page(0, 0).await, ("12345".into(), [5, 0, 0, 1]));
    assert_eq!(page(1, 2).await, ("12".into(), [5, 2, 0, 3]));
    assert_eq!(page(2, 2).await, ("34".into(), [5, 3, 1, 3]));
    assert_eq!(page(3, 2).await, ("5".into(), [5, 0, 2, 3]));
    assert_eq!(page(i32::MAX, i32::MAX).await.0, "");
}

#[tokio::test]
async fn two_clients_never_get_the_same_event_and_what_one_gives_back_the_other_gets() {
    let server = Server::start().await;
    python(&server, "queue", &[]).await;
}

#[tokio::test]
async fn what_a_client_had_that_died_comes_again_after_the_lease_and_what_is_done_does_not() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    python(&server, "lease", &[]).await;
    // A restart forgets neither: what was done stays done.
    server.crash_and_restart().await;
    python(&server, "lease_after", &[]).await;
}

#[tokio::test]
async fn only_those_take_from_a_queue_who_may_consume_it() {
    let server = Server::start().await;
    let own =
        create(&server, json!({ "name": "own", "topic_name": "jobs", "destination_type": "api" })).await;
    let other =
        create(&server, json!({ "name": "other", "topic_name": "jobs", "destination_type": "api" })).await;
    let hook = json!({ "name": "hook", "topic_name": "jobs", "destination_type": "websocket" });
    let hook = create(&server, hook).await;
    server.publish("jobs", &[json!({ "n": 1 }), json!({ "n": 2 })]).await;
    let key =
        server.api_key(json!({"name": "w", "kind": "producer_consumer", "destinations": [own["id"]]})).await;
    let worker = caller(&server, key["token"].as_str().unwrap());
    let of = |destination: &Value| json!({ "destination_id": destination["id"], "batch_size": 1 });
    let taken = worker.call(PULL, &of(&own)).await.unwrap();
    assert_eq!(
        (taken["events"][0]["data"].as_str(), &taken["events"][0]["offset"]),
        (Some(r#"{"n":1}"#), &json!(1))
    );
    let unlock = "eventrelay.Events/UnLockQueuedEvents";
    let mut back = json!({ "destination_id": own["id"], "event_ids": ids(&taken) });
    assert_eq!(ids(&worker.call(unlock, &back).await.unwrap()), ids(&taken));
    assert_eq!(ids(&worker.call(unlock, &back).await.unwrap()).len(), 0, "it is not lent any more");
    for (destination, status) in [
        (&other, "PermissionDenied"),
        (&json!({ "id": "7" }), "InvalidArgument"),
        (&hook, "PermissionDenied"),
    ] {
        back["destination_id"] = destination["id"].clone();
        for (method, request) in [(PULL, of(destination)), (unlock, back.clone())] {
            let refused = worker.call(method, &request).await.unwrap_err();
            assert_eq!(refused.status, status, "{method}: {refused:?}");
        }
    }
    let unknown = json!({ "id": "11111111-2222-3333-4444-555555555555" });
    let refused = worker.call(PULL, &of(&unknown)).await.unwrap_err();
    assert!(refused.is("NotFound", "Destination not found"), "{refused:?}");
    assert_eq!(admin(&server).call(PULL, &of(&hook)).await.unwrap_err().status, "InvalidArgument");
    let reader = caller(&server, &server.token(&["--subscribe", "others"]).await);
    assert_eq!(reader.call(PULL, &of(&own)).await.unwrap_err().status, "PermissionDenied");
    let producer = server.api_key(json!({"name": "p", "kind": "producer", "publish": ["jobs"]})).await;
    let producer = caller(&server, producer["token"].as_str().unwrap());
    assert_eq!(producer.call(PULL, &of(&own)).await.unwrap_err().status, "PermissionDenied");
    let odd = json!({ "destination_id": own["id"], "batch_size": -1 });
    assert_eq!(worker.call(PULL, &odd).await.unwrap_err().status, "InvalidArgument");
}
