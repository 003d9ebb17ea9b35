//! Native events over Socket.IO: subscribe, publish, resume.

use super::protocol::{open, poll, say, socket, text};
use super::*;
use futures_util::SinkExt as _;
use std::collections::BTreeSet;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn subscribe_and_publish_are_answered_with_cursors_and_bounded_by_grants() {
    let server = Server::start().await;
    server.publish("orders", &[json!(1), json!(2)]).await;
    let token = server.token(&["--sub", "ann", "--subscribe", "orders", "--publish", "orders"]).await;
    let mut clients = Clients::node();
    for way in WAYS {
        let name = format!("{way:?}");
        clients.enter(&name, &server.url(""), way, &token).await;
        let answer = clients.ask(&name, "subscribe", json!([{"topic": "orders", "from": "earliest"}])).await;
        assert!(answer["cursor"].is_string(), "{answer}");
        for n in [1, 2] {
            let event = clients.event(&name, "event").await;
            assert_eq!(event["args"][0]["data"], n);
            assert!(event["args"][1].is_string(), "every event carries a cursor");
        }
        let answer = clients
            .ask(&name, "publish", json!([{"topic": "orders", "event": {"data": way_data(way)}}]))
            .await;
        assert!(answer["cursor"].is_string() && answer["ids"].as_array().unwrap().len() == 1, "{answer}");
        let mut event = clients.event(&name, "event").await;
        while event["args"][0]["data"] != way_data(way) {
            event = clients.event(&name, "event").await;
        }
        assert_eq!(event["args"][1], answer["cursor"]);
        for (verb, argument, code) in [
            ("subscribe", json!({"topic": "secrets"}), "forbidden"),
            ("subscribe", json!({"topic": "orders", "from": "x"}), "cursor_invalid"),
            ("subscribe", json!({}), "parameter_invalid"),
            ("subscribe", json!([]), "event_invalid"),
            ("publish", json!({"topic": "esink", "event": {}}), "forbidden"),
            ("unsubscribe", json!({"topic": "secrets"}), "subscription_unknown"),
            ("resume", json!({"cursor": "x"}), "cursor_invalid"),
            ("resume", Value::Null, "cursor_invalid"),
        ] {
            let answer = clients.ask(&name, verb, json!([argument])).await;
            assert_eq!(answer["code"], code, "{verb} {argument} {answer}");
        }
        assert_eq!(clients.ask(&name, "unsubscribe", json!([{"topic": "orders"}])).await, json!({}));
        clients.disconnect(&name).await;
    }
    clients.end().await;
}

/// What a client attaches as bytes is refused, and not waited for.
#[tokio::test]
async fn bytes_are_refused_with_an_answer() {
    let server = Server::start().await;
    let token = server.token(&["--publish", "orders"]).await;
    let connect = format!("40{}", json!({ "token": token }));
    let asked =
        "451-7[\"publish\",{\"topic\":\"orders\",\"event\":{\"data\":{\"_placeholder\":true,\"num\":0}}}]";
    let unanswered = "451-[\"subscribe\",{\"_placeholder\":true,\"num\":0}]";
    let code = |text: &str, start: &str| {
        let rest = text.strip_prefix(start).unwrap_or_else(|| panic!("{text}"));
        let told: Value = serde_json::from_str(rest.strip_suffix(']').unwrap()).unwrap();
        assert_eq!(told["code"], "event_invalid", "{text}");
    };
    let sid = open(&server).await;
    assert_eq!(say(&server, &sid, connect.clone()).await, 200);
    while !poll(&server, &sid).await.contains("42[\"connected\"") {}
    assert_eq!(say(&server, &sid, format!("{asked}\u{1e}bAQID\u{1e}{unanswered}\u{1e}bAQID")).await, 200);
    let mut packets = poll(&server, &sid).await;
    while !packets.contains('\u{1e}') {
        packets = format!("{packets}\u{1e}{}", poll(&server, &sid).await);
    }
    let (answer, error) = packets.split_once('\u{1e}').unwrap();
    code(answer, "437[");
    code(error, "42[\"error\",");
    let mut ws = socket(&server, "EIO=4&transport=websocket").await;
    ws.send(Message::text(connect)).await.unwrap();
    while !text(&mut ws).await.unwrap().starts_with("42[\"connected\"") {}
    for packet in [asked, "451-[\"nobody's\",{\"_placeholder\":true,\"num\":0}]", unanswered] {
        ws.send(Message::text(packet)).await.unwrap();
        ws.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    }
    code(&text(&mut ws).await.unwrap(), "437[");
    code(&text(&mut ws).await.unwrap(), "42[\"error\",");
}

fn way_data(way: Way) -> Value {
    json!(format!("by {way:?}"))
}

#[tokio::test]
async fn a_client_that_comes_back_with_its_cursor_misses_nothing() {
    let server = server(&esink("")).await;
    let token = token(&server, "ann").await;
    let send = async |n: u64| publish(&server, &change("ann", json!({"data": {"n": n}, "table": "t"}))).await;
    let mut clients = Clients::node();
    for way in WAYS {
        let name = format!("{way:?}");
        clients.enter(&name, &server.url(""), way, &token).await;
        let mut seen = Vec::new();
        let mut next = 0;
        for _ in 0..5 {
            send(next).await;
            next += 1;
            let got = clients.event(&name, "changes").await;
            seen.push(got["args"][0]["data"]["n"].as_u64().unwrap());
            let auth = json!({"token": token, "cursor": got["args"][1]});
            clients.cut(&name, Some(auth)).await;
            clients.event(&name, "disconnect").await;
            // Published while nobody is there.
            send(next).await;
            send(next + 1).await;
            next += 2;
            clients.event(&name, "connected").await;
            for _ in 0..2 {
                seen.push(clients.event(&name, "changes").await["args"][0]["data"]["n"].as_u64().unwrap());
            }
        }
        assert_eq!(seen, (0..15).collect::<Vec<_>>(), "{way:?}");
        clients.disconnect(&name).await;
    }
    clients.end().await;
}

#[tokio::test]
async fn resume_goes_back_to_a_cursor_and_a_position_that_is_gone_is_a_gap() {
    let server = server(&esink("")).await;
    let token = token(&server, "ann").await;
    let mut clients = Clients::node();
    let connected = clients.enter("ann", &server.url(""), Way::WebSocket, &token).await;
    let start = connected["args"][1].clone();
    for n in 0..3 {
        publish(&server, &change("ann", json!({"data": {"n": n}}))).await;
    }
    for _ in 0..3 {
        clients.event("ann", "changes").await;
    }
    let answer = clients.ask("ann", "resume", json!([{"cursor": [start]}])).await;
    assert!(answer["cursor"].is_string(), "{answer}");
    for n in 0..3 {
        assert_eq!(clients.event("ann", "changes").await["args"][0]["data"]["n"], n);
    }
    let old = clients.ask("ann", "resume", json!([{"cursor": answer["cursor"]}])).await["cursor"].clone();
    let dropped =
        server.request(reqwest::Method::DELETE, "/v1/topics/esink", &server.admin).send().await.unwrap();
    assert!(dropped.status().is_success());
    publish(&server, &change("ann", json!({"data": {"n": 9}}))).await;
    clients.enter("late", &server.url(""), Way::Polling, &token).await;
    clients.ask("late", "resume", json!([{"cursor": old}])).await;
    let gap = clients.event("late", "gap").await["args"][0].clone();
    assert_eq!((&gap["topic"], &gap["reason"]), (&json!("esink"), &json!("epoch")));
    clients.end().await;
}

#[tokio::test]
async fn a_burst_cuts_nobody_off_and_nothing_is_lost_or_doubled() {
    const EVENTS: usize = 5000;
    let server = Server::start().await;
    let token = server.token(&["--sub", "ann", "--subscribe", "orders"]).await;
    let mut clients = Clients::node();
    for way in WAYS {
        let name = format!("{way:?}");
        clients.enter(&name, &server.url(""), way, &token).await;
        clients.ask(&name, "subscribe", json!([{"topic": "orders"}])).await;
    }
    for start in (0..EVENTS).step_by(1000) {
        let data: Vec<Value> =
            (start..start + 1000).map(|n| json!({"n": n, "text": "x".repeat(200)})).collect();
        server.publish("orders", &data).await;
    }
    for way in WAYS {
        let mut seen = BTreeSet::new();
        for n in 0..EVENTS {
            let event = clients.event(&format!("{way:?}"), "event").await;
            assert_eq!(event["args"][0]["data"]["n"], n, "{way:?}: in order");
            seen.insert(event["args"][0]["offset"].as_u64().unwrap());
        }
        assert_eq!(seen.len(), EVENTS);
    }
    clients.end().await;
}
