//! `POST /api/events`.

use super::{answer, one, publish, relay, token};
use crate::harness::Server;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn events_are_answered_in_their_place_and_read_by_every_other_door() {
    let server = Server::start().await;
    let mut live = server.sse("users", "from=earliest").await;
    let keys = json!({
        "user_key": "u", "anonymous_key": "a", "group_key": "g", "reference_key": "r", "trace_key": "t",
        "prev_id": "p", "source": "shop", "context": {"ip": "::1"},
    });
    let mut event =
        json!({"name": "user.created", "data": {"n": 1.0, "s": "é"}, "occurred_at": "2020-01-01T00:00:00Z"});
    event.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let body = json!({"topic": "users:123", "durable": true, "events": [event, one("x")["events"][0]]});
    let (status, said) = answer(publish(&server, &server.admin, &body).await).await;
    assert_eq!(status, 201, "{said}");
    let said = said["data"].as_array().unwrap();
    assert_eq!(
        (&said[0]["topic"], &said[0]["offset"], &said[1]["offset"]),
        (&json!("users:123"), &json!(1), &json!(2))
    );
    assert_eq!(
        (&said[0]["occurred_at"], &said[0]["errors"]),
        (&json!("2020-01-01T00:00:00.000Z"), &json!([]))
    );
    for (name, value) in keys.as_object().unwrap() {
        assert_eq!(&said[0][name], value, "{name}");
    }
    let stored = live.event().await;
    assert_eq!((&stored["id"], &stored["data"]), (&said[0]["id"], &said[0]["data"]));
    assert_eq!(
        (&stored["user"], &stored["group_key"], &stored["verified"]),
        (&json!("u"), &json!("g"), &json!(true))
    );
    let now = live.event().await;
    assert!(now["occurred_at"].as_str().unwrap() > "2026", "an event without a time happened now");
}

#[tokio::test]
async fn the_first_spelling_is_taken_and_answered_too_and_an_id_counts_once() {
    let server = Server::start().await;
    let event = json!({
        "eventId": "0190c3a6-0000-7000-8000-000000000001", "name": "n", "topic": "users:7", "source": "websocket",
        "userId": "u", "eventOccurredAt": "2020-01-01T00:00:00.000Z", "context": {}, "data": {},
    });
    let body = json!({"topic": "users", "events": [event]});
    let (status, first) = answer(publish(&server, &server.admin, &body).await).await;
    assert_eq!(status, 201);
    let said = &first["data"][0];
    for name in ["eventId", "userId", "eventOccurredAt", "name", "topic"] {
        assert_eq!(said[name], event[name], "{name}");
    }
    assert_eq!((&said["id"], &said["user_key"]), (&event["eventId"], &event["userId"]));
    assert_eq!(answer(publish(&server, &server.admin, &body).await).await.1, first, "sent again, told again");
    assert_eq!(server.read_all("users").await.len(), 1);
}

#[tokio::test]
async fn a_bad_event_comes_back_with_its_errors_and_is_kept_for_admins() {
    let server = relay().await;
    let events = json!([
        {"name": "a", "data": {}}, {"data": {}}, {"name": "b", "data": {}},
        {"name": "c", "data": {}, "occurred_at": "nonsense"}, 7,
        {"name": "d", "data": {"n": 9}, "data_schema": "{\"properties\":{\"n\":{\"minimum\":10}}}"},
    ]);
    let body = json!({"topic": "users", "events": events});
    let who = token(&json!("users"));
    let (status, said) = answer(publish(&server, &who, &body).await).await;
    assert_eq!(status, 201);
    let said = said["data"].as_array().unwrap();
    let is_good: Vec<bool> = said.iter().map(|event| event["errors"] == json!([])).collect();
    assert_eq!(is_good, [true, false, true, false, false, false], "{said:?}");
    assert_eq!(
        (&said[0]["offset"], &said[2]["offset"], &said[1]["id"]),
        (&json!(1), &json!(2), &Value::Null)
    );
    let dead = server.read_all("$dead").await;
    let dead: Vec<&Value> = dead.iter().map(|event| &event["data"]).collect();
    assert_eq!(dead.len(), 4);
    for (dead, (sent, said)) in dead.iter().zip([1, 3, 4, 5].map(|i| (&events[i], &said[i]))) {
        assert_eq!(
            (&dead["event"], &dead["errors"], &dead["topic"]),
            (sent, &said["errors"], &json!("users"))
        );
    }
    assert!(said[5]["errors"][0].as_str().unwrap().contains("/n: 9 is less than the minimum"), "{}", said[5]);
    let peek = server.request(Method::GET, "/v1/topics/$dead/events", &who).send().await.unwrap();
    assert_eq!(peek.status(), 403);
    let none = json!({"topic": "users", "events": [{}]});
    let (status, said) = answer(publish(&server, &who, &none).await).await;
    assert_eq!((status, said["data"].as_array().unwrap().len()), (400, 1));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_in_eventrelays_words() {
    let server = relay().await;
    let who = token(&json!("users"));
    let nobody = server.http.post(server.url("/api/events")).json(&one("users")).send().await.unwrap();
    assert_eq!(answer(nobody).await, (401, json!({"errors": ["Unauthorized"]})));
    assert_eq!(answer(publish(&server, "no token", &one("users")).await).await.0, 401);
    let foreign = answer(publish(&server, &who, &one("orders")).await).await;
    let text = "You are not permitted to perform this action for topic=\"orders\"";
    assert_eq!(foreign, (403, json!({"errors": [text]})));
    assert_eq!(answer(publish(&server, &server.admin, &one("$dead")).await).await.0, 403);
    for body in [json!({"topic": "", "events": []}), json!({"events": []})] {
        assert_eq!(
            answer(publish(&server, &who, &body).await).await,
            (409, json!({"errors": ["A topic must be provided"]}))
        );
    }
    for body in
        [json!({"topic": "users"}), json!({"topic": "users", "durable": "perhaps", "events": []}), json!(7)]
    {
        let (status, said) = answer(publish(&server, &who, &body).await).await;
        assert!(status == 400 && !said["errors"][0].as_str().unwrap().is_empty(), "{body}: {said}");
    }
    let broken = server.request(Method::POST, "/api/events", &who).body("{").send().await.unwrap();
    assert_eq!(answer(broken).await.0, 400);
    assert_eq!(
        answer(publish(&server, &who, &json!({"topic": "users", "events": []})).await).await,
        (201, json!({"data": []}))
    );
}

#[tokio::test]
async fn a_topic_has_fifty_characters_and_may_begin_with_a_digit() {
    let server = Server::start().await;
    let status = |topic: String| {
        let server = &server;
        async move { answer(publish(server, &server.admin, &one(&topic)).await).await }
    };
    assert_eq!(status("x".repeat(50)).await.0, 201);
    assert_eq!(server.read_all(&"x".repeat(50)).await.len(), 1);
    let (refused, said) = status("x".repeat(51)).await;
    assert!(refused == 400 && said["errors"][0].as_str().unwrap().contains("at most 50"), "{said}");
    assert_eq!(status("7up".into()).await.0, 201);
}

#[tokio::test]
async fn what_is_not_durable_reaches_those_who_listen_and_is_not_stored() {
    let server = Server::start().await;
    let mut live = server.sse("users", "from=latest").await;
    let mut body = one("users:1");
    body["durable"] = json!("no");
    let (status, said) = answer(publish(&server, &server.admin, &body).await).await;
    assert_eq!((status, &said["data"][0]["offset"]), (201, &Value::Null));
    let event = live.event().await;
    assert_eq!((&event["id"], &event["data"]), (&said["data"][0]["id"], &json!({"n": 1})));
    assert_eq!(server.get("/v1/topics/users/events").await.status(), 404, "nothing is stored");
    body.as_object_mut().unwrap().remove("durable");
    assert_eq!(answer(publish(&server, &server.admin, &body).await).await.0, 201);
    assert_eq!(server.read_all("users").await.len(), 1, "durable where nothing is said");
}
