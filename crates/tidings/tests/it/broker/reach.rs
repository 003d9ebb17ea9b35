//! Which topics Broker's interface reaches, and that they are topics like any other.

use super::*;
use crate::harness::code;

#[tokio::test]
async fn a_topic_is_the_same_through_both_interfaces() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let event = insert(&server, &ann.token, "user", A, 1_700_000_000, json!({"a": 1})).await;
    let native = &server.read_all("user").await[0];
    assert_eq!((&native["id"], &native["topic"]), (&event["id"], &json!(format!("user:{A}"))));
    assert_eq!((&native["user"], &native["data"]), (&event["user_id"], &event["data"]));
    assert_eq!(native["occurred_at"], "2023-11-14T22:13:20.000Z");

    let mut live = Events::open(&server, &ann.token).await;
    live.next().await;
    let body = json!({"key": A, "data": {"a": 2}, "user": ann.id});
    assert_eq!(server.post("user", &server.admin, body.to_string()).await.status(), 201);
    assert_eq!(live.next().await.data(), [json!({"a": 2})]);
    let own = json_of(get(&server, "/user_events", &ann.token).await, 200).await;
    assert_eq!((own["info"].as_array().unwrap().len(), own["events"].as_array().unwrap().len()), (2, 2));

    // Scheduled here, cancelled there.
    let later = insert(&server, &ann.token, "user", A, now() + 1000, json!({"a": 3})).await;
    let path = format!("/v1/scheduled/{}", later["id"].as_str().unwrap());
    let gone = server.request(Method::DELETE, &path, &ann.token).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(collection(&server, &ann.token, A).await.last().unwrap()["cancelled"], true);
}

#[tokio::test]
async fn users_reach_only_what_began_there_or_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[broker]\ntopics = [\"shared\"]\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap(), "--expiry", "60"]).await;
    let ann = user(&server, "ann", A).await;
    for topic in ["orders", "shared"] {
        let body = json!({"key": A, "data": {"of": topic}});
        assert_eq!(server.post(topic, &server.admin, body.to_string()).await.status(), 201);
    }
    let planned = server.request(Method::PUT, "/v1/topics/planned", &server.admin).body("{\"state\":false}");
    assert!(planned.send().await.unwrap().status().is_success());
    for (name, refused) in [("orders", "forbidden"), ("planned", "forbidden"), ("$broker", "forbidden")] {
        let body = json!({"event": name, "collection_id": A, "timestamp": 1, "data": {}});
        assert_eq!(json_of(post(&server, "/insert", &ann.token, &body).await, 403).await["code"], refused);
    }
    insert(&server, &ann.token, "shared", B, 1, json!({"n": 1})).await;
    // Retention set later leaves a topic reachable; it is taken away only where that is said.
    insert(&server, &ann.token, "mine", A, 1, json!({})).await;
    for (settings, status) in [("{\"retention\":{\"events\":10}}", 200), ("{\"broker\":false}", 403)] {
        let set = server.request(Method::PUT, "/v1/topics/mine", &server.admin).body(settings);
        assert!(set.send().await.unwrap().status().is_success());
        let body = json!({"event": "mine", "collection_id": A, "timestamp": 1, "data": {}});
        assert_eq!(post(&server, "/insert", &ann.token, &body).await.status(), status);
    }
    let mut live = Events::open(&server, &ann.token).await;
    let frame = live.next().await;
    assert_eq!((frame.name.as_str(), frame.data().len()), ("shared", 2));
    assert!(live.is_silent(Duration::from_millis(300)).await);
    // What a user has through Broker's interface is no grant elsewhere.
    let native = server.post("shared", &ann.token, "{}").await;
    assert_eq!(code(native).await, (403, "forbidden".into()));
    let native = get(&server, "/v1/topics/shared/events", &ann.token).await;
    assert_eq!(code(native).await, (403, "forbidden".into()));
}

#[tokio::test]
async fn other_tokens_need_the_grant() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    for name in ["one", "two"] {
        insert(&server, &ann.token, name, A, 1, json!({"name": name})).await;
    }
    let token = server.token(&["--topics", "one", "--sub", "somebody"]).await;
    let mut live = Events::open(&server, &token).await;
    assert_eq!(live.next().await.name, "one");
    insert(&server, &ann.token, "two", A, 2, json!({})).await;
    insert(&server, &token, "one", A, 2, json!({"by": "somebody"})).await;
    assert_eq!(live.next().await.data(), [json!({"by": "somebody"})]);
    let body = json!({"event": "two", "collection_id": A, "timestamp": 1, "data": {}});
    assert_eq!(json_of(post(&server, "/insert", &token, &body).await, 403).await["code"], "forbidden");
    let names: Vec<Value> = collection(&server, &token, A).await.iter().map(|e| e["event"].clone()).collect();
    assert_eq!(names, ["one", "one"]);
}

#[tokio::test]
async fn it_can_be_switched_off_and_sign_up_is_closed_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[broker]\nenabled = false\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]).await;
    for path in ["/events", "/user_events", "/cancel/x", "/collections/x"] {
        assert_eq!(code(server.get(path).await).await, (404, "not_found".into()));
    }
    let server = Server::start().await;
    let body = json!({"username": "ann", "password": "correct horse", "collection_id": A});
    assert_eq!(json_of(post(&server, "/users", "", &body).await, 403).await["code"], "sign_up_closed");
}
