//! Engine.IO as it is on the wire.

use super::*;
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// What `GET /socket.io/?{query}` is answered with.
pub async fn get(server: &Server, query: &str) -> (u16, String) {
    let response = server.http.get(server.url(&format!("/socket.io/?{query}"))).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub async fn say(server: &Server, sid: &str, body: impl Into<reqwest::Body>) -> u16 {
    let url = server.url(&format!("/socket.io/?EIO=4&transport=polling&sid={sid}"));
    server.http.post(url).body(body).send().await.unwrap().status().as_u16()
}

pub async fn poll(server: &Server, sid: &str) -> String {
    let (status, text) = get(server, &format!("EIO=4&transport=polling&sid={sid}")).await;
    assert_eq!(status, 200, "{text}");
    text
}

pub async fn open(server: &Server) -> String {
    let (status, text) = get(server, "EIO=4&transport=polling").await;
    assert_eq!(status, 200, "{text}");
    let open: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
    open["sid"].as_str().unwrap().to_owned()
}

pub type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

pub async fn socket(server: &Server, query: &str) -> Socket {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/socket.io/?{query}", server.port());
    tokio_tungstenite::client_async(url, tcp).await.unwrap().0
}

pub async fn text(socket: &mut Socket) -> Option<String> {
    match crate::harness::soon("a frame", socket.next()).await {
        Some(Ok(Message::Text(text))) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[tokio::test]
async fn the_handshake_says_what_esink_says() {
    let server = Server::start().await;
    let (_, packet) = get(&server, "EIO=4&transport=polling").await;
    let open: Value = serde_json::from_str(packet.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(open["upgrades"], json!(["websocket"]));
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(20_000)));
    assert_eq!(open["maxPayload"], 1_000_000);
    let mut ws = socket(&server, "EIO=4&transport=websocket").await;
    let first = text(&mut ws).await.unwrap();
    assert!(first.starts_with("0{") && first.contains("\"upgrades\":[]"), "{first}");
}

#[tokio::test]
async fn requests_that_are_none_have_engine_ios_own_numbers() {
    let server = Server::start().await;
    for (query, code, message) in [
        ("EIO=3&transport=polling", 5, "Unsupported protocol version"),
        ("transport=polling", 5, "Unsupported protocol version"),
        ("EIO=4&transport=carrier-pigeon", 0, "Transport unknown"),
        ("EIO=4", 0, "Transport unknown"),
        ("EIO=4&transport=polling&sid=nobody", 1, "Session ID unknown"),
        ("EIO=4&transport=websocket", 3, "Bad request"),
    ] {
        let (status, text) = get(&server, query).await;
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, found), (400, json!({"code": code, "message": message})), "{query}");
    }
    let response = server.http.post(server.url("/socket.io/?EIO=4&transport=polling")).send().await.unwrap();
    assert_eq!(json_of(response).await, (400, json!({"code": 2, "message": "Bad handshake method"})));
}

/// A client that polls and has tried a WebSocket; it has only to say that it changes over.
pub async fn probed(server: &Server) -> (String, Socket) {
    let sid = open(server).await;
    let mut ws = socket(server, &format!("EIO=4&transport=websocket&sid={sid}")).await;
    ws.send(Message::text("2probe")).await.unwrap();
    assert_eq!(text(&mut ws).await.unwrap(), "3probe");
    assert_eq!(poll(server, &sid).await, "6");
    (sid, ws)
}

#[tokio::test]
async fn a_client_that_is_put_out_while_it_changes_its_transport_is_told_over_the_new_one() {
    let server = Server::start().await;
    let (sid, mut ws) = probed(&server).await;
    // Its polls have ended: no other way is left for the verdict.
    assert_eq!(say(&server, &sid, "40{\"token\":\"nobody's\"}").await, 200);
    ws.send(Message::text("5")).await.unwrap();
    assert!(text(&mut ws).await.unwrap().starts_with("40{"));
    let error = text(&mut ws).await.unwrap();
    assert!(error.starts_with("42[\"error\",{\"code\":401,"), "{error}");
    assert_eq!(text(&mut ws).await.unwrap(), "41");
    // It is the client that closes.
    ws.close(None).await.unwrap();
    assert_eq!(text(&mut ws).await, None);
    assert_eq!(get(&server, &format!("EIO=4&transport=polling&sid={sid}")).await.0, 400);
}

#[tokio::test]
async fn a_client_that_is_told_before_it_changes_its_transport_may_still_do_so() {
    let server = Server::start().await;
    let sid = open(&server).await;
    assert_eq!(say(&server, &sid, "40{\"token\":\"nobody's\"}").await, 200);
    assert!(poll(&server, &sid).await.ends_with("\u{1e}41"));
    // A probe that was under way: the library ends it before it closes, and waits for its last poll.
    let mut ws = socket(&server, &format!("EIO=4&transport=websocket&sid={sid}")).await;
    let (last, ()) = tokio::join!(poll(&server, &sid), async {
        ws.send(Message::text("2probe")).await.unwrap();
        assert_eq!(text(&mut ws).await.unwrap(), "3probe");
    });
    assert_eq!(last, "6");
    ws.send(Message::text("5")).await.unwrap();
    ws.close(None).await.unwrap();
    assert_eq!(text(&mut ws).await, None);
}

#[tokio::test]
async fn polls_wait_for_news_again_when_a_websocket_was_tried_in_vain() {
    let server = server("[socketio]\nping_ms = 300\npong_ms = 5000\nconnect_ms = 60000\n").await;
    let (sid, ws) = probed(&server).await;
    drop(ws);
    // Until the server has noticed, its answers say nothing.
    while poll(&server, &sid).await != "2" {}
    for _ in 0..2 {
        assert_eq!(say(&server, &sid, "3").await, 200);
        assert_eq!(poll(&server, &sid).await, "2");
    }
}

#[tokio::test]
async fn another_namespace_is_refused_and_a_client_that_is_not_in_may_say_nothing() {
    let server = Server::start().await;
    let sid = open(&server).await;
    assert_eq!(say(&server, &sid, "40/admin,{\"token\":\"x\"}").await, 200);
    assert_eq!(poll(&server, &sid).await, "44/admin,{\"message\":\"Invalid namespace\"}");
    // Whoever emits without having been let in is put out.
    assert_eq!(say(&server, &sid, "42[\"event\",{}]").await, 200);
    crate::harness::until("the session's end", || async {
        get(&server, &format!("EIO=4&transport=polling&sid={sid}")).await.0 == 400
    })
    .await;
}

#[tokio::test]
async fn a_silent_client_is_asked_and_one_that_does_not_answer_is_gone() {
    let server = server("[socketio]\nping_ms = 200\npong_ms = 2000\nconnect_ms = 60000\n").await;
    let sid = open(&server).await;
    let mut ws = socket(&server, "EIO=4&transport=websocket").await;
    assert!(text(&mut ws).await.unwrap().starts_with('0'));
    for _ in 0..3 {
        assert_eq!(poll(&server, &sid).await, "2");
        assert_eq!(say(&server, &sid, "3").await, 200);
        assert_eq!(text(&mut ws).await.unwrap(), "2");
        ws.send(Message::text("3")).await.unwrap();
    }
    assert_eq!(poll(&server, &sid).await, "2");
    assert_eq!(text(&mut ws).await.unwrap(), "2");
    // No answer this time.
    assert_eq!(text(&mut ws).await, None);
    crate::harness::until("the session's end", || async {
        get(&server, &format!("EIO=4&transport=polling&sid={sid}")).await.0 == 400
    })
    .await;
}

#[tokio::test]
async fn a_message_above_the_limit_ends_the_transport() {
    let server = Server::start().await;
    let sid = open(&server).await;
    assert_eq!(say(&server, &sid, format!("4{}", "x".repeat(1_000_001))).await, 413);
    let mut ws = socket(&server, "EIO=4&transport=websocket").await;
    assert!(text(&mut ws).await.unwrap().starts_with('0'));
    // The server may close before everything is written.
    let _ = ws.send(Message::text(format!("4{}", "x".repeat(1_000_001)))).await;
    assert_eq!(text(&mut ws).await, None);
    server.assert_unaffected("after").await;
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let server = Server::start().await;
    let sid = open(&server).await;
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let (one, two) = tokio::join!(get(&server, &query), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        get(&server, &query).await
    });
    assert!(one.0 == 400 || two.0 == 400 || one.1 == "1" || two.1 == "1", "{one:?} {two:?}");
    crate::harness::until("the session's end", || async { get(&server, &query).await.0 == 400 }).await;
}

#[tokio::test]
async fn a_client_that_never_shows_a_token_is_gone_after_a_while() {
    let server = server("[socketio]\nconnect_ms = 100\n").await;
    let mut ws = socket(&server, "EIO=4&transport=websocket").await;
    assert!(text(&mut ws).await.unwrap().starts_with('0'));
    assert_eq!(text(&mut ws).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_delays_nobody_and_costs_bounded_memory() {
    const EVENTS: usize = 10_000;
    let server = Server::start().await;
    let token = server.token(&["--sub", "ann", "--subscribe", "orders"]).await;
    let (enter, subscribe) =
        (format!("40{}", json!({ "token": token })), "420[\"subscribe\",{\"topic\":\"orders\"}]");
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut ws = socket(&server, "EIO=4&transport=websocket").await;
        ws.send(Message::text(enter.clone())).await.unwrap();
        ws.send(Message::text(subscribe)).await.unwrap();
        while !text(&mut ws).await.unwrap().starts_with("430[") {}
        stuck.push(ws);
    }
    // One that has stopped to ask is no different.
    let sid = open(&server).await;
    say(&server, &sid, format!("{enter}\u{1e}{subscribe}")).await;
    while !poll(&server, &sid).await.contains("430[") {}
    let mut clients = Clients::node();
    clients.enter("live", &server.url(""), Way::WebSocket, &token).await;
    clients.ask("live", "subscribe", json!([{"topic": "orders"}])).await;
    let before = server.rss_kib();
    for start in (0..EVENTS).step_by(500) {
        let data: Vec<Value> =
            (start..start + 500).map(|n| json!({"n": n, "text": "x".repeat(1000)})).collect();
        server.publish("orders", &data).await;
    }
    for n in 0..EVENTS {
        assert_eq!(clients.event("live", "event").await["args"][0]["data"]["n"], n);
    }
    // Each of them lacks about 10 MB.
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 80 << 10, "{grown} KiB more");
    // Whoever reads on gets everything in order.
    let mut next = 0;
    while next < EVENTS {
        let frame = text(&mut stuck[0]).await.unwrap();
        if let Some(event) = frame.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            assert_eq!(event[1]["data"]["n"], next);
            next += 1;
        }
    }
    let mut next = 0;
    while next < EVENTS {
        for packet in poll(&server, &sid).await.split('\u{1e}') {
            let Some(event) = packet.strip_prefix("42") else { continue };
            let event: Value = serde_json::from_str(event).unwrap();
            assert_eq!(event[1]["data"]["n"], next);
            next += 1;
        }
    }
    clients.end().await;
}
