//! Publishing CloudEvents.

use super::*;

async fn last(site: &Site, topic: &str) -> Value {
    site.get(&format!("/v1/topics/{topic}/events")).await.ok()["events"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_structured_event_keeps_all_its_attributes() {
    let site = Site::start();
    let sent = r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"com.example.paid","subject":"42",
        "time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","dataschema":"urn:x","traceid":"7",
        "sampled":true,"none":null,"data":{"a" : 1}}"#;
    let kind = "application/cloudevents+json; charset=UTF-8";
    let receipt = site.publish_as(kind, "t", sent).await.ok();
    let event = last(&site, "t").await;
    assert_eq!(event["topic"], "t:42");
    assert_eq!((&event["name"], &event["source"]), (&json!("com.example.paid"), &json!("/shop")));
    assert_eq!(event["occurred_at"], "2026-01-02T03:04:05.000Z");
    assert_eq!(event["data"], json!({"a":1}));
    assert_eq!(
        event["context"],
        json!({"ce_id":"A-1","datacontenttype":"application/json","dataschema":"urn:x","traceid":"7","sampled":true})
    );
    let again = site.publish_as(kind, "t", sent).await.ok();
    assert_eq!(again["events"][0]["duplicate"], true);
    assert_eq!(again["events"][0]["id"], receipt["events"][0]["id"]);
    let elsewhere = sent.replace("/shop", "/other");
    assert!(site.publish_as(kind, "t", elsewhere).await.ok()["events"][0].get("duplicate").is_none());
}

#[tokio::test]
async fn an_id_that_is_a_uuid_is_taken_as_it_is() {
    let site = Site::start();
    let id = "a3bb189e-8bf9-4888-9912-ace4e6543002";
    let sent = format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","subject":"9"}}"#);
    site.publish_as("application/cloudevents+json", "t:8", sent).await.ok();
    let event = last(&site, "t:8").await;
    assert_eq!((&event["id"], &event["context"]), (&json!(id), &json!({ "subject": "9" })));
    assert!(event.get("data").is_none());
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let site = Site::start();
    let kind = "application/cloudevents-batch+json";
    let one =
        |id: &str| format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":"{id}"}}"#);
    let reply = site.publish_as(kind, "t", format!("[{},{}]", one("a"), one("b"))).await.ok();
    assert_eq!(reply["events"].as_array().unwrap().len(), 2);
    let reply = site.publish_as(kind, "t", format!("[{},{{}}]", one("c"))).await;
    assert_eq!((reply.code().as_str(), &reply.json()["index"]), ("event_invalid", &json!(1)));
    assert_eq!(site.data("t").await, ["a", "b"]);
}

#[tokio::test]
async fn a_binary_event_has_its_attributes_in_headers() {
    let site = Site::start();
    let send = |kind: &'static str, body: &'static [u8]| {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "s"),
            ("ce-type", "made"),
            ("ce-subject", "Euro%20%E2%82%AC"),
            ("ce-comexample", "x"),
            ("content-type", kind),
        ];
        let (site, topic) = (&site, kind.replace(['/', '+'], "."));
        async move {
            let uri = format!("/v1/topics/{topic}/events");
            site.ask_with("POST", &uri, &site.anyone(), &headers, body).await.ok();
            last(site, &topic).await
        }
    };
    let event = send("application/json", b" {\"a\":1} ").await;
    assert_eq!((&event["data"], &event["key"]), (&json!({"a":1}), &json!("Euro €")));
    assert_eq!((&event["name"], &event["context"]["comexample"]), (&json!("made"), &json!("x")));
    assert_eq!(send("application/x+json", b"[1]").await["data"], json!([1]));
    assert_eq!(send("text/plain", b"hello").await["data"], "hello");
    let event = send("image/png", b"\x89PNG").await;
    assert_eq!((&event["data"], &event["context"]["data_encoding"]), (&json!("iVBORw=="), &json!("base64")));
    assert!(send("image/gif", b"").await.get("data").is_none());
}

#[tokio::test]
async fn what_is_no_cloudevent_is_refused() {
    let site = Site::start();
    let full = r#""specversion":"1.0","id":"1","source":"s","type":"t""#;
    for (sent, code) in [
        ("{".to_owned(), "json_invalid"),
        ("[]".to_owned(), "event_invalid"),
        ("{}".to_owned(), "event_invalid"),
        (full.replace("1.0", "0.3"), "event_invalid"),
        (full.replace("\"id\":\"1\",", ""), "event_invalid"),
        (full.replace("\"1\"", "1"), "event_invalid"),
        (format!("{full},\"time\":\"now\""), "event_invalid"),
        (format!("{full},\"Bad\":\"x\""), "event_invalid"),
        (format!("{full},\"data\":1,\"data_base64\":\"\""), "event_invalid"),
        (format!("{full},\"data_base64\":\"?\""), "event_invalid"),
        (format!("{full},\"subject\":\"{}\"", "x".repeat(256)), "topic_invalid"),
        (full.replace("\"t\"", "\"$gap\""), "event_invalid"),
    ] {
        let sent = if sent.starts_with('"') { format!("{{{sent}}}") } else { sent };
        let reply = site.publish_as("application/cloudevents+json", "t", sent.clone()).await;
        assert_eq!(reply.code(), code, "{sent}");
    }
}
