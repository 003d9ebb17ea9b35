//! What is wrong is refused with a stable code, and nobody else notices.

use crate::harness::{Server, code, now_s, soon};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Sends bytes as they are, and returns what comes back until the server closes or falls silent.
async fn raw(server: &Server, head: &str, body: &[u8]) -> (TcpStream, String) {
    let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let token = &server.admin;
    let head = format!("{head}\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    // A server that has answered may stop reading.
    let _ = tcp.write_all(body).await;
    let mut answer = vec![0; 64 << 10];
    let n = soon("an answer", tcp.read(&mut answer)).await.unwrap();
    answer.truncate(n);
    (tcp, String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn bodies_that_are_no_events_are_refused_by_name() {
    let server = Server::start().await;
    let long = "x".repeat(300);
    let cases: [(&str, &[u8], u16, &str); 14] = [
        ("t", b"{\"data\":", 400, "json_invalid"),
        ("t", b"", 400, "json_invalid"),
        ("t", b"{\"data\":1}}", 400, "json_invalid"),
        ("t", b"{\"name\":7,\"data\":1}", 400, "event_invalid"),
        ("t", b"[1,2]", 400, "event_invalid"),
        ("t", b"{\"id\":\"no-uuid\",\"data\":1}", 400, "event_invalid"),
        ("t", b"{\"name\":\"$own\",\"data\":1}", 400, "event_invalid"),
        ("t", b"{\"deleted\":true}", 400, "event_invalid"),
        ("t", b"{\"data\":1,\"color\":\"red\"}", 400, "field_unknown"),
        ("t", b"{\"data\":\"\xff\xfe\"}", 400, "utf8_invalid"),
        ("t", b"{\"topic\":\"other\",\"data\":1}", 400, "event_invalid"),
        ("*", b"{\"data\":1}", 400, "topic_invalid"),
        ("$system", b"{\"data\":1}", 403, "forbidden"),
        (&long, b"{\"data\":1}", 400, "topic_invalid"),
    ];
    for (topic, body, status, expected) in cases {
        let response = server.post(topic, &server.admin, body.to_vec()).await;
        let got = code(response).await;
        assert_eq!(got, (status, expected.into()), "{topic} {}", String::from_utf8_lossy(body));
    }
    // All or nothing: a bad event keeps the good ones of its array out.
    let response = server.post("t", &server.admin, "[{\"data\":1},{\"data\":2,\"x\":3}]").await;
    assert_eq!(code(response).await.1, "field_unknown");
    let response = server.request(Method::POST, "/v1/topics/t/events", &server.admin);
    let response = response.header("content-type", "text/plain").body("x").send().await.unwrap();
    assert_eq!(code(response).await, (415, "media_type_unsupported".into()));
    assert_eq!(
        code(server.get("/v1/topics/t/events").await).await,
        (404, "topic_unknown".into()),
        "nothing stored"
    );
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn queries_paths_and_methods_are_refused_by_name() {
    let server = Server::start().await;
    server.publish("t", &[json!(1)]).await;
    for (path, expected) in [
        ("/v1/topics/t/events?limit=0", "parameter_invalid"),
        ("/v1/topics/t/events?limit=x", "parameter_invalid"),
        ("/v1/topics/t/events?colour=red", "parameter_invalid"),
        ("/v1/topics/t/events?after=-1", "cursor_invalid"),
        ("/v1/topics/t/events?name=*a", "filter_invalid"),
        ("/v1/topics/%ff/events", "topic_invalid"),
        ("/v2/everything", "not_found"),
    ] {
        assert_eq!(code(server.get(path).await).await.1, expected, "{path}");
    }
    for (query, expected) in [("from=yesterday", "cursor_invalid"), ("from=AAAA", "cursor_invalid")] {
        let request = server.request(Method::GET, &format!("/v1/topics/t/events?{query}"), &server.admin);
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(code(response).await.1, expected, "{query}");
    }
    let many: String = (0..65).map(|n| format!("topic=t{n}&")).collect();
    let request =
        server.request(Method::GET, &format!("/v1/stream?{}", many.trim_end_matches('&')), &server.admin);
    let response = request.header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(code(response).await, (400, "topics_too_many".into()));
    let response = server.request(Method::PATCH, "/v1/topics/t/events", &server.admin).send().await.unwrap();
    assert!(response.headers().contains_key("allow"));
    assert_eq!(code(response).await, (405, "method_not_allowed".into()));
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let server = Server::start().await;
    // Announced: refused by its length, before a byte of it was sent.
    let head =
        "POST /v1/topics/t/events HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 52428800";
    let (_, answer) = raw(&server, head, b"").await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");

    // Not announced: refused once the bound is passed, and memory stays where it was.
    let before = server.rss_kib();
    let head =
        "POST /v1/topics/t/events HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked";
    let chunk = [b"100000\r\n".as_slice(), &vec![b'1'; 1 << 20], b"\r\n"].concat();
    let (_, answer) = raw(&server, head, &chunk.repeat(50)).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 40 << 10, "a refused body of 50 MB took {grown} KiB");

    let event = json!({ "data": "x".repeat(1 << 20) }).to_string();
    assert_eq!(code(server.post("t", &server.admin, event).await).await, (413, "event_too_large".into()));
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn ndjson_cut_in_the_middle_keeps_what_came_whole_and_says_so() {
    let server = Server::start().await;
    let post = async |body: &'static str| {
        let request = server.request(Method::POST, "/v1/topics/t/events", &server.admin);
        request.header("content-type", "application/x-ndjson").body(body).send().await.unwrap()
    };
    let response = post("{\"data\":1}\n{\"data\":2}\n{\"dat").await;
    let (status, name) = code(response).await;
    assert!(status == 400 && ["body_incomplete", "json_invalid"].contains(&name.as_str()), "{status} {name}");
    let kept = server.read_all("t").await.len();
    assert!(kept == 2 || kept == 0, "{kept}");
    // The connection ends before the announced length.
    let line = b"{\"data\":1}\n";
    let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let head = format!(
        "POST /v1/topics/cut/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/x-ndjson\r\ncontent-length: 1000\r\n\r\n",
        server.admin
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(line).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = soon("the end", tcp.read_to_string(&mut answer)).await;
    assert!(answer.is_empty() || answer.contains("body_incomplete"), "{answer}");
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn tokens_that_do_not_count_are_refused_by_name() {
    let keys = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("key.pem");
    std::fs::write(&pem, keys.public_key_pem()).unwrap();
    let server = Server::start_with(&["--pem", pem.to_str().unwrap()]).await;
    let claims = json!({"topics": "*", "exp": now_s() + 600});
    let sign = |header: Header, claims: &Value, key: &[u8]| {
        encode(&header, claims, &EncodingKey::from_secret(key)).unwrap()
    };
    let secret = std::fs::read_to_string(server.data().join("secret")).unwrap();
    let secret = secret.trim().as_bytes();
    let hs256 = || Header::new(Algorithm::HS256);

    use base64::Engine as _;
    let part = |json: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string());
    let unsigned = format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(claims.clone()));
    let public = std::fs::read(&pem).unwrap();
    let expired = json!({"topics": "*", "exp": now_s() - 10});
    let early = json!({"topics": "*", "exp": now_s() + 600, "nbf": now_s() + 300});
    let endless = json!({"topics": "*"});
    for (what, token, expected) in [
        ("alg none", unsigned, "token_invalid"),
        ("a public key used as a shared secret", sign(hs256(), &claims, &public), "token_invalid"),
        ("another secret", sign(hs256(), &claims, &[7; 32]), "token_invalid"),
        ("another algorithm", sign(Header::new(Algorithm::HS512), &claims, secret), "token_invalid"),
        ("expired", sign(hs256(), &expired, secret), "token_expired"),
        ("not yet valid", sign(hs256(), &early, secret), "token_invalid"),
        ("without an end", sign(hs256(), &endless, secret), "token_invalid"),
        ("no token at all", "nonsense".into(), "token_invalid"),
    ] {
        let response = server.post("t", &token, "{\"data\":1}").await;
        assert_eq!(code(response).await, (401, expected.into()), "{what}");
    }
    let response = server.http.get(server.url("/v1/topics")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(code(response).await.1, "token_missing");
    let other = server.token(&["--topics", "other"]).await;
    assert_eq!(code(server.post("t", &other, "{\"data\":1}").await).await, (403, "forbidden".into()));
    let keyed = server.token(&["--topics", "t:1"]).await;
    assert_eq!(code(server.post("t", &keyed, "{\"data\":1}").await).await, (403, "forbidden".into()));
    let good = server.post("t", &sign(hs256(), &claims, secret), "{\"data\":1}").await;
    assert_eq!(good.status(), StatusCode::CREATED);
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn websocket_frames_that_make_no_sense_are_answered_with_their_ref() {
    let server = Server::start().await;
    let mut ws = server.ws(&server.admin).await;
    for (frame, expected) in [
        ("{", "json_invalid"),
        ("[]", "event_invalid"),
        (r#"{"op":"dance","ref":"r"}"#, "op_unknown"),
        (r#"{"op":"subscribe","ref":"r"}"#, "parameter_invalid"),
        (r#"{"op":"subscribe","ref":"r","topic":"*"}"#, "topic_invalid"),
        (r#"{"op":"subscribe","ref":"r","topic":"t","from":"nowhere"}"#, "cursor_invalid"),
        (r#"{"op":"publish","ref":"r","topic":"t","event":{"x":1}}"#, "field_unknown"),
        (r#"{"op":"unsubscribe","ref":"r","topic":"t"}"#, "subscription_unknown"),
        (r#"{"op":"auth","ref":"r","token":"x"}"#, "token_invalid"),
    ] {
        ws.send_text(frame).await;
        let error = ws.op("error").await;
        assert_eq!(error["code"], expected, "{frame}");
        assert_eq!(error["ref"] == "r", frame.contains("ref"), "{error}");
    }
    // The same connection goes on.
    ws.subscribe("t", "earliest").await;
    server.publish("t", &[json!("fine")]).await;
    assert_eq!(ws.event().await["data"], "fine");

    let mut large = server.ws(&server.admin).await;
    large.send_raw(Message::text("x".repeat(2 << 20))).await;
    assert_eq!(large.end().await.0, 1009);
    let mut mute = crate::harness::Ws::open(&server, None).await;
    mute.send(json!({"op": "subscribe", "ref": "r", "topic": "t"})).await;
    assert_eq!(mute.op("error").await["code"], "token_missing");
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_and_an_idle_stream_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidings.toml");
    std::fs::write(&file, "[limits]\nread_timeout_ms = 400\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]).await;
    let mut live = server.sse("t", "from=latest").await;
    live.next().await.expect("the stream is open");
    let mut tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    tcp.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut rest = Vec::new();
    soon("the end of a slow connection", tcp.read_to_end(&mut rest)).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    server.publish("t", &[json!(1)]).await;
    assert_eq!(live.event().await["data"], 1);
}
