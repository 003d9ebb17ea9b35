//! Publishing one event or an array.

use super::*;

#[tokio::test]
async fn one_event_is_answered_with_its_place_and_read_back_as_sent() {
    let site = Site::start();
    let sent = r#"{"key":"9","name":"made","data":{"b" : 1.0},"context":{"x":1}}"#;
    let reply = site.publish("orders", sent).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let receipt = reply.ok();
    let event = &receipt["events"][0];
    assert_eq!((&event["topic"], &event["offset"]), (&json!("orders:9"), &json!(1)));
    assert!(event["id"].is_string() && event["published_at"].is_string() && event.get("duplicate").is_none());
    let page = site.get("/v1/topics/orders/events").await;
    assert!(page.body.windows(11).any(|w| w == b"{\"b\" : 1.0}"), "{page:?}");
    assert_eq!(page.json()["events"][0]["id"], event["id"]);
    assert_eq!(page.json()["cursor"], receipt["cursor"]);
}

#[tokio::test]
async fn an_address_may_carry_a_key_percent_encoded() {
    let site = Site::start();
    let reply = site.publish("users%3Aa%2Fb%20%22%C3%A9", r#"{"data":1}"#).await;
    assert_eq!(reply.ok()["events"][0]["topic"], "users:a/b \"é");
    assert_eq!(site.data("users:a%2Fb%20%22%C3%A9").await, [1]);
    assert_eq!(site.publish("%ff", r#"{"data":1}"#).await.code(), "topic_invalid");
    let long = "x".repeat(300);
    assert_eq!(site.publish(&long, r#"{"data":1}"#).await.code(), "topic_invalid");
    assert_eq!(site.publish("%2A", r#"{"data":1}"#).await.code(), "topic_invalid");
}

#[tokio::test]
async fn an_array_is_all_or_nothing() {
    let site = Site::start();
    let reply = site.publish("t", " \n[{\"data\":1},{\"data\":2}]").await;
    assert_eq!(reply.ok()["events"].as_array().unwrap().len(), 2);
    let reply = site.publish("t", r#"[{"data":3},{"nane":4}]"#).await;
    assert_eq!((reply.code().as_str(), &reply.json()["index"]), ("field_unknown", &json!(1)));
    assert_eq!(site.data("t").await, [1, 2]);
    assert_eq!(site.publish("t", "[]").await.ok()["events"], json!([]));
}

#[tokio::test]
async fn an_id_published_twice_is_answered_with_the_first_receipt() {
    let site = Site::start();
    let sent = r#"{"id":"a3bb189e-8bf9-4888-9912-ace4e6543002","data":1}"#;
    let first = site.publish("t", sent).await.ok();
    let second = site.publish("t", sent).await.ok();
    assert_eq!(second["events"][0]["duplicate"], true);
    assert_eq!(second["events"][0]["offset"], first["events"][0]["offset"]);
    assert_eq!(site.data("t").await, [1]);
}

#[tokio::test]
async fn each_mistake_has_its_code() {
    let limits = Limits { event_bytes: 100, body_bytes: 1000, batch_events: 3, ..Limits::default() };
    let site = Site::with(Config::default(), limits);
    let big = format!(r#"{{"data":"{}"}}"#, "x".repeat(100));
    let far = r#"{"data":1,"available_at":"2999-01-01T00:00:00Z"}"#;
    let many = r#"[{"data":1},{"data":1},{"data":1},{"data":1}]"#;
    for (body, code) in [
        ("", "json_invalid"),
        ("{", "json_invalid"),
        ("[{},", "json_invalid"),
        ("[] x", "json_invalid"),
        ("7", "event_invalid"),
        ("[7]", "event_invalid"),
        (r#"{"name":7}"#, "event_invalid"),
        (r#"{"topic":"u"}"#, "event_invalid"),
        (r#"{"key":""}"#, "topic_invalid"),
        (r#"{"x":1}"#, "field_unknown"),
        (&big, "event_too_large"),
        (&"x".repeat(1001), "body_too_large"),
        (many, "batch_too_large"),
        (far, "schedule_too_far"),
    ] {
        assert_eq!(site.publish("t", body.to_owned()).await.code(), code, "{body}");
    }
    assert_eq!(site.publish("t", &b"{\"name\":\"\xff\"}"[..]).await.code(), "utf8_invalid");
    assert_eq!(site.publish_as("text/plain", "t", "{}").await.code(), "media_type_unsupported");
    assert_eq!(site.publish("$schedule", "{}").await.code(), "forbidden");
    let reply = site.ask("POST", "/v1/topics/t/events?x=1", &site.anyone(), "{}").await;
    assert_eq!(reply.code(), "parameter_invalid");
    assert_eq!(site.data("t").await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_large_body_of_unknown_length_is_refused_and_taken_from_the_wire() {
    let site = Site::start();
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(800));
    let own = Arc::clone(&left);
    let parts = std::iter::from_fn(move || {
        own.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok()?;
        Some(Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 64 << 10])))
    });
    let body = Body::from_stream(futures_util::stream::iter(parts));
    assert_eq!(site.publish("t", body).await.code(), "body_too_large");
    while left.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let site = Site::start();
    for kind in ["application/json", "application/x-ndjson"] {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(site.publish_as(kind, "t", body).await.code(), "timeout");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_incomplete() {
    let site = Site::start();
    let parts = [Ok(Bytes::from_static(b"{\"data\":")), Err(std::io::Error::other("reset"))];
    let body = Body::from_stream(futures_util::stream::iter(parts));
    assert_eq!(site.publish("t", body).await.code(), "body_incomplete");
}

#[tokio::test]
async fn a_log_that_takes_no_writes_says_so_without_its_reasons() {
    let site = Site::start();
    site.log.break_it();
    for kind in ["application/json", "application/x-ndjson"] {
        let reply = site.publish_as(kind, "t", "{}").await;
        assert_eq!((reply.code().as_str(), reply.status.as_u16()), ("log_read_only", 503));
        assert!(!String::from_utf8_lossy(&reply.body).contains("sda1"), "{reply:?}");
    }
    let ready = site.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["reasons"]), (503, &json!(["log_read_only"])));
}

#[tokio::test]
async fn topics_have_a_bound() {
    let site = Site::with(Config::default(), Limits { topics: 1, ..Limits::default() });
    site.publish("a", "{}").await.ok();
    let reply = site.publish("b", "{}").await;
    assert_eq!((reply.code().as_str(), reply.status.as_u16()), ("topics_full", 507));
    site.publish("a", "{}").await.ok();
}

#[tokio::test]
async fn an_event_for_later_is_listed_shown_and_cancelled_by_its_owner() {
    let site = Site::start();
    let (ann, bob) = (json!({"topics":"*","sub":"ann"}), json!({"topics":"*","sub":"bob"}));
    let (ann, bob) = (site.token(ann), site.token(bob));
    let at = Timestamp::default().plus_millis(4_000_000_000_000 / 2);
    let sent = format!(r#"{{"data":{{"a":1}},"key":"k","available_at":"{at}"}}"#);
    let receipt = site.ask("POST", "/v1/topics/t/events", &ann, sent).await.ok();
    let event = &receipt["events"][0];
    assert_eq!((&event["scheduled"], &event["available_at"]), (&json!(true), &json!(at.to_string())));
    assert!(event.get("offset").is_none());
    let uri = format!("/v1/scheduled/{}", event["id"].as_str().unwrap());
    let list = site.ask("GET", "/v1/scheduled", &ann, "").await.ok();
    assert_eq!((&list["events"][0]["topic"], list["events"][0].get("data")), (&json!("t:k"), None));
    assert_eq!(site.ask("GET", "/v1/scheduled", &bob, "").await.ok()["events"], json!([]));
    assert_eq!(site.ask("GET", &uri, &ann, "").await.ok()["data"], json!({"a":1}));
    let later = Timestamp::default().plus_millis(2_000_000_000_001);
    let change = format!(r#"{{"available_at":"{later}"}}"#);
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(site.ask(method, &uri, &bob, change.clone()).await.code(), "forbidden");
    }
    let moved = site.ask("PATCH", &uri, &ann, change.clone()).await.ok();
    assert_eq!((&moved["available_at"], &moved["data"]), (&json!(later.to_string()), &json!({"a":1})));
    assert_eq!(site.ask("GET", &uri, &ann, "").await.ok(), moved);
    for (body, code) in [
        ("", "json_invalid"),
        ("{}", "event_invalid"),
        (r#"{"available_at":-5}"#, "event_invalid"),
        (r#"{"available_at":"9999-12-31T00:00:00Z"}"#, "schedule_too_far"),
        (r#"{"available_at":"2030-01-01T00:00:00Z","name":"x"}"#, "field_unknown"),
    ] {
        assert_eq!(site.ask("PATCH", &uri, &ann, body).await.code(), code, "{body}");
    }
    assert_eq!(site.ask("DELETE", &uri, &ann, "").await.status, StatusCode::NO_CONTENT);
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(site.ask(method, &uri, &ann, change.clone()).await.code(), "scheduled_unknown");
    }
    assert_eq!(site.ask("DELETE", "/v1/scheduled/7", &ann, "").await.code(), "scheduled_unknown");
}

#[tokio::test]
async fn the_schedule_is_listed_in_pages_and_cancelled_by_address() {
    let site = Site::start();
    let token = |sub: &str| site.token(json!({"topics":"*","sub":sub}));
    let (ann, bob) = (token("ann"), token("bob"));
    for (n, who) in [&ann, &bob, &ann, &ann, &bob].iter().enumerate() {
        let at = Timestamp::default().plus_millis(2_000_000_000_000 + n as i64);
        let sent = format!(r#"{{"data":{n},"key":"{}","available_at":"{at}"}}"#, n % 2);
        site.ask("POST", "/v1/topics/t/events", who, sent).await.ok();
    }
    let keys = async |query: &str, who: &str| {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let uri = format!("/v1/scheduled?limit=1{query}{after}");
            let page = site.ask("GET", &uri, who, "").await.ok();
            keys.extend(page["events"].as_array().unwrap().iter().map(|e| e["topic"].clone()));
            let Some(next) = page["next"].as_str() else { return keys };
            after = format!("&after={next}");
        }
    };
    assert_eq!(keys("", &ann).await, ["t:0", "t:0", "t:1"]);
    assert_eq!(keys("&topic=t:0", &ann).await, ["t:0", "t:0"]);
    assert_eq!(keys("&topic=t", &bob).await, ["t:1", "t:0"]);
    assert_eq!(keys("", &site.admin()).await, ["t:0", "t:1", "t:0", "t:1", "t:0"]);
    assert!(keys("&topic=u", &site.admin()).await.is_empty());
    assert!(keys("", &site.anyone()).await.is_empty(), "without a sub nothing is one's own");
    let cancel =
        async |query: &str, who: &str| site.ask("DELETE", &format!("/v1/scheduled{query}"), who, "").await;
    assert_eq!(cancel("?topic=t:0", &bob).await.ok(), json!({"cancelled":1}));
    assert_eq!(cancel("?topic=t:0", &bob).await.ok(), json!({"cancelled":0}));
    assert_eq!(cancel("?topic=t", &site.admin()).await.ok(), json!({"cancelled":4}));
    assert_eq!(cancel("", &ann).await.code(), "parameter_invalid");
    for after in ["7", "7.x", "x.7", "99999999999999999.1"] {
        let uri = format!("/v1/scheduled?after={after}");
        assert_eq!(site.ask("GET", &uri, &ann, "").await.code(), "cursor_invalid");
    }
    let said = site.ask("GET", "/v1/topics/$schedule/events", &bob, "").await.ok();
    let said: Vec<_> = said["events"].as_array().unwrap().iter().map(|e| e["name"].clone()).collect();
    assert_eq!(said, ["scheduled", "scheduled", "cancelled", "cancelled"]);
}
