//! What holds for every route: tokens, origins, compression, unknown paths.

use super::*;

#[tokio::test]
async fn a_request_needs_a_valid_token() {
    let site = Site::start();
    let expired = site.token(json!({ "topics": "*", "exp": 1 }));
    let no_grant = site.token(json!({ "topics": "other" }));
    for (authorization, code) in [
        ("", "token_missing"),
        ("Bearer", "token_invalid"),
        ("Bearer ", "token_invalid"),
        ("Basic YTpi", "token_invalid"),
        ("Bearer x.y.z", "token_invalid"),
        (&format!("Bearer {expired}"), "token_expired"),
        (&format!("Bearer {no_grant}"), "forbidden"),
    ] {
        for (method, uri) in [
            ("POST", "/v1/topics/t/events"),
            ("GET", "/v1/topics/t/events"),
            ("GET", "/v1/topics/t/state"),
            ("GET", "/v1/stream?topic=t"),
            ("GET", "/v1/topics/t"),
            ("PUT", "/v1/topics/t"),
            ("DELETE", "/v1/topics/t"),
            ("GET", "/metrics"),
        ] {
            let headers: &[_] =
                if authorization.is_empty() { &[] } else { &[("authorization", authorization)] };
            let reply = site.ask_with(method, uri, "", headers, "{}").await;
            assert_eq!(reply.code(), code, "{method} {uri} {authorization}");
            let is_asked = reply.header("www-authenticate") == "Bearer";
            assert_eq!(is_asked, reply.status == StatusCode::UNAUTHORIZED);
        }
    }
    let two = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(site.ask_with("GET", "/v1/topics", "", &two, "").await.code(), "token_invalid");
}

#[tokio::test]
async fn a_cookie_opens_streams_to_allowed_pages_and_nothing_else() {
    let config = Config { origins: vec!["https://app.example".into(), "*".into()], ..Config::default() };
    let site = Site::with(config, Limits::default());
    let cookie = format!("a=b; tidings_token={}; c=d", site.anyone());
    let open = |headers: Vec<(&'static str, String)>, method: &'static str, uri: &'static str| {
        let mut request = Request::builder().method(method).uri(uri).header("cookie", &cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        site.send(request.body(Body::empty()).unwrap())
    };
    let allowed = ("origin", "https://app.example".to_owned());
    let own = ("sec-fetch-site", "same-origin".to_owned());
    let accept = ("accept", "text/event-stream".to_owned());
    let response = open(vec![allowed.clone()], "GET", "/v1/stream?topic=t").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(response.headers()["access-control-allow-credentials"], "true");
    for page in [own, allowed.clone()] {
        let response = open(vec![page, accept.clone()], "GET", "/v1/topics/t/events").await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    for (headers, method, uri, code) in [
        (vec![("origin", "https://evil.example".into())], "GET", "/v1/stream?topic=t", "origin_forbidden"),
        (vec![("origin", "null".into())], "GET", "/v1/stream?topic=t", "origin_forbidden"),
        (vec![], "GET", "/v1/stream?topic=t", "origin_forbidden"),
        (vec![("sec-fetch-site", "cross-site".into())], "GET", "/v1/stream?topic=t", "origin_forbidden"),
        (vec![allowed.clone()], "GET", "/v1/topics/t/events", "token_missing"),
        (vec![allowed.clone()], "GET", "/v1/topics", "token_missing"),
        (vec![allowed.clone()], "POST", "/v1/topics/t/events", "token_missing"),
    ] {
        let reply = Reply::of(open(headers, method, uri).await).await;
        assert_eq!(reply.code(), code, "{method} {uri}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_is_given_leave_only_where_its_origin_is_listed() {
    let config = Config { origins: vec!["https://app.example".into()], ..Config::default() };
    let site = Site::with(config, Limits::default());
    let ask = [("access-control-request-method", "POST"), ("origin", "https://app.example")];
    let reply = site.ask_with("OPTIONS", "/v1/topics/t/events", "", &ask, "").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(reply.header("access-control-allow-methods"), "POST, GET, HEAD, OPTIONS");
    assert!(reply.header("access-control-allow-headers").contains("authorization"));
    let ask = [("access-control-request-method", "POST"), ("origin", "https://evil.example")];
    let reply = site.ask_with("OPTIONS", "/v1/topics/t/events", "", &ask, "").await;
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("vary")), ("", "origin"));
    assert_eq!(reply.header("access-control-allow-methods"), "");
    for (origin, expected) in [("https://app.example", "https://app.example"), ("https://evil.example", "")] {
        for uri in ["/v1/topics", "/none"] {
            let reply = site.ask_with("GET", uri, &site.anyone(), &[("origin", origin)], "").await;
            assert_eq!(reply.header("access-control-allow-origin"), expected, "{uri}");
        }
        let uri = "/v1/topics/t/events";
        let reply = site.ask_with("POST", uri, &site.anyone(), &[("origin", origin)], "{}").await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (201, expected));
    }
}

#[tokio::test]
async fn a_star_lets_all_pages_read_but_never_with_cookies() {
    let site = Site::with(Config { origins: vec!["*".into()], ..Config::default() }, Limits::default());
    let reply = site.ask_with("GET", "/livez", "", &[("origin", "https://any.example")], "").await;
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(reply.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn answers_are_compressed_where_the_client_takes_it_and_receipts_are_not() {
    let site = Site::start();
    for _ in 0..20 {
        site.publish("t", r#"{"key":"k","data":"the same again and again"}"#).await.ok();
    }
    for (accepts, encoding) in [("gzip", "gzip"), ("zstd", "zstd"), ("br", ""), ("identity", "")] {
        for uri in ["/v1/topics/t/events", "/v1/topics/t/state", "/v1/topics", "/openapi.json", "/metrics"] {
            let headers = [("accept-encoding", accepts)];
            let reply = site.ask_with("GET", uri, &site.admin(), &headers, "").await;
            assert_eq!(reply.header("content-encoding"), encoding, "{uri} {accepts}");
        }
        let headers = [("accept-encoding", accepts)];
        let reply =
            site.ask_with("POST", "/v1/topics/t/events", &site.anyone(), &headers, "[{},{},{}]").await;
        assert_eq!((reply.status.as_u16(), reply.header("content-encoding")), (201, ""));
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_to_be_so() {
    let site = Site::start();
    assert_eq!(site.get("/v2/topics").await.code(), "not_found");
    for (method, uri, allow) in [
        ("PATCH", "/v1/topics/t/events", "POST, GET, HEAD, OPTIONS"),
        ("POST", "/livez", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/topics/t/state", "GET, HEAD, OPTIONS"),
        ("POST", "/v1/topics/t", "GET, PUT, DELETE, HEAD, OPTIONS"),
    ] {
        let reply = site.ask(method, uri, "", "").await;
        assert_eq!((reply.code().as_str(), reply.header("allow")), ("method_not_allowed", allow));
    }
}

#[tokio::test]
async fn health_is_public_and_readiness_ends_with_the_drain() {
    let site = Site::start();
    let ask = |uri: &'static str| site.ask("GET", uri, "", "");
    assert_eq!(ask("/livez").await.body, "ok");
    assert_eq!(ask("/readyz").await.ok(), json!({ "ready": true, "reasons": [] }));
    site.door.services.stop().cancel();
    assert_eq!(ask("/livez").await.status, StatusCode::OK);
    let reply = ask("/readyz").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["reasons"]), (503, &json!(["draining"])));
}

#[tokio::test]
async fn metrics_count_by_route_and_are_for_admins_unless_made_public() {
    let site = Site::start();
    site.publish("secret-name", "[{},{}]").await.ok();
    site.get("/v1/topics/secret-name/events").await.ok();
    site.get("/nowhere/secret-name").await;
    assert_eq!(site.get("/metrics").await.code(), "forbidden");
    let reply = site.ask("GET", "/metrics", &site.admin(), "").await;
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    for line in [
        r#"tidings_http_requests_total{method="POST",route="/v1/topics/{topic}/events",status="2xx"} 1"#,
        r#"tidings_http_requests_total{method="GET",route="/v1/topics/{topic}/events",status="2xx"} 1"#,
        r#"tidings_http_requests_total{method="-",route="-",status="4xx"} 1"#,
        "tidings_events_published_total 2",
        "tidings_events_fired_total 0",
        "tidings_topics 1",
        "tidings_log_read_only 0",
        r#"tidings_streams{kind="sse"} 0"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret-name") && text.ends_with("# EOF\n"));
    let public = Site::with(Config { metrics_public: true, ..Config::default() }, Limits::default());
    assert_eq!(public.ask("GET", "/metrics", "", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_head_request_has_no_body() {
    let site = Site::start();
    site.publish("t", "{}").await.ok();
    let reply = site.ask("HEAD", "/v1/topics/t/events", &site.anyone(), "").await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, 0));
}
