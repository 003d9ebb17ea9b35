//! `POST /publish`, `GET /ping`, and `event`.

use super::*;

#[tokio::test]
async fn a_change_reaches_all_connections_of_its_user_and_nobody_else() {
    let server = server(&esink("default_source = \"shop\"")).await;
    let (ann, bob) = (token(&server, "ann").await, token(&server, "bob").await);
    let mut clients = Clients::node();
    for way in WAYS {
        let names = ["one", "two", "other"].map(|name| format!("{name}-{way:?}"));
        let mut sessions = Vec::new();
        for (name, token) in names.iter().zip([&ann, &ann, &bob]) {
            let verdict = clients.enter(name, &server.url(""), way, token).await;
            sessions.push(verdict["args"][0]["sessionId"].clone());
        }
        let (status, answer) = publish(&server, &change("ann", json!({}))).await;
        assert_eq!((status, &answer["code"]), (200, &json!(200)), "{answer}");
        assert_eq!(answer["message"], "Message queued for publishing");
        let sent_to = answer["sentTo"].as_array().unwrap();
        assert!(sent_to.len() == 2 && sessions[..2].iter().all(|one| sent_to.contains(one)), "{answer}");
        for name in &names[..2] {
            let (table, all) = (clients.any(name).await, clients.any(name).await);
            assert_eq!((&table["event"], &all["event"]), (&json!("users"), &json!("changes")));
            assert_eq!(table["args"], all["args"]);
            let sent = &all["args"][0];
            assert_eq!(sent["id"], answer["id"]);
            assert_eq!(sent["data"], json!({"id": 7, "name": "Ada"}));
            assert_eq!((&sent["table"], &sent["type"]), (&json!("users"), &json!("insert")));
            assert_eq!((&sent["source"], &sent["source_type"]), (&json!("shop"), &json!("api")));
            assert_eq!(sent["version"], 1);
            assert!(sent["timestamp"].as_u64().unwrap() > 1_700_000_000_000, "{sent}");
        }
        // Everybody is told next; had the other got the first, it would have come before.
        let more = json!({"source": "s", "version": 7, "timestamp": null, "table": "news"});
        let (_, answer) = publish(&server, &change("*", more)).await;
        assert!(answer["sentTo"].as_array().unwrap().len() >= 3);
        for name in &names {
            let (table, all) = (clients.any(name).await, clients.any(name).await);
            assert_eq!((&table["event"], &all["event"]), (&json!("news"), &json!("changes")), "{name}");
            let sent = &all["args"][0];
            assert_eq!((&sent["source"], &sent["version"]), (&json!("s"), &json!(7)));
            assert!(sent["timestamp"].is_null() && sent.as_object().unwrap().contains_key("timestamp"));
        }
        for name in &names {
            clients.disconnect(name).await;
            clients.event(name, "disconnect").await;
        }
    }
    clients.end().await;
}

#[tokio::test]
async fn a_body_is_judged_before_the_token_and_each_refusal_has_its_status() {
    let server = server(&esink("")).await;
    for key in ["data", "type", "table", "userId", "securityToken"] {
        let mut body = change("ann", json!({"securityToken": "wrong"}));
        body.as_object_mut().unwrap().remove(key);
        let (status, answer) = publish(&server, &body).await;
        assert_eq!((status, &answer["code"]), (400, &json!(400)));
        assert_eq!((&answer["type"], &answer["key"]), (&json!("ValidationError"), &json!(key)));
        assert_eq!(answer["message"], format!("body.{key} attribute is required"));
        assert!(answer["error"].is_object());
    }
    let (status, answer) = publish(&server, &change("ann", json!({"data": []}))).await;
    assert_eq!((status, &answer["message"]), (400, &json!("body.data attribute must be an object")));
    let (status, answer) = publish(&server, &change("ann", json!({"type": "$x"}))).await;
    assert_eq!((status, &answer["code"]), (400, &json!(400)), "{answer}");
    let (status, answer) = publish(&server, &change("ann", json!({"securityToken": "wrong"}))).await;
    assert_eq!(
        (status, answer),
        (401, json!({"code": 401, "message": "Unauthorized, invalid security token"}))
    );
    for (body, expected) in
        [("{".to_owned(), 400), (format!("{{\"data\":\"{}\"}}", "x".repeat(110_000)), 413)]
    {
        let sent = server.http.post(server.url("/publish")).header("content-type", "application/json");
        let (status, answer) = json_of(sent.body(body).send().await.unwrap()).await;
        assert_eq!((status, &answer["code"]), (expected, &json!(expected)), "{answer}");
    }
    for user in ["constructor", "__proto__", "toString", "nobody"] {
        let (status, answer) = publish(&server, &change(user, json!({}))).await;
        assert_eq!((status, &answer["sentTo"]), (200, &json!([])), "{user}");
    }
    let without = Server::start().await;
    let (status, answer) = publish(&without, &change("ann", json!({}))).await;
    assert_eq!((status, &answer["code"]), (403, &json!(403)));
    assert!(!server.log().contains(SECURITY));
}

#[tokio::test]
async fn ping_is_answered_in_plain_text() {
    let server = Server::start().await;
    let response = server.http.get(server.url("/ping")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(response.text().await.unwrap(), "pong");
    // Not started as Esink is: an unknown path is answered as everywhere.
    let missing = server.http.get(server.url("/nowhere")).send().await.unwrap();
    assert_eq!(crate::harness::code(missing).await, (404, "not_found".into()));
}

#[tokio::test]
async fn clients_publish_to_themselves_only_where_that_is_allowed() {
    let mut clients = Clients::node();
    let body = change("somebody else", json!({"table": "notes", "type": "update"}));
    let closed = server(&esink("")).await;
    clients.enter("closed", &closed.url(""), Way::WebSocket, &token(&closed, "ann").await).await;
    clients.emit("closed", "event", json!([body])).await;
    assert_eq!(clients.event("closed", "error").await["args"][0]["code"], 403);
    assert!(closed.json("/v1/topics").await["topics"].as_array().unwrap().is_empty());

    let open = server(&esink("allow_republishing = true")).await;
    for way in WAYS {
        let (ann, bob) = (format!("ann-{way:?}"), format!("bob-{way:?}"));
        clients.enter(&ann, &open.url(""), way, &token(&open, "ann").await).await;
        clients.enter(&bob, &open.url(""), way, &token(&open, "somebody else").await).await;
        clients.emit(&ann, "event", json!([body])).await;
        let (table, all) = (clients.any(&ann).await, clients.any(&ann).await);
        assert_eq!((&table["event"], &all["event"]), (&json!("notes"), &json!("changes")));
        let sent = &all["args"][0];
        assert_eq!((&sent["source"], &sent["source_type"]), (&json!("socketio"), &json!("socketio")));
        assert!(!sent.to_string().contains(SECURITY), "{sent}");
        let mut bad = body.clone();
        bad["table"] = json!("x".repeat(65));
        clients.emit(&ann, "event", json!([bad])).await;
        let error = clients.event(&ann, "error").await["args"][0].clone();
        assert_eq!((&error["code"], &error["type"]), (&json!(400), &json!("ValidationError")));
        assert_eq!((&error["key"], &error["message"]), (&json!("table"), &json!("Invalid parameters given")));
        assert_eq!(error["originalBody"]["type"], "update");
        // The other has got nothing of all this.
        publish(&open, &change("*", json!({"table": "end"}))).await;
        assert_eq!(clients.any(&bob).await["event"], "end");
        for name in [&ann, &bob] {
            clients.disconnect(name).await;
            clients.event(name, "disconnect").await;
        }
    }
    clients.end().await;
}

#[tokio::test]
async fn filtered_columns_leave_neither_in_events_nor_in_the_log() {
    let server = server(&esink("filters = [\"users.password\"]")).await;
    let mut clients = Clients::node();
    clients.enter("ann", &server.url(""), Way::WebSocket, &token(&server, "ann").await).await;
    let data = json!({"data": {"id": 1, "password": "hush", "nested": {"password": "stays"}}});
    publish(&server, &change("ann", data)).await;
    let sent = clients.event("ann", "changes").await["args"][0]["data"].clone();
    assert_eq!(sent, json!({"id": 1, "nested": {"password": "stays"}}));
    assert!(!format!("{:?}", server.read_all("esink").await).contains("hush"));
    clients.end().await;
}
