//! Users, inserts, lists and cancelling.

use super::*;
use crate::harness::until;
use base64::Engine as _;

#[tokio::test]
async fn a_name_is_taken_once() {
    let server = Server::start_with(&OPEN).await;
    let body = json!({"username": "ann", "password": "correct horse", "collection_id": A});
    let all: Vec<_> = (0..20).map(|_| post(&server, "/users", "", &body)).collect();
    let answers = futures_util::future::join_all(all).await;
    let (made, taken): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert_eq!(made.len(), 1);
    for answer in made {
        let id = json_of(answer, 200).await["id"].as_str().unwrap().to_owned();
        id.parse::<uuid::Uuid>().unwrap();
    }
    for answer in taken {
        assert_eq!(json_of(answer, 400).await["error"], "username already taken");
    }
}

#[tokio::test]
async fn a_login_gives_a_token_and_a_failed_one_tells_nothing() {
    let server = Server::start_with(&["--expiry", "1234"]).await;
    let ann = user(&server, "ann", A).await;
    let part = |n| {
        let text = ann.token.split('.').nth(n).unwrap();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()
    };
    assert_eq!((part(0)["alg"].as_str(), part(0)["typ"].as_str()), (Some("HS256"), Some("JWT")));
    assert_eq!((part(1)["sub"].as_str(), part(1)["company"].as_str()), (Some(ann.id.as_str()), Some("")));
    let left = part(1)["exp"].as_i64().unwrap() - now() - 1234;
    assert!((-2..=2).contains(&left), "{left}");
    let mut said = Vec::new();
    for (name, password) in [("ann", "wrong horse"), ("nobody", "correct horse")] {
        let body = json!({"username": name, "password": password});
        said.push(json_of(post(&server, "/login", "", &body).await, 401).await);
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn what_is_due_is_published_and_what_is_not_waits() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let past = insert(&server, &ann.token, "user", A, 1000, json!({"n": 1})).await;
    let fields: Vec<&str> = past.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["cancelled", "collection_id", "data", "event", "id", "published", "timestamp", "user_id"]
    );
    assert_eq!((&past["published"], &past["cancelled"]), (&json!(false), &json!(false)));
    assert_eq!((&past["user_id"], &past["timestamp"]), (&json!(ann.id), &json!(1000)));
    let list = collection(&server, &ann.token, A).await;
    assert_eq!(list.len(), 1);
    assert_eq!((&list[0]["id"], &list[0]["published"]), (&past["id"], &json!(true)));

    let at = now() + 2;
    let later = insert(&server, &ann.token, "user", A, at, json!({"n": 2})).await;
    assert_eq!(collection(&server, &ann.token, A).await[1], later);
    let mut live = Events::open(&server, &ann.token).await;
    assert_eq!(live.next().await.data(), [json!({"n": 1})]);
    let frame = live.next().await;
    assert_eq!(frame.data(), [json!({"n": 2})]);
    let late = now() - at;
    assert!((0..=1).contains(&late), "{late} s after its time");
    let list = collection(&server, &ann.token, A).await;
    assert_eq!((&list[1]["id"], &list[1]["published"]), (&later["id"], &json!(true)));
}

#[tokio::test]
async fn a_cancelled_event_never_appears_and_stays_in_the_lists() {
    let mut server = Server::start_to_restart(&OPEN).await;
    let (ann, bob) = (user(&server, "ann", A).await, user(&server, "bob", B).await);
    let at = now() + 3;
    let event = insert(&server, &ann.token, "user", A, at, json!({"secret": 1})).await;
    let kept = insert(&server, &ann.token, "user", A, at, json!({"kept": 1})).await;
    let path = format!("/cancel/{}", event["id"].as_str().unwrap());
    let foreign = json_of(get(&server, &path, &bob.token).await, 403).await;
    assert_eq!(foreign["code"], "forbidden");
    for _ in 0..2 {
        let cancelled = json_of(get(&server, &path, &ann.token).await, 200).await["event"].clone();
        assert_eq!((&cancelled["cancelled"], &cancelled["published"]), (&json!(true), &json!(false)));
        assert_eq!((&cancelled["id"], &cancelled["data"]), (&event["id"], &event["data"]));
    }
    assert_eq!(json_of(get(&server, &path, &bob.token).await, 403).await["code"], "forbidden");

    server.crash_and_restart().await;
    let mut live = Events::open(&server, &ann.token).await;
    let frame = live.next().await;
    assert_eq!(frame.data(), [json!({"kept": 1})], "the cancelled one would have come with it");
    let list = collection(&server, &ann.token, A).await;
    let states: Vec<_> = list.iter().map(|e| (&e["published"], &e["cancelled"], &e["data"])).collect();
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(states, [(&no, &yes, &event["data"]), (&yes, &no, &kept["data"])]);

    for (id, status) in [(kept["id"].as_str().unwrap(), 404), (A, 404), ("nonsense", 404)] {
        let answer = get(&server, &format!("/cancel/{id}"), &ann.token).await;
        assert_eq!(json_of(answer, status).await["code"], "scheduled_unknown");
    }
}

#[tokio::test]
async fn each_user_has_own_events_and_those_of_the_own_collection() {
    let server = Server::start_with(&OPEN).await;
    let (ann, bob) = (user(&server, "ann", A).await, user(&server, "bob", B).await);
    for (who, key, at, n) in [(&ann, A, 30, 1), (&bob, A, 10, 2), (&ann, B, 20, 3), (&ann, A, 10, 4)] {
        insert(&server, &who.token, "user", key, at, json!({"n": n})).await;
    }
    let numbers = |list: &Value| -> Vec<i64> {
        list.as_array().unwrap().iter().map(|e| e["data"]["n"].as_i64().unwrap()).collect()
    };
    let own = json_of(get(&server, "/user_events", &ann.token).await, 200).await;
    assert_eq!((numbers(&own["info"]), numbers(&own["events"])), (vec![2, 4, 1], vec![4, 3, 1]));
    let own = json_of(get(&server, "/user_events", &bob.token).await, 200).await;
    assert_eq!((numbers(&own["info"]), numbers(&own["events"])), (vec![3], vec![2]));
    // Ids are the same in either case, and one that nobody has used is empty.
    assert_eq!(collection(&server, &bob.token, &A.to_uppercase()).await.len(), 3);
    assert!(collection(&server, &bob.token, "cccccccc-0000-4000-8000-000000000003").await.is_empty());
    assert!(collection(&server, &bob.token, "no-uuid").await.is_empty());
}

#[tokio::test]
async fn a_list_has_the_newest_within_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[limits]\nbroker_list_events = 3\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap(), "--expiry", "60"]).await;
    let ann = user(&server, "ann", A).await;
    for n in 0..5 {
        insert(&server, &ann.token, "user", A, n, json!(n)).await;
    }
    let answer = get(&server, &format!("/collections/{A}"), &ann.token).await;
    assert_eq!(answer.headers()["tidings-truncated"], "true");
    let events = json_of(answer, 200).await["events"].clone();
    let numbers: Vec<&Value> = events.as_array().unwrap().iter().map(|e| &e["data"]).collect();
    assert_eq!(numbers, [&json!(2), &json!(3), &json!(4)]);
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_its_user() {
    let server = Server::start_with(&["--expiry", "2"]).await;
    let ann = user(&server, "ann", A).await;
    insert(&server, &ann.token, "user", A, 1, json!({})).await;
    let mut live = Events::open(&server, &ann.token).await;
    live.next().await;
    assert!(soon("the end", live.try_next()).await.is_none());
    until("the token to be refused", || async {
        get(&server, "/user_events", &ann.token).await.status() == 401
    })
    .await;

    let bob = user(&server, "bob", B).await;
    let mut live = Events::open(&server, &bob.token).await;
    live.next().await;
    let revoke = server.request(Method::POST, &format!("/v1/users/{}/revoke", bob.id), &server.admin);
    assert!(revoke.send().await.unwrap().status().is_success());
    assert!(soon("the end", live.try_next()).await.is_none());
    assert_eq!(json_of(get(&server, "/user_events", &bob.token).await, 401).await["code"], "token_revoked");
}
