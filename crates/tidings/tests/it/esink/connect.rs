//! Who is let in, and what is said to those who are not.

use super::*;

#[tokio::test]
async fn whoever_shows_a_token_is_connected_and_everybody_else_is_told_and_put_out() {
    let server = server(&esink("")).await;
    let good = token(&server, "101").await;
    let mut clients = Clients::node();
    for way in WAYS {
        let verdict = clients.enter("in", &server.url(""), way, &good).await["args"][0].clone();
        assert_eq!((&verdict["code"], &verdict["userId"]), (&json!(200), &json!("101")), "{way:?}");
        assert_eq!(verdict["message"], "Successfully connected.");
        assert!(verdict["sessionId"].as_str().unwrap().len() == 36, "{verdict}");
        clients.disconnect("in").await;
        for (n, auth) in
            [json!({}), json!({"token": "wrong"}), json!({"token": {"token": good}}), json!({"token": 7})]
                .into_iter()
                .enumerate()
        {
            let name = format!("out-{n}");
            clients.connect(&name, &server.url(""), way, auth).await;
            // The transport connects first, and the verdict is an event after that.
            clients.event(&name, "connect").await;
            let verdict = clients.event(&name, "error").await["args"][0].clone();
            assert_eq!(verdict, json!({"code": 401, "message": "Unauthorized"}), "{way:?} {n}");
            assert_eq!(clients.event(&name, "disconnect").await["args"][0], "io server disconnect");
        }
    }
    clients.end().await;
}

#[tokio::test]
async fn the_token_test_is_refused_unless_it_is_allowed_and_then_brings_sample_data() {
    let mut clients = Clients::node();
    let closed = server(&esink("")).await;
    clients.connect("closed", &closed.url(""), Way::WebSocket, json!({"token": "TEST"})).await;
    assert_eq!(clients.event("closed", "error").await["args"][0]["code"], 401);
    let open = server(&esink("test_token = true")).await;
    for way in WAYS {
        let verdict = clients.enter("open", &open.url(""), way, "TEST").await;
        assert_eq!(verdict["args"][0]["userId"], "-1");
        for kind in ["insert", "update", "delete"] {
            let (table, change) = (clients.any("open").await, clients.any("open").await);
            assert_eq!((&table["event"], &change["event"]), (&json!("users"), &json!("changes")));
            assert_eq!(table["args"], change["args"]);
            assert_eq!(change["args"][0]["type"], kind);
            assert_eq!(change["args"][0]["data"]["id"], -1);
        }
        clients.disconnect("open").await;
    }
    clients.end().await;
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_connects_over_polling_and_websocket() {
    let (mut clients, origin) = Clients::page().await;
    let flags = settings(&esink(""));
    let server = Server::start_with(&[&flags[0], &flags[1], "--origin", &origin]).await;
    let (good, url) = (token(&server, "101").await, format!("http://localhost:{}", server.port()));
    for (n, way) in WAYS.into_iter().enumerate() {
        let name = format!("page-{n}");
        clients.enter(&name, &url, way, &good).await;
        if way == Way::Both {
            while clients.event(&name, "transport").await["args"][0] != "websocket" {}
        }
        assert_eq!(publish(&server, &change("101", json!({}))).await.0, 200);
        let (table, all) = (clients.any(&name).await, clients.any(&name).await);
        assert_eq!((&table["event"], &all["event"]), (&json!("users"), &json!("changes")));
        assert_eq!(all["args"][0]["data"], json!({"id": 7, "name": "Ada"}));
        clients.disconnect(&name).await;
        clients.event(&name, "disconnect").await;
    }
    // A page from elsewhere may not poll.
    let other = format!("http://127.0.0.1:{}", server.port());
    let response = server.http.get(format!("{other}/socket.io/?EIO=4&transport=polling"));
    let response = response.header("origin", "http://elsewhere.example").send().await.unwrap();
    assert!(!response.headers().contains_key("access-control-allow-origin"));
    clients.end().await;
}

#[tokio::test]
async fn a_revoked_user_is_put_out_at_once_on_either_transport() {
    let server = server(&esink("")).await;
    let new = json!({"name": "eve", "password": "correct horse", "subscribe": ["esink"]});
    let made =
        server.request(reqwest::Method::POST, "/v1/users", &server.admin).json(&new).send().await.unwrap();
    let (status, user) = json_of(made).await;
    assert_eq!(status, 201, "{user}");
    let login = json!({"name": "eve", "password": "correct horse"});
    let login = server.http.post(server.url("/v1/login")).json(&login).send().await.unwrap();
    let token = json_of(login).await.1["token"].as_str().unwrap().to_owned();
    let mut clients = Clients::node();
    for way in [Way::Polling, Way::WebSocket] {
        clients.enter(&format!("{way:?}"), &server.url(""), way, &token).await;
    }
    let path = format!("/v1/users/{}/revoke", user["id"].as_str().unwrap());
    let done = server.request(reqwest::Method::POST, &path, &server.admin).send().await.unwrap();
    assert!(done.status().is_success());
    for way in [Way::Polling, Way::WebSocket] {
        let name = format!("{way:?}");
        assert_eq!(clients.event(&name, "error").await["args"][0]["code"], 401, "{name}");
        assert_eq!(clients.event(&name, "disconnect").await["args"][0], "io server disconnect", "{name}");
    }
    clients.end().await;
}
