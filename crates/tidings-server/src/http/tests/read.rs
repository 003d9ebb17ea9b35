//! Pages, State, topics and streams.

use super::*;

async fn filled(count: usize) -> Site {
    let site = Site::start();
    for n in 1..=count {
        let sent = format!(r#"{{"data":{n},"key":"{}","name":"{}"}}"#, n % 2, ["even.a", "odd"][n % 2]);
        site.publish("t", sent).await.ok();
    }
    site
}

fn offsets(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|e| e["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_one_another_by_offset_and_by_cursor() {
    let site = filled(5).await;
    let page = site.get("/v1/topics/t/events?limit=2").await.ok();
    assert_eq!(offsets(&page), [1, 2]);
    assert_eq!((&page["oldest"], &page["tail"], &page["more"]), (&json!(1), &json!(5), &json!(true)));
    assert!(page.get("gap").is_none());
    let cursor = page["cursor"].as_str().unwrap();
    for after in ["2", cursor] {
        let page = site.get(&format!("/v1/topics/t/events?limit=9&after={after}")).await.ok();
        assert_eq!((offsets(&page), &page["more"]), (vec![3, 4, 5], &json!(false)));
    }
    let page = site.get(&format!("/v1/topics/t/events?from={cursor}")).await.ok();
    assert_eq!(offsets(&page), [3, 4, 5]);
    for (from, expected) in [
        ("latest", vec![]),
        ("earliest", vec![1, 2, 3, 4, 5]),
        ("2020-01-01T00:00:00%2B02:00", vec![1, 2, 3, 4, 5]),
    ] {
        assert_eq!(offsets(&site.get(&format!("/v1/topics/t/events?from={from}")).await.ok()), expected);
    }
}

#[tokio::test]
async fn a_page_is_filtered_by_key_and_by_name() {
    let site = filled(5).await;
    assert_eq!(offsets(&site.get("/v1/topics/t:1/events").await.ok()), [1, 3, 5]);
    assert_eq!(offsets(&site.get("/v1/topics/t/events?name=even.*").await.ok()), [2, 4]);
    assert_eq!(offsets(&site.get("/v1/topics/t/events?name=odd&name=x").await.ok()), [1, 3, 5]);
}

#[tokio::test]
async fn a_trimmed_position_and_one_of_another_life_are_a_gap() {
    let site = filled(5).await;
    let old = site.get("/v1/topics/t/events?limit=1").await.ok()["cursor"].as_str().unwrap().to_owned();
    let admin = site.admin();
    site.ask("PUT", "/v1/topics/t", &admin, r#"{"retention":{"events":2}}"#).await.ok();
    site.door.tidings.retain().await.unwrap();
    for after in ["0", "1", &old] {
        let page = site.get(&format!("/v1/topics/t/events?after={after}")).await.ok();
        assert_eq!((offsets(&page), &page["gap"]), (vec![4, 5], &json!(true)), "{after}");
    }
    assert!(site.get("/v1/topics/t/events?from=earliest").await.ok().get("gap").is_none());
    assert!(site.get("/v1/topics/t/events").await.ok().get("gap").is_none());
    assert_eq!(site.ask("DELETE", "/v1/topics/t", &admin, "").await.status, StatusCode::NO_CONTENT);
    site.publish("t", "{}").await.ok();
    let page = site.get(&format!("/v1/topics/t/events?after={old}")).await.ok();
    assert_eq!((offsets(&page), &page["gap"]), (vec![1], &json!(true)));
}

#[tokio::test]
async fn state_is_the_newest_event_of_each_key() {
    let site = filled(5).await;
    let page = site.get("/v1/topics/t/state").await.ok();
    assert_eq!((offsets(&page), &page["more"]), (vec![4, 5], &json!(false)));
    let first = site.get("/v1/topics/t/state?limit=1").await.ok();
    assert_eq!((offsets(&first), &first["more"]), (vec![4], &json!(true)));
    let cursor = first["cursor"].as_str().unwrap();
    let second = site.get(&format!("/v1/topics/t/state?after={cursor}")).await.ok();
    assert_eq!(offsets(&second), [5]);
    assert_eq!(offsets(&site.get("/v1/topics/t:0/state").await.ok()), [4]);
    site.publish("t:0", r#"{"deleted":true}"#).await.ok();
    assert_eq!(offsets(&site.get("/v1/topics/t/state").await.ok()), [5]);
    let cursor = second["cursor"].as_str().unwrap();
    assert_eq!(offsets(&site.get(&format!("/v1/topics/t/events?after={cursor}")).await.ok()), [6]);
}

#[tokio::test]
async fn what_cannot_be_read_has_its_code() {
    let site = filled(2).await;
    let other = site.publish("u", "{}").await.ok()["cursor"].as_str().unwrap().to_owned();
    for (uri, code) in [
        ("/v1/topics/none/events", "topic_unknown"),
        ("/v1/topics/none/state", "topic_unknown"),
        ("/v1/topics/none", "topic_unknown"),
        ("/v1/topics/a%0Ab/events", "topic_invalid"),
        ("/v1/topics/t:1", "topic_invalid"),
        ("/v1/topics/t/events?limit=0", "parameter_invalid"),
        ("/v1/topics/t/events?limit=1001", "parameter_invalid"),
        ("/v1/topics/t/events?limit=1&limit=2", "parameter_invalid"),
        ("/v1/topics/t/events?offset=1", "parameter_invalid"),
        ("/v1/topics/t/events?token=x", "parameter_invalid"),
        ("/v1/topics/t/events?name=%ff", "parameter_invalid"),
        ("/v1/topics/t/events?after=1&from=latest", "parameter_invalid"),
        ("/v1/topics/t/events?from=state", "parameter_invalid"),
        ("/v1/topics/t/events?after=-1", "cursor_invalid"),
        ("/v1/topics/t/events?from=tomorrow", "cursor_invalid"),
        ("/v1/topics/t/state?after=x", "cursor_invalid"),
        ("/v1/topics/t/events?name=a*b", "filter_invalid"),
        ("/v1/topics?after=a%3Ab", "topic_invalid"),
        ("/v1/stream", "parameter_invalid"),
        ("/v1/stream?topic=*", "topic_invalid"),
        ("/v1/stream?topic=t&from=x", "cursor_invalid"),
        ("/v1/ws", "parameter_invalid"),
    ] {
        assert_eq!(site.get(uri).await.code(), code, "{uri}");
    }
    let reply = site.get(&format!("/v1/topics/t/events?after={other}")).await;
    assert_eq!(reply.code(), "cursor_invalid");
    let many: String = (0..65).map(|n| format!("topic=t{n}&")).collect();
    assert_eq!(site.get(&format!("/v1/stream?{many}")).await.code(), "topics_too_many");
}

#[tokio::test]
async fn a_fault_within_the_log_is_not_shown() {
    let site = Site::start();
    for topic in ["faulty", "panic", "behind"] {
        site.publish(topic, "{}").await.ok();
    }
    for topic in ["faulty", "panic"] {
        let reply = site.get(&format!("/v1/topics/{topic}/events")).await;
        assert_eq!((reply.code().as_str(), reply.status.as_u16()), ("internal", 500));
        assert!(!String::from_utf8_lossy(&reply.body).contains("sda1"), "{reply:?}");
    }
    let reply = site.get("/v1/topics/behind/state").await;
    assert_eq!((reply.code().as_str(), reply.header("retry-after")), ("index_behind", "1"));
}

#[tokio::test]
async fn topics_are_listed_to_those_who_may_read_them() {
    let site = Site::start();
    for topic in ["a", "b", "c"] {
        site.publish(topic, "{}").await.ok();
    }
    let list = site.get("/v1/topics?limit=2").await.ok();
    let names = |list: &Value| -> Vec<String> {
        list["topics"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().into()).collect()
    };
    assert_eq!((names(&list), &list["next"]), (vec!["a".into(), "b".into()], &json!("b")));
    assert_eq!((&list["topics"][0]["oldest"], &list["topics"][0]["tail"]), (&json!(1), &json!(1)));
    let list = site.get("/v1/topics?limit=2&after=b").await.ok();
    assert_eq!((names(&list), list.get("next")), (vec!["c".into()], None));
    let only_b = site.token(json!({ "subscribe": "b:1" }));
    assert_eq!(names(&site.ask("GET", "/v1/topics", &only_b, "").await.ok()), ["b"]);
    assert_eq!(site.ask("GET", "/v1/topics/b", &only_b, "").await.ok()["settings"]["state"], true);
    assert_eq!(site.ask("GET", "/v1/topics/a", &only_b, "").await.code(), "forbidden");
}

#[tokio::test]
async fn an_admin_sets_and_ends_a_topic() {
    let site = Site::start();
    let (admin, uri) = (site.admin(), "/v1/topics/t");
    let sent = r#"{"retention":{"age_ms":1000},"state":false}"#;
    let answer = site.ask("PUT", uri, &admin, sent).await.ok();
    assert_eq!(answer["settings"], serde_json::from_str::<Value>(sent).unwrap());
    assert_eq!(site.ask("GET", uri, &admin, "").await.ok()["settings"]["state"], false);
    for (sent, code) in [
        ("{", "json_invalid"),
        (r#"{"retain":1}"#, "field_unknown"),
        (r#"{"state":1}"#, "parameter_invalid"),
        (r#"{"retention":{"events":-1}}"#, "parameter_invalid"),
    ] {
        assert_eq!(site.ask("PUT", uri, &admin, sent).await.code(), code, "{sent}");
    }
    let large = " ".repeat(300_000);
    assert_eq!(site.ask("PUT", uri, &admin, large).await.code(), "body_too_large");
    assert_eq!(site.ask("PUT", uri, &site.anyone(), sent).await.code(), "forbidden");
    assert_eq!(site.ask("DELETE", uri, &site.anyone(), "").await.code(), "forbidden");
    assert_eq!(site.ask("DELETE", uri, &admin, "").await.code(), "topic_unknown");
}

#[tokio::test]
async fn a_client_that_accepts_an_event_stream_gets_one() {
    let site = filled(2).await;
    for uri in ["/v1/topics/t/events?from=earliest", "/v1/stream?topic=t&topic=u:1&from=earliest&name=odd"] {
        let request = Request::get(uri)
            .header("authorization", format!("bearer {}", site.anyone()))
            .header("accept", "text/event-stream")
            .header("accept-encoding", "gzip, zstd");
        let response = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().get("content-encoding").is_none());
        let mut body = response.into_body();
        let mut text = String::new();
        while !text.contains("\"offset\":1,") {
            let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        assert!(text.contains("\nevent: odd\n"), "{text}");
    }
    let accept = [("accept", "text/event-stream")];
    let uri = "/v1/topics/t/events?after=1";
    assert_eq!(site.ask_with("GET", uri, &site.anyone(), &accept, "").await.code(), "parameter_invalid");
}
