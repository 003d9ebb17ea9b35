//! The frames themselves, and what is done with those that are none.

use super::server;
use crate::harness::{Server, Ws, soon};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

async fn open(server: &Server, query: &str) -> Ws {
    let url = server.url(&format!("/socket/websocket{query}"));
    Ws::try_open_at(&url, None).await.expect("an upgrade")
}

async fn ask(ws: &mut Ws, frame: Value) -> Value {
    ws.send(frame).await;
    ws.next().await.expect("an answer")
}

/// Marks, channel and event.
fn head(frame: &Value) -> Vec<Value> {
    frame.as_array().expect("an array")[..4].to_vec()
}

#[tokio::test]
async fn marks_come_back_as_they_were_and_a_second_join_closes_the_first() {
    let server = Server::start().await;
    let mut ws = open(&server, "?vsn=2.0.0&token=anything").await;
    let ok = json!({"status": "ok", "response": {}});
    let beat = ask(&mut ws, json!([null, "7", "phoenix", "heartbeat", {}])).await;
    assert_eq!(beat, json!([null, "7", "phoenix", "phx_reply", ok]));
    let params = json!({"token": server.admin});
    let joined = ask(&mut ws, json!(["1", "1", "events:t", "phx_join", params])).await;
    assert_eq!(joined, json!(["1", "1", "events:t", "phx_reply", ok]));
    server.publish("t", &[json!(1)]).await;
    let event = ws.next().await.unwrap();
    assert_eq!(head(&event), [Value::Null, Value::Null, json!("events:t"), json!("event:published")]);
    ws.send(json!(["2", 2, "events:t", "phx_join", params])).await;
    let closed = ws.next().await.unwrap();
    assert_eq!(head(&closed), [json!("1"), json!("1"), json!("events:t"), json!("phx_close")]);
    assert_eq!(ws.next().await.unwrap(), json!(["2", 2, "events:t", "phx_reply", ok]));
    // What was meant for the first join is for none; the second hears every event once.
    let stale = ask(&mut ws, json!(["1", "3", "events:t", "publish_events", {}])).await;
    assert_eq!(stale[4], json!({"status": "error", "response": {"reason": "unmatched topic"}}));
    assert_eq!(ask(&mut ws, json!(["1", "4", "events:t", "phx_leave", {}])).await[4], ok);
    server.publish("t", &[json!(2)]).await;
    assert_eq!(ws.next().await.unwrap()[4]["data"], 2);
    assert_eq!(ask(&mut ws, json!(["2", "5", "events:t", "phx_leave", {}])).await[4], ok);
    assert_eq!(ws.next().await.unwrap()[3], "phx_close");
    let gone = ask(&mut ws, json!(["2", "6", "events:t", "publish_events", {}])).await;
    assert_eq!(gone[4]["response"]["reason"], "unmatched topic");
}

#[tokio::test]
async fn the_first_version_speaks_in_objects() {
    let server = Server::start().await;
    let mut ws = open(&server, "").await;
    let join =
        json!({"topic": "events:t", "event": "phx_join", "payload": {"token": server.admin}, "ref": "1"});
    let joined = ask(&mut ws, join).await;
    let reply = json!({"status": "ok", "response": {}});
    let expected =
        json!({"topic": "events:t", "event": "phx_reply", "payload": reply, "ref": "1", "join_ref": null});
    assert_eq!(joined, expected);
    server.publish("t", &[json!(1)]).await;
    let event = ws.next().await.unwrap();
    assert_eq!((&event["event"], &event["ref"]), (&json!("event:published"), &Value::Null));
    ws.send(json!({"topic": "events:t", "event": "phx_leave", "payload": {}, "ref": "2"})).await;
    assert_eq!(ws.next().await.unwrap()["event"], "phx_reply");
    let closed = ws.next().await.unwrap();
    assert_eq!((&closed["event"], &closed["ref"]), (&json!("phx_close"), &json!("1")));
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_and_nothing_else() {
    let server = Server::start().await;
    for bad in ["", "{", "[1]", "{\"topic\":\"t\"}", "[null,{},\"t\",\"e\",{}]"] {
        let mut ws = open(&server, "?vsn=2.0.0").await;
        ws.send_text(bad).await;
        assert_eq!(ws.end().await, (1007, "json_invalid".into()), "{bad}");
    }
    let mut ws = open(&server, "?vsn=2.0.0").await;
    ws.send_raw(Message::binary(vec![0, 1, 2])).await;
    assert_eq!(ws.end().await.0, 1003);
    for (path, origin, status) in [
        ("/socket/websocket?vsn=3.0.0", None, 400),
        ("/socket/websocket?vsn=2.0.0", Some("https://evil.example"), 403),
    ] {
        let url = server.url(path).replacen("http", "ws", 1);
        let mut request = url.into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        match soon("an answer", tokio_tungstenite::connect_async(request)).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                assert_eq!(response.status(), status, "{path}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!(server.get("/socket/websocket").await.status(), 400);
    server.assert_unaffected("t").await;
}

#[tokio::test]
async fn channels_joins_and_silence_have_bounds() {
    let settings = "[phoenix]\nsilence_ms = 400\n[limits]\nsocket_channels = 2\njoin_bytes = 2000\n";
    let (server, _dir) = server(settings).await;
    let mut ws = open(&server, "?vsn=2.0.0").await;
    let join = |n: u32, more: &str| json!([n.to_string(), n.to_string(), format!("events:t{n}"), "phx_join", {"token": server.admin, "x": more}]);
    assert_eq!(ask(&mut ws, join(1, "")).await[4]["status"], "ok");
    let large = ask(&mut ws, join(2, &"x".repeat(2000))).await;
    assert_eq!(large[4]["response"]["code"], "body_too_large");
    assert_eq!(ask(&mut ws, join(2, "")).await[4]["status"], "ok");
    assert_eq!(ask(&mut ws, join(3, "")).await[4]["response"]["code"], "subscriptions_too_many");
    // A second join of the same name takes the place of the first.
    ws.send(join(2, "")).await;
    assert_eq!(ws.next().await.unwrap()[3], "phx_close");
    assert_eq!(ws.next().await.unwrap()[4]["status"], "ok");
    // Heartbeats hold the connection; without them it goes.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(1000) {
        let beat = ask(&mut ws, json!([null, "9", "phoenix", "heartbeat", {}])).await;
        assert_eq!(beat[4]["status"], "ok");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(ws.next().await.is_none() && ws.closed.is_none());
}
