//! Publishing lines.

use super::*;
use futures_util::{StreamExt as _, stream};

const KIND: &str = "application/x-ndjson";

fn parts(parts: Vec<Result<&'static str, &'static str>>) -> Body {
    let parts = parts.into_iter().map(|p| p.map(Bytes::from).map_err(std::io::Error::other));
    Body::from_stream(stream::iter(parts))
}

#[tokio::test]
async fn lines_are_stored_in_order_whatever_their_ends() {
    let site = Site::start();
    for kind in [KIND, "application/ndjson", "application/jsonl; charset=utf-8"] {
        let reply = site.publish_as(kind, "t", "{\"data\":1}\r\n\n  \r\n{\"data\":2}\n\n{\"data\":3}").await;
        assert_eq!(reply.status, StatusCode::CREATED);
        assert_eq!((&reply.json()["accepted"], &reply.json()["duplicates"]), (&json!(3), &json!(0)));
    }
    assert_eq!(site.data("t").await, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    let reply = site.publish_as(KIND, "t", "{\"data\":4}\n").await.ok();
    assert_eq!((&reply["first"]["offset"], &reply["last"]["offset"]), (&json!(10), &json!(10)));
    let cursor = reply["cursor"].as_str().unwrap();
    site.publish("t", r#"{"data":5}"#).await.ok();
    let page = site.get(&format!("/v1/topics/t/events?after={cursor}")).await.ok();
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_empty_body_holds_no_events() {
    let site = Site::start();
    for body in ["", "\n", " \r\n\r\n "] {
        let reply = site.publish_as(KIND, "t", body).await.ok();
        assert_eq!((&reply["accepted"], reply.get("first")), (&json!(0), None));
    }
}

#[tokio::test]
async fn lines_may_be_cut_anywhere_on_the_wire() {
    let site = Site::start();
    let text = "{\"data\":\"é1\"}\r\n{\"data\":\"é2\"}\n{\"data\":\"é3\"}";
    for size in 1..=text.len() {
        let parts: Vec<_> = text
            .as_bytes()
            .chunks(size)
            .map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c)))
            .collect();
        let topic = format!("t{size}");
        let reply = site.publish_as(KIND, &topic, Body::from_stream(stream::iter(parts))).await.ok();
        assert_eq!(reply["accepted"], 3, "parts of {size}");
        assert_eq!(site.data(&topic).await, ["é1", "é2", "é3"]);
    }
}

#[tokio::test]
async fn many_lines_go_in_several_commits_and_keep_their_order() {
    let site = Site::start();
    let count = 20_000u64;
    let body: String = (1..=count).map(|n| format!("{{\"data\":{n},\"key\":\"{}\"}}\n", n % 7)).collect();
    let reply = site.publish_as(KIND, "t", body).await.ok();
    assert_eq!((&reply["accepted"], &reply["last"]["offset"]), (&json!(count), &json!(count)));
    let mut after = 0;
    while after < count {
        let page = site.get(&format!("/v1/topics/t/events?limit=1000&after={after}")).await.ok();
        for event in page["events"].as_array().unwrap() {
            after += 1;
            assert_eq!((&event["data"], &event["offset"]), (&json!(after), &json!(after)));
        }
    }
}

#[tokio::test]
async fn a_bad_line_ends_the_request_and_what_came_before_is_stored() {
    let site = Site::start();
    for (n, (bad, code)) in [
        ("{", "json_invalid"),
        ("[{\"data\":1}]", "event_invalid"),
        ("{\"nane\":1}", "field_unknown"),
        ("{\"topic\":\"other\"}", "event_invalid"),
        ("{\"available_at\":\"2999-01-01T00:00:00Z\"}", "schedule_too_far"),
    ]
    .into_iter()
    .enumerate()
    {
        let topic = format!("t{n}");
        let reply = site.publish_as(KIND, &topic, format!("{{\"data\":1}}\n\n{bad}\n{{\"data\":2}}\n")).await;
        assert_eq!(reply.code(), code, "{bad}");
        let problem = reply.json();
        assert_eq!(
            (&problem["accepted"], &problem["line"], problem.get("index")),
            (&json!(1), &json!(3), None)
        );
        assert_eq!(site.data(&topic).await, [1]);
    }
}

#[tokio::test]
async fn a_bad_line_deep_in_the_stream_loses_nothing_before_it() {
    let site = Site::start();
    let mut body: String = (1..=5_000).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    body.push_str("oops\n{\"data\":0}\n");
    let reply = site.publish_as(KIND, "t", body).await;
    assert_eq!(reply.code(), "json_invalid");
    assert_eq!((&reply.json()["accepted"], &reply.json()["line"]), (&json!(5_000), &json!(5_001)));
    assert_eq!(site.get("/v1/topics/t/events?limit=1").await.ok()["tail"], 5_000);
}

#[tokio::test]
async fn a_line_for_a_key_without_the_grant_is_the_one_refused() {
    let site = Site::start();
    let token = site.token(json!({ "publish": ["t:a", "t:b"] }));
    let body = "{\"key\":\"a\"}\n{\"key\":\"b\"}\n{\"key\":\"c\"}\n{\"key\":\"a\"}\n";
    let reply = site.ask_with("POST", "/v1/topics/t/events", &token, &[("content-type", KIND)], body).await;
    assert_eq!(reply.code(), "forbidden");
    assert_eq!((&reply.json()["accepted"], &reply.json()["line"]), (&json!(2), &json!(3)));
}

#[tokio::test]
async fn a_line_that_is_no_utf8_is_refused() {
    let site = Site::start();
    let reply = site.publish_as(KIND, "t", &b"{\"data\":1}\n{\"name\":\"\xe9\"}\n"[..]).await;
    assert_eq!((reply.code().as_str(), &reply.json()["line"]), ("utf8_invalid", &json!(2)));
}

#[tokio::test]
async fn a_body_cut_in_a_line_is_incomplete_and_whole_lines_are_stored() {
    let site = Site::start();
    let cuts = [
        parts(vec![Ok("{\"data\":1}\n{\"data\":2}\n{\"da"), Err("reset")]),
        parts(vec![Ok("{\"data\":1}\n{\"data\":2}\n{\"da")]),
        parts(vec![Ok("{\"data\":1}\n"), Ok("{\"data\":2}\n"), Err("reset")]),
    ];
    for (n, body) in cuts.into_iter().enumerate() {
        let topic = format!("t{n}");
        let reply = site.publish_as(KIND, &topic, body).await;
        assert_eq!((reply.code().as_str(), &reply.json()["accepted"]), ("body_incomplete", &json!(2)));
        assert_eq!(site.data(&topic).await, [1, 2]);
    }
}

#[tokio::test]
async fn a_huge_line_is_refused_before_it_has_all_arrived() {
    let site = Site::with(Config::default(), Limits { event_bytes: 1000, ..Limits::default() });
    let long = "x".repeat(40_000);
    let reply = site.publish_as(KIND, "t", format!("{{\"data\":1}}\n{{\"data\":\"{long}\"}}\n")).await;
    assert_eq!(reply.code(), "event_too_large");
    assert_eq!((&reply.json()["accepted"], &reply.json()["line"]), (&json!(1), &json!(2)));
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096])));
    let reply = site.publish_as(KIND, "t", Body::from_stream(endless)).await;
    assert_eq!((reply.code().as_str(), &reply.json()["line"]), ("event_too_large", &json!(1)));
    let large = "x".repeat(1001);
    let reply = site.publish_as(KIND, "t", format!("{{\"data\":\"{large}\"}}\n")).await;
    assert_eq!((reply.code().as_str(), &reply.json()["line"]), ("event_too_large", &json!(1)));
}

#[tokio::test]
async fn duplicates_and_scheduled_lines_are_counted() {
    let site = Site::start();
    let id = "a3bb189e-8bf9-4888-9912-ace4e6543002";
    let body = format!(
        "{{\"id\":\"{id}\"}}\n{{\"id\":\"{id}\"}}\n{{\"available_at\":\"2030-01-01T00:00:00Z\"}}\n{{}}\n"
    );
    let reply = site.publish_as(KIND, "t", body).await.ok();
    assert_eq!(
        (&reply["accepted"], &reply["duplicates"], &reply["scheduled"], &reply["last"]["offset"]),
        (&json!(4), &json!(1), &json!(1), &json!(2))
    );
}

#[tokio::test]
async fn what_has_arrived_is_stored_before_more_comes() {
    let site = Site::start();
    let (tx, rx) = tokio::sync::mpsc::channel::<Bytes>(1);
    let parts = stream::unfold(rx, async |mut rx| Some((Ok::<_, std::io::Error>(rx.recv().await?), rx)));
    let publishing = site.publish_as(KIND, "t", Body::from_stream(parts));
    let mut publishing = std::pin::pin!(publishing);
    for n in 1..=3 {
        tx.send(format!("{{\"data\":{n}}}\n").into()).await.unwrap();
        for _ in 0..3 {
            assert!(futures_util::poll!(publishing.as_mut()).is_pending());
        }
        assert_eq!(site.data("t").await.len(), n);
    }
    drop(tx);
    assert_eq!(publishing.await.ok()["accepted"], 3);
}

#[tokio::test]
async fn a_stream_without_end_is_ended_by_the_shutdown_with_what_was_stored() {
    let site = Site::start();
    let lines =
        stream::iter([Ok::<_, std::io::Error>(Bytes::from("{\"data\":1}\n{\"da"))]).chain(stream::pending());
    let publishing = site.publish_as(KIND, "t", Body::from_stream(lines));
    let mut publishing = std::pin::pin!(publishing);
    assert!(futures_util::poll!(publishing.as_mut()).is_pending());
    site.door.services.stop().cancel();
    let reply = publishing.await;
    assert_eq!((reply.code().as_str(), &reply.json()["accepted"]), ("draining", &json!(1)));
    assert_eq!(site.data("t").await, [1]);
}
