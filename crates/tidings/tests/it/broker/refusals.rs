//! Bad input is answered clearly, never with a dropped connection.

use super::*;

#[tokio::test]
async fn no_token_or_a_bad_one_is_401_everywhere() {
    let server = Server::start_with(&["--expiry", "1"]).await;
    let ann = user(&server, "ann", A).await;
    soon("the token to end", async {
        while get(&server, "/user_events", &ann.token).await.status() != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let full = json!({"event": "user", "collection_id": A, "timestamp": 1, "data": {}});
    for (method, path) in [
        ("GET", "/events"),
        ("GET", "/events/112718d1-a0be-4468-b902-0749c3d964ae"),
        ("POST", "/insert"),
        ("GET", "/collections/x"),
        ("GET", "/user_events"),
        ("GET", "/cancel/x"),
    ] {
        let expired = format!("Bearer {}", ann.token);
        for (header, code) in [
            (None, "token_missing"),
            (Some("foo"), "token_invalid"),
            (Some("Bearer 1234"), "token_invalid"),
            (Some("Basic YTpi"), "token_invalid"),
            (Some(""), "token_invalid"),
            (Some(expired.as_str()), "token_expired"),
        ] {
            let mut request =
                server.http.request(method.parse().unwrap(), server.url(path)).body(full.to_string());
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let said = json_of(request.send().await.unwrap(), 401).await;
            assert!(said["code"] == code && said["error"].is_string(), "{method} {path} {header:?}: {said}");
        }
    }
}

#[tokio::test]
async fn every_field_that_is_missing_or_wrong_is_named() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let good = json!({"event": "user", "collection_id": A, "timestamp": 1, "data": {}});
    let user_good = json!({"username": "x", "password": "correct horse", "collection_id": A});
    for (path, good) in [("/insert", &good), ("/users", &user_good), ("/login", &user_good)] {
        let fields = if path == "/login" {
            vec!["username", "password"]
        } else {
            good.as_object().unwrap().keys().map(String::as_str).collect()
        };
        for field in fields {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(field);
            let said = json_of(post(&server, path, &ann.token, &body).await, 400).await;
            let expected = format!("Request body deserialize error: missing field `{field}`");
            assert!(said["error"].as_str().unwrap().starts_with(&expected), "{said}");
            if field != "data" {
                body[field] = json!([1]);
                let said = json_of(post(&server, path, &ann.token, &body).await, 400).await;
                assert_eq!(said["code"], "event_invalid", "{path} {field}");
            }
        }
    }
    let far = 253_402_300_799_i64; // The end of year 9999.
    for (field, value, code) in [
        ("timestamp", json!("1"), "event_invalid"),
        ("timestamp", json!(1.5), "event_invalid"),
        ("timestamp", json!(far), "schedule_too_far"),
        ("timestamp", json!(far + 1), "event_invalid"),
        ("timestamp", json!(i64::MAX), "event_invalid"),
        ("timestamp", json!(i64::MIN), "event_invalid"),
        ("collection_id", json!("no-uuid"), "event_invalid"),
        ("event", json!(""), "topic_invalid"),
        ("event", json!("x".repeat(51)), "topic_invalid"),
        ("event", json!("data:x"), "topic_invalid"),
        ("event", json!("a\nb"), "topic_invalid"),
        ("event", json!("*"), "topic_invalid"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let said = json_of(post(&server, "/insert", &ann.token, &body).await, 400).await;
        assert_eq!(said["code"], code, "{field} {value}: {said}");
    }
    for (name, code) in [
        ("a\0b".to_owned(), "user_name_invalid"),
        ("x".repeat(10_000), "user_name_invalid"),
        (String::new(), "user_name_invalid"),
    ] {
        let mut body = user_good.clone();
        body["username"] = json!(name);
        assert_eq!(json_of(post(&server, "/users", "", &body).await, 400).await["code"], code);
        assert!(post(&server, "/login", "", &body).await.status().is_client_error());
    }
    // Long ago is as good as now, and fields nobody knows do no harm.
    let mut odd = good.clone();
    (odd["timestamp"], odd["tenant_id"]) = (json!(-62_000_000_000_i64), json!("undefined"));
    let event = json_of(post(&server, "/insert", &ann.token, &odd).await, 200).await["event"].clone();
    assert_eq!(event["timestamp"], -62_000_000_000_i64);
    assert_eq!(
        Events::open(&server, &ann.token).await.next().await.state["rows"][0]["timestamp"],
        "-62000000000"
    );
}

#[tokio::test]
async fn bodies_methods_and_paths_that_do_not_fit_are_told_so() {
    let server = Server::start_with(&OPEN).await;
    let ann = user(&server, "ann", A).await;
    let send = |method: Method, path: &str, kind: &'static str, body: String| {
        let request = server.request(method, path, &ann.token).header("content-type", kind).body(body);
        async { request.send().await.expect("an answer") }
    };
    let json = "application/json";
    let large = send(Method::POST, "/insert", json, "x".repeat(20 << 20)).await;
    assert_eq!(json_of(large, 413).await["code"], "body_too_large");
    let data = json!({"event": "user", "collection_id": A, "timestamp": 1, "data": "x".repeat(2 << 20)});
    let large = send(Method::POST, "/insert", json, data.to_string()).await;
    assert_eq!(json_of(large, 413).await["code"], "event_too_large");
    for (kind, body, status, code) in [
        (json, "nonsense", 400, "json_invalid"),
        (json, "", 400, "json_invalid"),
        (json, "[]", 400, "event_invalid"),
        ("text/plain", "{}", 415, "media_type_unsupported"),
    ] {
        for path in ["/insert", "/users", "/login"] {
            let said = json_of(send(Method::POST, path, kind, body.into()).await, status).await;
            assert_eq!(said["code"], code, "{path} {body}");
        }
    }
    let plain = json!({"event": "user", "collection_id": A, "timestamp": 1, "data": [1]}).to_string();
    let no_kind = server.request(Method::POST, "/insert", &ann.token).body(plain).send().await.unwrap();
    assert_eq!(no_kind.status(), 200, "without a type a body is JSON");
    for (method, path) in [(Method::GET, "/insert"), (Method::POST, "/events"), (Method::DELETE, "/users")] {
        let answer = send(method, path, json, "{}".into()).await;
        assert_eq!(json_of(answer, 405).await["code"], "method_not_allowed");
    }
    assert_eq!(server.get("/nowhere").await.status(), 404);
}
