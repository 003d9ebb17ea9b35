//! The doors: protocols, TLS, CORS, compression, documents, streams over several topics.

use crate::harness::{Server, Sse, code, until};
use rcgen::CertifiedKey;
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use std::path::Path;

#[tokio::test]
async fn http_1_and_cleartext_http_2_share_the_port() {
    let server = Server::start().await;
    let h2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let answer = h2.get(server.url("/livez")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    let answer = server.http.get(server.url("/livez")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    // Streams too.
    let request = h2.get(server.url("/v1/topics/t/events?from=earliest")).bearer_auth(&server.admin);
    let response = request.header("accept", "text/event-stream").send().await.unwrap();
    let mut live = Sse::of(response, None);
    server.publish("t", &[json!("over both")]).await;
    assert_eq!(live.event().await["data"], "over both");
}

/// A client that sends its body late is told the refusal, and is not cut off for the body.
#[tokio::test]
async fn a_refusal_over_http_2_takes_the_body_that_comes_after_it() {
    let server = Server::start().await;
    let address = server.url("").trim_start_matches("http://").to_owned();
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut ping = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/v1/keys", 401), ("/insert", 401), ("/nowhere", 404), ("/livez", 405)] {
        let mut client = client.clone().ready().await.unwrap();
        let request = http::Request::post(format!("http://{address}{path}"));
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (answer, mut rest) = client.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let mut body = answer.into_body();
        while let Some(part) = body.data().await {
            part.unwrap();
        }
        // What the server had to say after its answer is here when this comes back.
        ping.ping(h2::Ping::opaque()).await.unwrap();
        let reset = futures_util::FutureExt::now_or_never(std::future::poll_fn(|cx| rest.poll_reset(cx)));
        assert!(reset.is_none(), "{path}: {reset:?}");
        rest.send_data("{}".into(), true).unwrap();
    }
}

/// Writes a fresh certificate for this machine and returns it.
pub fn certificate(dir: &Path) -> Certificate {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    Certificate::from_pem(cert.pem().as_bytes()).unwrap()
}

fn trusting(certificate: Certificate) -> Client {
    Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap()
}

#[tokio::test]
async fn tls_serves_and_takes_a_new_certificate_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let old = certificate(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let server = Server::start_with(&["--tls-cert", &file("cert.pem"), "--tls-key", &file("key.pem")]).await;
    let client = trusting(old.clone());
    let answer = client.get(server.url("/livez")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2), "by ALPN");
    let stream = client.get(server.url("/v1/topics/t/events?from=earliest")).bearer_auth(&server.admin);
    let mut live = Sse::of(stream.header("accept", "text/event-stream").send().await.unwrap(), None);

    // A small publish over HTTP/1.1 has a way of its own.
    let older = Client::builder().no_proxy().http1_only().tls_certs_only([old.clone()]).build().unwrap();
    for body in ["{}", "{}", "{"] {
        let publish = older.post(server.url("/v1/topics/other/events")).bearer_auth(&server.admin);
        let answer = publish.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_11);
        assert_eq!(answer.status().as_u16(), if body == "{}" { 201 } else { 400 });
        assert!(answer.text().await.unwrap().ends_with('}'));
    }
    let new = certificate(dir.path());
    server.signal(libc::SIGHUP);
    until("the new certificate", || async {
        trusting(new.clone()).get(server.url("/livez")).send().await.is_ok()
    })
    .await;
    assert!(trusting(old).get(server.url("/livez")).send().await.is_err(), "the old one is no longer shown");
    // A stream from before goes on.
    let body = json!({"data": "encrypted"}).to_string();
    let post = trusting(new).post(server.url("/v1/topics/t/events")).bearer_auth(&server.admin);
    let post = post.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(post.status(), 201);
    assert_eq!(live.event().await["data"], "encrypted");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_others_may_not() {
    let server = Server::start_with(&["--origin", "https://app.example"]).await;
    let preflight = async |origin: &'static str| {
        let request = server.http.request(Method::OPTIONS, server.url("/v1/topics/t/events"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
    };
    let allowed = preflight("https://app.example").await;
    assert!(allowed.status().is_success());
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    let headers = allowed.headers()["access-control-allow-headers"].to_str().unwrap().to_lowercase();
    assert!(headers.contains("authorization") && headers.contains("last-event-id"), "{headers}");
    assert!(!preflight("https://evil.example").await.headers().contains_key("access-control-allow-origin"));
    let refused = server.http.get(server.url("/v1/topics")).header("origin", "https://app.example");
    let refused = refused.send().await.unwrap();
    assert!(refused.headers().contains_key("access-control-allow-origin"), "a page can read refusals too");
}

#[tokio::test]
async fn pages_are_compressed_where_asked_and_live_frames_never() {
    let server = Server::start().await;
    let data: Vec<Value> = (0..500).map(|n| json!({"n": n, "text": "the same again and again"})).collect();
    server.publish("t", &data).await;
    let page = "/v1/topics/t/events?limit=500";
    let plain = server.get(page).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().await.unwrap().len();
    for encoding in ["gzip", "zstd"] {
        let request = server.request(Method::GET, page, &server.admin).header("accept-encoding", encoding);
        let packed = request.send().await.unwrap();
        assert_eq!(packed.headers()["content-encoding"], encoding);
        assert!(packed.bytes().await.unwrap().len() * 4 < plain);
    }
    let request = server.request(Method::GET, "/v1/topics/t/events?from=earliest", &server.admin);
    let request = request.header("accept", "text/event-stream").header("accept-encoding", "gzip, zstd");
    assert!(!request.send().await.unwrap().headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn the_documents_are_served() {
    let server = Server::start().await;
    assert_eq!(server.http.get(server.url("/livez")).send().await.unwrap().status(), 200);
    assert_eq!(server.http.get(server.url("/readyz")).send().await.unwrap().status(), 200);
    let openapi: Value =
        server.http.get(server.url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3."));
    assert!(openapi["paths"]["/v1/topics/{topic}/events"]["post"].is_object());
    server.publish("t", &[json!(1), json!(2)]).await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let published = metrics.lines().find(|l| !l.starts_with('#') && l.contains("published"));
    assert!(published.is_some_and(|l| l.ends_with(" 2")), "{metrics}");
    assert!(!metrics.contains(&server.admin));
}

#[tokio::test]
async fn overlapping_subscriptions_of_a_websocket_deliver_once() {
    let server = Server::start().await;
    let mut ws = server.ws(&server.admin).await;
    ws.subscribe("t:1", "earliest").await;
    ws.subscribe("t", "earliest").await;
    ws.subscribe("t:2", "earliest").await;
    let events: Vec<Value> = (0..30).map(|n| json!({"key": (n % 3).to_string(), "data": n})).collect();
    server.post("t", &server.admin, Value::from(events).to_string()).await;
    server.publish("t", &[json!("end")]).await;
    let mut seen = Vec::new();
    loop {
        let event = ws.event().await;
        if event["data"] == "end" {
            break;
        }
        seen.push(event["offset"].as_u64().unwrap());
    }
    // The subscriptions of single keys may still hold some; each event comes once.
    while seen.len() < 30 {
        seen.push(ws.event().await["offset"].as_u64().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
    ws.send(json!({"op": "unsubscribe", "ref": "u", "topic": "t"})).await;
    assert_eq!(ws.op("unsubscribed").await["ref"], "u");
    server.post("t", &server.admin, r#"[{"key":"0","data":"unseen"},{"key":"1","data":"seen"}]"#).await;
    assert_eq!(ws.event().await["data"], "seen");
}

#[tokio::test]
async fn one_cursor_goes_over_several_topics_and_every_transport() {
    let server = Server::start().await;
    let path = "/v1/stream?topic=a&topic=b:1&from=earliest";
    let mut live = Sse::open(&server, path, &server.admin, None).await;
    server.publish("a", &[json!("a1")]).await;
    server.post("b", &server.admin, r#"[{"key":"1","data":"b1"},{"key":"2","data":"b2"}]"#).await;
    let mut first = [live.event().await, live.event().await].map(|e| e["data"].as_str().unwrap().to_owned());
    first.sort();
    assert_eq!(first, ["a1", "b1"]);
    let cursor = live.cursor.clone().unwrap();
    drop(live);
    server.publish("a", &[json!("a2")]).await;
    let mut again = Sse::open(&server, path, &server.admin, Some(&cursor)).await;
    assert_eq!(again.event().await["data"], "a2");
    let mut ws = server.ws(&server.admin).await;
    ws.subscribe("a", &cursor).await;
    assert_eq!(ws.event().await["data"], "a2");
    let page = server.json(&format!("/v1/topics/a/events?after={cursor}")).await;
    assert_eq!(page["events"][0]["data"], "a2");
}

#[tokio::test]
async fn a_stream_can_be_resumed_before_its_first_event() {
    let server = Server::start().await;
    server.publish("t", &[json!("before")]).await;
    for topic in ["t", "new"] {
        let mut live = server.sse(topic, "from=latest").await;
        let first = live.next().await.expect("the stream is open");
        let cursor = first.id.expect("the position it begins at");
        drop(live);
        server.publish(topic, &[json!("meanwhile")]).await;
        let path = format!("/v1/topics/{topic}/events");
        let mut again = Sse::open(&server, &path, &server.admin, Some(&cursor)).await;
        assert_eq!(again.event().await["data"], "meanwhile", "{topic}");
    }
}

#[tokio::test]
async fn what_begins_while_a_stream_that_waits_for_it_is_away_is_not_lost() {
    let server = Server::start().await;
    let path = "/v1/stream?topic=here&topic=later&from=latest";
    let mut live = Sse::open(&server, path, &server.admin, None).await;
    live.next().await.expect("the stream is open");
    server.publish("here", &[json!(1)]).await;
    assert_eq!(live.event().await["data"], 1);
    let cursor = live.cursor.clone().unwrap();
    drop(live);
    server.publish("later", &[json!(2), json!(3)]).await;
    let mut again = Sse::open(&server, path, &server.admin, Some(&cursor)).await;
    assert_eq!(
        (again.event().await["data"].clone(), again.event().await["data"].clone()),
        (json!(2), json!(3))
    );

    // The same by WebSocket, from the position that the answer to `subscribe` gives.
    let mut ws = server.ws(&server.admin).await;
    let subscribed = ws.subscribe("newest", "latest").await;
    drop(ws);
    server.publish("newest", &[json!(4)]).await;
    let mut ws = server.ws(&server.admin).await;
    ws.subscribe("newest", subscribed["cursor"].as_str().unwrap()).await;
    assert_eq!(ws.event().await["data"], 4);
}

#[tokio::test]
async fn state_comes_first_and_then_what_follows() {
    let server = Server::start().await;
    let body = r#"[{"key":"1","data":"old"},{"key":"2","data":"two"},{"key":"1","data":"new"}]"#;
    server.post("t", &server.admin, body).await;
    let mut live = server.sse("t", "from=state").await;
    assert_eq!(live.event().await["data"], "two");
    assert_eq!(live.event().await["data"], "new");
    live.own("$live").await;
    server.post("t", &server.admin, r#"{"key":"1","deleted":true}"#).await;
    assert_eq!(live.event().await["deleted"], true);
    let state = server.json("/v1/topics/t/state").await;
    assert_eq!(state["events"].as_array().unwrap().len(), 1);
    assert_eq!(state["events"][0]["data"], "two");
}

#[tokio::test]
async fn a_position_that_is_gone_is_answered_with_a_gap() {
    let server = Server::start().await;
    let cursor = server.publish("t", &[json!(0)]).await["cursor"].as_str().unwrap().to_owned();
    server.publish("t", &[json!(1)]).await;
    let gone = server.request(Method::DELETE, "/v1/topics/t", &server.admin).send().await.unwrap();
    assert!(gone.status().is_success());
    server.publish("t", &[json!("anew")]).await;
    let mut live = Sse::open(&server, "/v1/topics/t/events", &server.admin, Some(&cursor)).await;
    let gap = live.own("$gap").await;
    assert_eq!((&gap["reason"], &gap["topic"]), (&json!("epoch"), &json!("t")));
    assert_eq!(live.event().await["data"], "anew");
    let mut ws = server.ws(&server.admin).await;
    ws.send(json!({"op": "subscribe", "topic": "t", "from": cursor})).await;
    assert_eq!(ws.op("gap").await["reason"], "epoch");
    assert_eq!(ws.event().await["data"], "anew");
}

#[tokio::test]
async fn a_scheduled_event_appears_when_it_is_due_and_never_after_its_cancel() {
    let server = Server::start().await;
    let mut live = server.sse("t", "from=earliest").await;
    let soon = tidings::Timestamp::from_millis((crate::harness::now_s() as i64 + 2) * 1000).unwrap();
    let body = json!([{"data": "cancelled", "available_at": soon}, {"data": "due", "available_at": soon}]);
    let receipt: Value = server.post("t", &server.admin, body.to_string()).await.json().await.unwrap();
    let id = receipt["events"][0]["id"].as_str().unwrap();
    assert!(receipt["events"][0].get("offset").is_none(), "no offset until it fires");
    let cancel = server.request(Method::DELETE, &format!("/v1/scheduled/{id}"), &server.admin);
    assert!(cancel.send().await.unwrap().status().is_success());
    let again = server.request(Method::DELETE, &format!("/v1/scheduled/{id}"), &server.admin);
    assert_eq!(code(again.send().await.unwrap()).await.1, "scheduled_unknown");
    let event = live.event().await;
    assert_eq!(event["data"], "due");
    let published = tidings::Timestamp::parse(event["published_at"].as_str().unwrap()).unwrap();
    assert!(published >= soon, "never early");
    server.publish("t", &[json!("last")]).await;
    assert_eq!(live.event().await["data"], "last");
}
