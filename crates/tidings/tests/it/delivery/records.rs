//! What an admin does with destinations.

use super::receiver::{Receiver, Say};
use super::*;

fn hook(name: &str) -> Value {
    json!({ "name": name, "topic": "users:1", "url": "https://example.com/in" })
}

#[tokio::test]
async fn a_destination_is_created_listed_changed_and_deleted_and_outlives_a_restart() {
    let mut server = Server::start_to_restart::<&str>(&[]).await;
    let path = server.destination(hook("first")).await;
    let queue =
        json!({ "name": "second", "topic": "users", "kind": "queue", "group_key": "acme", "paused": true });
    server.destination(queue).await;
    let shown = server.json(&path).await;
    assert_eq!(
        (&shown["kind"], &shown["paused"], &shown["behind"]),
        (&json!("webhook"), &json!(false), &json!(0))
    );
    assert!(shown.get("secrets").is_none(), "{shown}");
    let secret = server.json(&format!("{path}/secret")).await;
    assert!(secret["secret"].as_str().unwrap().starts_with("whsec_"));
    let changed =
        server.call(Method::PATCH, &path, json!({ "name": "third", "filter": "name == 'a'" })).await;
    assert_eq!((&changed["name"], &changed["filter"]), (&json!("third"), &json!("name == 'a'")));
    let changed = server.call(Method::PATCH, &path, json!({ "filter": null })).await;
    assert!(changed.get("filter").is_none());
    server.crash_and_restart().await;
    let page = server.json("/v1/destinations?limit=1").await;
    assert_eq!((&page["destinations"][0]["name"], &page["next"]), (&json!("second"), &json!("second")));
    assert_eq!(page["destinations"][0]["group_key"], "acme");
    let rest = server.json("/v1/destinations?after=second").await;
    assert_eq!(rest["destinations"][0]["name"], "third");
    assert_eq!(server.json(&format!("{path}/secret")).await, secret);
    let rotated = server.call(Method::POST, &format!("{path}/secret"), json!({})).await;
    assert_eq!(rotated["secrets"][1], secret["secret"]);
    assert_ne!(rotated["secret"], secret["secret"]);
    assert_eq!(server.send_json(Method::DELETE, &path, json!({})).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(code(server.get(&path).await).await, (404, "destination_unknown".into()));
    assert_eq!(server.json("/v1/destinations?name=third").await["destinations"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_a_destination_is_refused_and_only_admins_may_ask() {
    let server = Server::start().await;
    let path = server.destination(hook("taken")).await;
    for (fields, refusal) in [
        (hook("taken"), (409, "destination_name_taken")),
        (json!({ "name": "ab", "topic": "t", "kind": "queue" }), (400, "destination_invalid")),
        (json!({ "name": "abc", "topic": "t", "url": "http://127.0.0.1:1/" }), (400, "destination_invalid")),
        (
            json!({ "name": "abc", "topic": "t", "url": "http://169.254.169.254/" }),
            (400, "destination_invalid"),
        ),
        (
            json!({ "name": "abc", "topic": "t", "kind": "queue", "filter": "a ==" }),
            (400, "destination_invalid"),
        ),
        (json!({ "name": "abc", "topic": "t", "kind": "queue", "colour": 1 }), (400, "field_unknown")),
        (json!({ "name": "abc", "topic": "t", "kind": "pigeon" }), (400, "parameter_invalid")),
        (json!({ "name": "abc", "topic": "t", "kind": "queue", "from": "then" }), (400, "cursor_invalid")),
    ] {
        let refused = code(server.send_json(Method::POST, "/v1/destinations", fields.clone()).await).await;
        assert_eq!(refused, (refusal.0, refusal.1.into()), "{fields}");
    }
    let refused = code(server.send_json(Method::PATCH, &path, json!({ "topic": "other" })).await).await;
    assert_eq!(refused, (400, "destination_invalid".into()));
    let token = server.token(&["--topics", "*"]).await;
    for (method, path) in [
        (Method::GET, "/v1/destinations".to_owned()),
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/secret")),
        (Method::POST, format!("{path}/pause")),
        (Method::DELETE, path.clone()),
    ] {
        let refused = server.request(method, &path, &token).send().await.unwrap();
        assert_eq!(code(refused).await, (403, "forbidden".into()), "{path}");
    }
}

#[tokio::test]
async fn the_command_line_manages_destinations_and_their_deliveries() {
    let (server, receiver) = (
        Hooks::start().await,
        Receiver::start(|hit| Say::Status(if hit.number == 0 { 500 } else { 200 })).await,
    );
    let url = receiver.url();
    let create = [
        "destinations",
        "create",
        "shop",
        "orders",
        "--webhook",
        &url,
        "--set",
        "max_attempts=1",
        "--order",
        "key",
    ];
    let id = server.cli(&create, b"").await.ok().trim().to_owned();
    let listed = server.cli(&["destinations", "list"], b"").await.ok();
    assert!(listed.contains(&id) && listed.contains("webhook") && listed.contains(&url), "{listed}");
    let secret = server.cli(&["destinations", "secret", "shop"], b"").await.ok();
    assert!(secret.starts_with("whsec_") && secret.lines().count() == 1);
    let rotated = server.cli(&["destinations", "secret", &id, "--rotate"], b"").await.ok();
    assert_eq!(rotated.lines().nth(1), Some(secret.trim()));
    server.publish("orders", &[json!({ "n": 1 })]).await;
    let dead = ["destinations", "deliveries", "shop", "--status", "dead"];
    until("it is dead", async || server.cli(&dead, b"").await.ok().contains(" dead ")).await;
    assert!(server.cli(&dead, b"").await.ok().contains(" 500"));
    server.cli(&["destinations", "replay", "shop"], b"").await.ok();
    receiver.got(2).await;
    let delivered = ["destinations", "deliveries", "shop", "--status", "delivered", "--json"];
    until("it is delivered", async || {
        server.cli(&delivered, b"").await.ok().contains("\"status\":\"delivered\"")
    })
    .await;
    server.cli(&["destinations", "pause", "shop"], b"").await.ok();
    let shown: Value =
        serde_json::from_str(&server.cli(&["destinations", "show", "shop"], b"").await.ok()).unwrap();
    assert_eq!((&shown["paused"], &shown["order"]), (&json!(true), &json!("key")));
    server.cli(&["destinations", "set", "shop", "--set", "paused=false"], b"").await.ok();
    server.cli(&["destinations", "delete", "shop"], b"").await.ok();
    assert!(!server.cli(&["destinations", "list"], b"").await.ok().contains(&id));
}
