//! How channels begin, end and begin again.

use super::client::Node;
use super::server;
use crate::harness::Server;
use serde_json::json;

#[tokio::test]
async fn a_client_is_there_again_after_the_server_was_down() {
    let (mut server, _dir) = server("").await;
    let admin = server.admin.clone();
    let mut node = Node::start();
    for version in [1, 2] {
        node.connect(&server, &format!("live{version}"), version).await;
        node.join(&format!("live{version}"), "events:users", &admin).await;
    }
    node.connect(&server, "resuming", 2).await;
    let join = json!({
        "do": "join", "socket": "resuming", "topic": "events:users", "resume": true,
        "params": {"token": admin, "from": "latest"},
    });
    node.tell(join).await;
    assert!(node.hear("joined", "resuming").await["response"]["cursor"].is_string());
    server.kill().await;
    for socket in ["live1", "live2", "resuming"] {
        node.hear("down", socket).await;
    }
    server.launch().await;
    // The clients come back by themselves, one later than the other; who goes on at its cursor misses nothing.
    server.publish("users", &[json!("in between")]).await;
    for socket in ["live1", "live2", "resuming"] {
        node.hear("open", socket).await;
        node.hear("joined", socket).await;
    }
    server.publish("users", &[json!("after")]).await;
    assert_eq!(node.event("resuming").await.1["data"], "in between");
    assert_eq!(node.event("resuming").await.1["data"], "after");
    for socket in ["live1", "live2"] {
        let mut data = node.event(socket).await.1["data"].take();
        if data == "in between" {
            data = node.event(socket).await.1["data"].take(); // It was back that soon.
        }
        assert_eq!(data, "after", "{socket}");
    }
}

#[tokio::test]
async fn what_was_missed_is_not_sent_unless_a_cursor_asks_for_it() {
    let server = Server::start().await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    server.publish("users", &[json!(1), json!(2)]).await;
    node.join("s", "events:users", &server.admin).await;
    server.publish("users", &[json!(3)]).await;
    let first = node.event("s").await.1;
    assert_eq!(first["data"], 3);
    node.tell(json!({"do": "leave", "socket": "s", "topic": "events:users"})).await;
    node.hear("left", "s").await;
    server.publish("users", &[json!(4)]).await;
    node.try_join("s", "topic:users", json!({"token": server.admin, "cursor": first["cursor"]})).await;
    assert_eq!(node.event("s").await.1["data"], 4);
    // A cursor of another transport leads on here as well.
    let page = server.json("/v1/topics/users/events?limit=1").await;
    node.try_join("s", "events:users", json!({"token": server.admin, "cursor": page["cursor"]})).await;
    for data in [2, 3, 4] {
        assert_eq!(node.event("s").await.1["data"], data);
    }
}

#[tokio::test]
async fn a_channel_ends_with_its_token_and_the_socket_goes_on() {
    let server = Server::start().await;
    let mut node = Node::start();
    node.connect(&server, "s", 2).await;
    let short = server.token(&["--subscribe", "users", "--ttl", "2s"]).await;
    node.join("s", "topic:orders", &server.admin).await;
    node.join("s", "events:users", &short).await;
    let end = node.hear("error", "s").await;
    assert_eq!((&end["topic"], &end["payload"]["reason"]), (&json!("events:users"), &json!("token_expired")));
    // The client tries again with what it has.
    assert_eq!(node.hear("refused", "s").await["response"]["reason"], "unauthorized");
    server.publish("orders", &[json!(1)]).await;
    server.publish("users", &[json!(1)]).await;
    assert_eq!(node.event("s").await.0, "topic:orders");
    // A user's channels end when the user is revoked, and when a grant goes.
    let user = json!({"name": "ann", "password": "a good password", "subscribe": ["users", "orders"]});
    let answer =
        server.request(reqwest::Method::POST, "/v1/users", &server.admin).json(&user).send().await.unwrap();
    let user: serde_json::Value = answer.json().await.unwrap();
    let login = json!({"name": "ann", "password": "a good password"});
    let answer = server.http.post(server.url("/v1/login")).json(&login).send().await.unwrap();
    let login: serde_json::Value = answer.json().await.unwrap();
    let token = login["token"].as_str().unwrap();
    node.connect(&server, "ann", 2).await;
    node.join("ann", "events:users", token).await;
    node.join("ann", "events:orders", token).await;
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap());
    let patch =
        server.request(reqwest::Method::PATCH, &path, &server.admin).json(&json!({"subscribe": ["users"]}));
    assert_eq!(patch.send().await.unwrap().status(), 200);
    let end = node.hear("close", "ann").await;
    assert_eq!((&end["topic"], &end["payload"]["reason"]), (&json!("events:orders"), &json!("forbidden")));
    server.publish("users", &[json!(2)]).await;
    assert_eq!(node.event("ann").await.1["data"], 2);
    let revoke = server.request(reqwest::Method::POST, &format!("{path}/revoke"), &server.admin);
    assert_eq!(revoke.send().await.unwrap().status(), 200);
    let end = node.hear("close", "ann").await;
    assert_eq!((&end["topic"], &end["payload"]["reason"]), (&json!("events:users"), &json!("token_revoked")));
    // The socket still is there.
    node.join("ann", "events:users", &server.admin).await;
}

#[tokio::test]
async fn a_thousand_sockets_get_one_event_each() {
    let server = Server::start().await;
    let mut node = Node::start();
    let crowd = json!({
        "do": "crowd", "count": 1000, "version": 2, "url": server.url(""), "topic": "events:users",
        "params": {"token": server.token(&["--subscribe", "users"]).await},
    });
    node.tell(crowd).await;
    node.hear("crowd", "").await;
    server.publish("users", &[json!({"n": 1})]).await;
    assert_eq!(node.hear("round", "").await["events"], 1);
    node.tell(json!({"do": "crowd_leave", "index": 7})).await;
    node.hear("crowd_left", "").await;
    server.publish("users", &[json!({"n": 2})]).await;
    assert_eq!(node.hear("round", "").await["events"], 2);
    node.tell(json!({"do": "crowd_counts"})).await;
    let counts = node.hear("counts", "").await;
    let counts = counts["counts"].as_array().unwrap();
    let ones: Vec<usize> = (0..1000).filter(|i| counts[*i] == 1).collect();
    assert_eq!((counts.len(), ones), (1000, vec![7]), "{counts:?}");
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("tidings_streams{kind=\"phoenix\"} 1000"), "{metrics}");
}
