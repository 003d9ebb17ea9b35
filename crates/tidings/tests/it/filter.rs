//! Filter expressions at every door where events are read.

use crate::harness::{Server, Sse, code};
use reqwest::Method;
use serde_json::{Value, json};

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn offsets(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|e| e["offset"].as_u64().unwrap()).collect()
}

/// Eight events: every combination of `a`, `b` and `c`.
async fn combinations(server: &Server) -> Vec<[bool; 3]> {
    let all: Vec<[bool; 3]> = (0..8).map(|n| [n & 1 != 0, n & 2 != 0, n & 4 != 0]).collect();
    let data: Vec<Value> = all.iter().map(|[a, b, c]| json!({"a": a, "b": b, "c": c})).collect();
    server.publish("t", &data).await;
    all
}

#[tokio::test]
async fn a_page_shows_what_the_expression_says_when_worked_out_by_hand() {
    let server = Server::start().await;
    let all = combinations(&server).await;
    type ByHand = fn(&[bool; 3]) -> bool;
    let by_hand: [(&str, ByHand); 3] = [
        ("data.a == true or data.b == true and data.c == true", |[a, b, c]| *a || (*b && *c)),
        ("(data.a == true OR data.b == true) AND data.c == true", |[a, b, c]| (*a || *b) && *c),
        ("not (data.a == true and data.b == true) or data.c in [false]", |[a, b, c]| !(*a && *b && *c)),
    ];
    for (text, is_wanted) in by_hand {
        let path = format!("/v1/topics/t/events?filter={}", encode(text));
        let wanted: Vec<u64> = (1u64..).zip(&all).filter(|(_, e)| is_wanted(e)).map(|(n, _)| n).collect();
        assert_eq!(offsets(&server.json(&path).await), wanted, "{text}");
    }
    let body = r#"[{"name":"cart.updated","data":{"cart":{"total":10.01},"email":"thomas@example.com"}},
                   {"name":"cart.updated","data":{"cart":{"total":10},"email":"thomas@example"}},
                   {"name":"cart.left","data":{"cart":{"total":99}}}]"#;
    server.post("t", &server.admin, body).await;
    for (text, wanted) in [
        ("data.cart.total > 10 AND name == 'cart.updated'", vec![9]),
        ("data.email == 'thomas@example.com'", vec![9]),
        ("data.cart.total >= 10 and data.email == null", vec![11]),
    ] {
        let path = format!("/v1/topics/t/events?filter={}", encode(text));
        assert_eq!(offsets(&server.json(&path).await), wanted, "{text}");
    }
    let path = format!("/v1/topics/t/events?name=cart.*&filter={}", encode("offset != 10"));
    assert_eq!(offsets(&server.json(&path).await), [9, 11], "together with names");
}

#[tokio::test]
async fn a_page_ends_where_it_looked_and_the_next_one_goes_on() {
    let server = Server::start().await;
    server.publish("t", &(1..=30).map(|n| json!(n)).collect::<Vec<_>>()).await;
    let (mut after, mut found, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let filter = encode("data in [7, 28]");
        let page = server.json(&format!("/v1/topics/t/events?after={after}&limit=5&filter={filter}")).await;
        found.extend(offsets(&page));
        pages += 1;
        if page["more"] == false {
            break;
        }
        after = page["cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!((found, pages), (vec![7, 28], 6));
}

#[tokio::test]
async fn streams_show_matching_events_from_history_and_live_and_resume_behind_them() {
    let server = Server::start().await;
    server.publish("t", &[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]).await;
    let filter = encode("data.n == 2 or data.n > 4");
    for path in [
        format!("/v1/topics/t/events?from=earliest&filter={filter}"),
        format!("/v1/stream?topic=t&topic=other&from=earliest&filter={filter}"),
    ] {
        let mut live = Sse::open(&server, &path, &server.admin, None).await;
        assert_eq!(live.event().await["data"]["n"], 2);
        server.publish("t", &[json!({"n": 4}), json!({"n": 5}), json!({"n": 0})]).await;
        assert_eq!(live.event().await["data"]["n"], 5);
        let cursor = live.cursor.clone().unwrap();
        drop(live);
        let mut again = Sse::open(&server, &path, &server.admin, Some(&cursor)).await;
        server.publish("t", &[json!({"n": 1}), json!({"n": 6})]).await;
        assert_eq!(again.event().await["data"]["n"], 6);
        let gone = server.request(Method::DELETE, "/v1/topics/t", &server.admin).send().await.unwrap();
        assert!(gone.status().is_success());
        server.publish("t", &[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]).await;
    }
}

#[tokio::test]
async fn a_websocket_subscribes_with_an_expression() {
    let server = Server::start().await;
    server.post("t", &server.admin, r#"[{"key":"1","data":1},{"key":"2","name":"x","data":2}]"#).await;
    let mut ws = server.ws(&server.admin).await;
    ws.send(json!({"op": "subscribe", "ref": "s", "topic": "t", "from": "earliest", "filter": "key == '"}))
        .await;
    let error = ws.op("error").await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("filter_invalid"), &json!("s")));
    let filter = "key != '1' and not data in [3]";
    ws.send(json!({"op": "subscribe", "topic": "t", "from": "earliest", "name": "x", "filter": filter}))
        .await;
    ws.op("subscribed").await;
    assert_eq!(ws.event().await["data"], 2);
    server
        .post("t", &server.admin, r#"[{"key":"1","name":"x"},{"name":"x","data":3},{"name":"x","data":4}]"#)
        .await;
    assert_eq!(ws.event().await["data"], 4);
}

#[tokio::test]
async fn an_expression_that_cannot_be_read_is_refused_everywhere_and_shows_nothing() {
    let server = Server::start().await;
    server.publish("t", &[json!(1)]).await;
    let nested = format!("{}data==1{}", "(".repeat(10_000), ")".repeat(10_000));
    let deep = format!("{}data==1{}", "(".repeat(100), ")".repeat(100));
    for text in ["", "data", "colour=='red'", "data=='1", "data==1)", "data.a==data.b", &deep, &nested] {
        let filter = text.replace('\'', "%27");
        for path in [
            format!("/v1/topics/t/events?filter={filter}"),
            format!("/v1/topics/t/events?from=earliest&filter={filter}"),
            format!("/v1/stream?topic=t&from=earliest&filter={filter}"),
        ] {
            let request = server.request(Method::GET, &path, &server.admin);
            let request = match path.contains("from=") {
                true => request.header("accept", "text/event-stream"),
                false => request,
            };
            let refused = code(request.send().await.unwrap()).await;
            assert_eq!(refused, (400, "filter_invalid".into()), "{text}");
        }
        let mut ws = server.ws(&server.admin).await;
        ws.send(json!({"op": "subscribe", "topic": "t", "from": "earliest", "filter": text})).await;
        assert_eq!(ws.op("error").await["code"], "filter_invalid", "{text}");
    }
    let refusal: Value =
        server.get("/v1/topics/t/events?filter=data%20=%201").await.json().await.expect("a problem");
    assert_eq!(refusal["character"], 6, "{refusal}");
    let twice = server.get("/v1/topics/t/events?filter=data==1&filter=data==2").await;
    assert_eq!(code(twice).await.1, "parameter_invalid");
    server.assert_unaffected("afterwards").await;
}

#[tokio::test]
async fn tail_takes_an_expression() {
    let server = Server::start().await;
    server.publish("t", &[json!("install a"), json!("remove a"), json!("install b")]).await;
    let tail = async |filter: &str| {
        server.cli(&["tail", "t", "--from", "earliest", "--count", "1", "--filter", filter], b"").await
    };
    assert_eq!(tail("data starts_with 'install' and not data contains ' a'").await.ok(), "install b\n");
    tail("data starts_with").await.fails(2);
}
