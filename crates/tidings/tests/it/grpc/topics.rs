//! EventRelay's service `Topics`, and what says which services there are.

use super::{admin, caller};
use crate::harness::Server;
use serde_json::{Value, json};

const CREATE: &str = "eventrelay.Topics/CreateTopic";
const LIST: &str = "eventrelay.Topics/ListTopics";
const DELETE: &str = "eventrelay.Topics/DeleteTopic";

#[tokio::test]
async fn a_client_that_knows_nothing_finds_all_services_and_that_they_are_well() {
    let server = Server::start().await;
    let nobody = caller(&server, "");
    let list = nobody.run(&[nobody.address.clone(), "list".into()], "").await.unwrap();
    for service in ["tidings.v1.Events", "eventrelay.Events", "eventrelay.Topics", "eventrelay.ApiKeys"] {
        assert!(list.contains(service), "{list}");
    }
    let check = "grpc.health.v1.Health/Check";
    for service in ["", "tidings.v1.Events"] {
        let well = nobody.call(check, &json!({ "service": service })).await.unwrap();
        assert_eq!(well["status"], "SERVING");
    }
    assert_eq!(nobody.call(check, &json!({ "service": "no" })).await.unwrap_err().status, "NotFound");
    let refused = nobody.call(LIST, &json!({})).await.unwrap_err();
    assert!(refused.is("Unauthenticated", "Invalid credentials: could not find bearer token"), "{refused:?}");
    assert!(refused.all.contains("token_missing"), "{refused:?}");
}

#[tokio::test]
async fn a_topic_is_created_once_listed_and_deleted_by_its_id() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let admin = admin(&server);
    let users = admin.call(CREATE, &json!({ "name": "users", "group_key": "g1" })).await.unwrap();
    let id = users["topic"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 36);
    assert_eq!((&users["topic"]["name"], &users["topic"]["groupKey"]), (&json!("users"), &json!("g1")));
    let again = admin.call(CREATE, &json!({ "name": "users" })).await.unwrap_err();
    assert!(again.is("AlreadyExists", "Topic already exists"), "{again:?}");
    // Topics that came to be by an event are listed too, and are as taken.
    server.publish("orders", &[json!({})]).await;
    let taken = admin.call(CREATE, &json!({ "name": "orders" })).await.unwrap_err();
    assert_eq!(taken.status, "AlreadyExists");
    let listed = admin.call(LIST, &json!({})).await.unwrap()["topics"].clone();
    let of = |listed: &Value, name: &str| -> Value {
        let mut found = listed.as_array().unwrap().iter().filter(|t| t["name"] == name);
        let one = found.next().unwrap_or_else(|| panic!("{name} in {listed}"))["id"].clone();
        assert!(found.next().is_none(), "{listed}");
        one
    };
    assert_eq!(of(&listed, "users"), json!(id));
    let orders = of(&listed, "orders");
    drop(admin);
    server.crash_and_restart().await;
    let admin = super::admin(&server);
    let listed = admin.call(LIST, &json!({})).await.unwrap()["topics"].clone();
    assert_eq!((of(&listed, "users"), of(&listed, "orders")), (json!(id), orders.clone()));
    for id in [json!(id), orders] {
        let gone = admin.call(DELETE, &json!({ "id": id })).await.unwrap();
        assert_eq!(gone["topic"]["id"], id);
        let unknown = admin.call(DELETE, &json!({ "id": id })).await.unwrap_err();
        assert!(unknown.is("NotFound", "Topic not found"), "{unknown:?}");
    }
    assert_eq!(admin.call(LIST, &json!({})).await.unwrap()["topics"], json!([]));
    let odd = admin.call(DELETE, &json!({ "id": "7" })).await.unwrap_err();
    assert_eq!(odd.status, "InvalidArgument");
    assert_eq!(server.get("/v1/topics/orders").await.status(), 404);
    let new = admin.call(CREATE, &json!({ "name": "users" })).await.unwrap();
    assert_ne!(new["topic"]["id"], json!(id), "a topic that comes back is another");
}

#[tokio::test]
async fn a_topic_has_1_to_50_characters_and_only_an_admin_creates_one() {
    let server = Server::start().await;
    let admin = admin(&server);
    let long = "a".repeat(50);
    admin.call(CREATE, &json!({ "name": long })).await.unwrap();
    let event = json!({ "name": "n", "data": "{}" });
    let publish = json!({ "topic": long, "durable": true, "events": [event] });
    admin.call("eventrelay.Events/PublishEvents", &publish).await.unwrap();
    let pulled = admin.call("eventrelay.Events/PullEvents", &json!({ "topic": long })).await.unwrap();
    assert_eq!(pulled["totalCount"], 1);
    let longer = admin.call(CREATE, &json!({ "name": "a".repeat(51) })).await.unwrap_err();
    assert!(longer.status == "InvalidArgument" && longer.message.contains("50"), "{longer:?}");
    for name in ["", ":1", "$dead"] {
        let refused = admin.call(CREATE, &json!({ "name": name })).await.unwrap_err();
        assert!(["InvalidArgument", "PermissionDenied"].contains(&&*refused.status), "{name}: {refused:?}");
    }
    admin.call(CREATE, &json!({ "name": "7days" })).await.unwrap();
    let token = server.token(&["--topics", "*"]).await;
    for (method, request) in [(CREATE, json!({ "name": "x" })), (LIST, json!({}))] {
        let refused = caller(&server, &token).call(method, &request).await.unwrap_err();
        assert_eq!(refused.status, "PermissionDenied");
    }
    // Nothing has been published to it yet: that is an empty page, not an unknown topic.
    let empty = admin.call("eventrelay.Events/PullEvents", &json!({ "topic": "7days" })).await.unwrap();
    assert_eq!((&empty["events"], &empty["totalCount"]), (&json!([]), &json!(0)));
    let unknown = admin.call("eventrelay.Events/PullEvents", &json!({ "topic": "no" })).await.unwrap_err();
    assert!(unknown.is("NotFound", "Topic not found"), "{unknown:?}");
}
