//! Whatever a client does or does not do: its token ends it, it is asked whether it is there, and it costs little.

use super::protocol::{Socket, open, poll, probed, say, socket, text};
use super::*;
use crate::harness::soon;
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

const OVER_WEBSOCKET: &str = "EIO=4&transport=websocket";
const QUICK_PINGS: &str = "[socketio]\nping_ms = 300\npong_ms = 20000\n";

/// In over a WebSocket, with what a packet of the test's has to begin with.
async fn enter(server: &Server, token: &str) -> Socket {
    let mut ws = socket(server, OVER_WEBSOCKET).await;
    ws.send(Message::text(connect(token))).await.unwrap();
    while !text(&mut ws).await.unwrap().starts_with("42[\"connected\"") {}
    ws
}

fn connect(token: &str) -> String {
    format!("40{}", json!({ "token": token }))
}

fn event(ack: usize, name: &str, body: Value) -> String {
    format!("42{ack}{}", json!([name, body]))
}

/// A key that may read and write `t`, with its token.
async fn key(server: &Server) -> (Value, String) {
    let rights = json!({"name": "k", "kind": "producer_consumer", "publish": ["t"], "subscribe": ["t"]});
    let key = server.api_key(rights).await;
    let token = key["token"].as_str().unwrap().to_owned();
    (key, token)
}

async fn revoke(server: &Server, key: &Value) {
    let path = format!("/v1/keys/{}/revoke", key["id"].as_str().unwrap());
    let response = server.request(reqwest::Method::POST, &path, &server.admin).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_client_that_never_stops_talking_is_asked_and_does_not_outlive_its_token() {
    let server = server(QUICK_PINGS).await;
    let token = server.token(&["--publish", "t", "--ttl", "3s"]).await;
    let mut ws = enter(&server, &token).await;
    let (mut say, mut hear) = {
        for n in 0..200 {
            ws.send(Message::text(event(n, "publish", json!({"topic": "t", "event": {"data": n}}))))
                .await
                .unwrap();
        }
        ws.split()
    };
    // Two hundred are always under way, so that the server never has nothing to hear.
    let (mut pings, mut acks) = (0, 0);
    let end = loop {
        let Some(Ok(Message::Text(text))) = soon("a packet", hear.next()).await else { panic!("not told") };
        match text.as_str() {
            "2" => {
                pings += 1;
                say.send(Message::text("3")).await.unwrap();
            }
            ack if ack.starts_with("43") => {
                acks += 1;
                let more = event(acks + 200, "publish", json!({"topic": "t", "event": {"data": acks}}));
                say.send(Message::text(more)).await.unwrap();
            }
            other => break other.to_owned(),
        }
    };
    assert!(end.starts_with("42[\"error\",{\"code\":401"), "{end}");
    assert!(pings >= 5 && acks > 0, "{pings} pings, {acks} acknowledgements");

    // Over polling as well.
    let token = server.token(&["--publish", "t", "--ttl", "3s"]).await;
    let sid = open(&server).await;
    assert_eq!(super::protocol::say(&server, &sid, connect(&token)).await, 200);
    let talk = async {
        let publish = event(1, "publish", json!({"topic": "t", "event": {"data": 1}}));
        let body = vec![publish; 20].join("\u{1e}");
        // Until nobody hears it any more.
        while super::protocol::say(&server, &sid, body.clone()).await == 200 {}
    };
    let listen = async {
        let mut pings = 0;
        loop {
            let payload = poll(&server, &sid).await;
            if payload.split('\u{1e}').any(|packet| packet == "2") {
                pings += 1;
                super::protocol::say(&server, &sid, "3").await;
            }
            if payload.contains("\"code\":401") {
                assert!(payload.ends_with("41"), "{payload}");
                super::protocol::say(&server, &sid, "1").await;
                return pings;
            }
        }
    };
    let ((), pings) = soon("the end", async { tokio::join!(talk, listen) }).await;
    assert!(pings >= 5, "{pings}");
}

/// Publishes more than sockets hold.
async fn much(server: &Server) -> usize {
    for _ in 0..48 {
        let data: Vec<Value> = (0..64).map(|_| json!("x".repeat(16 << 10))).collect();
        server.publish("t", &data).await;
    }
    48 * 64
}

#[tokio::test]
async fn a_client_that_is_slow_to_catch_up_is_asked_and_hears_that_its_key_is_gone() {
    let mut server = server(QUICK_PINGS).await;
    let all = much(&server).await;
    let (key, token) = key(&server).await;
    let mut ws = enter(&server, &token).await;
    ws.send(Message::text(event(1, "subscribe", json!({"topic": "t", "from": "earliest"})))).await.unwrap();
    let (mut events, mut pings) = (0, 0);
    let end = loop {
        let packet = text(&mut ws).await.expect("not told");
        match packet.as_str() {
            "2" => {
                pings += 1;
                ws.send(Message::text("3")).await.unwrap();
                if pings == 2 {
                    revoke(&server, &key).await;
                }
            }
            event if event.starts_with("42[\"event\"") => {
                events += 1;
                // As slow as somebody who draws each.
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
            error if error.starts_with("42[\"error\"") => break error.to_owned(),
            _ => {}
        }
    };
    assert!(end.contains("\"code\":401"), "{end}");
    assert!(pings >= 2 && events < all, "{pings} pings, {events} of {all} events");
    assert_eq!(text(&mut ws).await.unwrap(), "41");

    // A server that ends does not wait until it has caught up.
    let token = server.token(&["--subscribe", "t"]).await;
    let mut ws = enter(&server, &token).await;
    ws.send(Message::text(event(1, "subscribe", json!({"topic": "t", "from": "earliest"})))).await.unwrap();
    while !text(&mut ws).await.unwrap().starts_with("42[\"event\"") {}
    let begun = Instant::now();
    assert!(server.end(libc::SIGTERM).await.success());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(!server.log().contains("did not end in time"), "{}", server.log());
}

#[tokio::test]
async fn a_stream_that_is_slow_to_catch_up_ends_with_its_token() {
    let server = Server::start().await;
    let all = much(&server).await;
    let token = server.token(&["--subscribe", "t", "--ttl", "2s"]).await;
    let path = "/v1/topics/t/events?from=earliest";
    let mut sse = crate::harness::Sse::open(&server, path, &token, None).await;
    let mut ws = server.ws(&server.token(&["--subscribe", "t", "--ttl", "2s"]).await).await;
    ws.send(json!({"op": "subscribe", "topic": "t", "from": "earliest"})).await;
    // They take nothing until long after their time, but for what sockets hold.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut events = 0;
    let end = loop {
        let frame = sse.next().await.expect("told");
        match frame.event.as_deref() {
            Some("$close") => break frame,
            _ => events += 1,
        }
    };
    let why = end.data.expect("a reason");
    assert!(why.contains("token_expired") && events < all, "{events} of {all}: {why}");
    let mut events = 0;
    let end = loop {
        let frame = ws.next().await.expect("told");
        match frame["op"].as_str() {
            Some("close") => break frame,
            _ => events += 1,
        }
    };
    assert!(end["code"] == "token_expired" && events < all, "{events} of {all}: {end}");
}

#[tokio::test]
async fn who_is_put_out_gets_nothing_more() {
    let server = Server::start().await;
    let (key, token) = key(&server).await;
    let mut ws = enter(&server, &token).await;
    ws.send(Message::text(event(1, "subscribe", json!({"topic": "t"})))).await.unwrap();
    while !text(&mut ws).await.unwrap().starts_with("431[") {}
    let sid = open(&server).await;
    let subscribe = event(1, "subscribe", json!({"topic": "t"}));
    assert_eq!(say(&server, &sid, format!("{}\u{1e}{subscribe}", connect(&token))).await, 200);
    while !poll(&server, &sid).await.contains("431[") {}
    // A poll that waits is answered when the key is gone, not by the next event.
    let ((), told) = tokio::join!(revoke(&server, &key), poll(&server, &sid));
    assert!(told.starts_with("42[\"error\",{\"code\":401") && told.ends_with("\u{1e}41"), "{told}");
    while text(&mut ws).await.unwrap() != "41" {}
    server.publish("t", &[json!("secret")]).await;
    // Neither closes: the server does after a while.
    assert_eq!(poll(&server, &sid).await, "1");
    assert_eq!(text(&mut ws).await, None);
}

#[tokio::test]
async fn what_is_posted_with_a_revoked_key_is_not_done() {
    let server = Server::start().await;
    for n in 0..20 {
        let (key, token) = key(&server).await;
        let sid = open(&server).await;
        assert_eq!(say(&server, &sid, connect(&token)).await, 200);
        assert!(poll(&server, &sid).await.contains("\"connected\""));
        revoke(&server, &key).await;
        let publish = event(1, "publish", json!({"topic": "t", "event": {"data": n}}));
        say(&server, &sid, publish).await;
        assert!(poll(&server, &sid).await.contains("\"code\":401"));
        let response = server.request(
            reqwest::Method::DELETE,
            &format!("/v1/keys/{}", key["id"].as_str().unwrap()),
            &server.admin,
        );
        assert!(response.send().await.unwrap().status().is_success());
    }
    assert_eq!(
        crate::harness::code(server.get("/v1/topics/t/events").await).await,
        (404, "topic_unknown".into())
    );
}

#[tokio::test]
async fn a_poll_tells_that_a_subscription_was_taken_away() {
    let server = Server::start().await;
    let add = json!({"name": "ada", "password": "a good password", "subscribe": ["t", "u"]});
    let request = server.request(reqwest::Method::POST, "/v1/users", &server.admin).json(&add);
    let user: Value = request.send().await.unwrap().json().await.unwrap();
    let login = json!({"name": "ada", "password": "a good password"});
    let login: Value =
        server.http.post(server.url("/v1/login")).json(&login).send().await.unwrap().json().await.unwrap();
    let sid = open(&server).await;
    let subscribe = event(1, "subscribe", json!({"topic": "t"}));
    let enter = connect(login["token"].as_str().unwrap());
    assert_eq!(say(&server, &sid, format!("{enter}\u{1e}{subscribe}")).await, 200);
    while !poll(&server, &sid).await.contains("431[") {}
    let path = format!("/v1/users/{}", user["id"].as_str().unwrap());
    let patch =
        server.request(reqwest::Method::PATCH, &path, &server.admin).json(&json!({"subscribe": ["u"]}));
    let (told, patched) = tokio::join!(poll(&server, &sid), patch.send());
    assert_eq!(patched.unwrap().status(), 200);
    assert!(told.starts_with("42[\"error\",{\"code\":\"forbidden\""), "{told}");
}

#[tokio::test]
async fn many_questions_in_one_body_are_all_answered_in_order_as_polls_come_for_the_answers() {
    const MANY: usize = 2000;
    let server = Server::start().await;
    let token = server.token(&["--publish", "t"]).await;
    let sid = open(&server).await;
    assert_eq!(say(&server, &sid, connect(&token)).await, 200);
    let all: Vec<_> = (0..MANY)
        .map(|n| {
            event(n, "publish", json!({"topic": "t", "events": [{"data": n}, {"data": n}, {"data": n}]}))
        })
        .collect();
    let body = all.join("\u{1e}");
    // One is heard, one waits behind it, and the third is taken once there is room.
    let (one, two, three, next) = tokio::join!(
        say(&server, &sid, body.clone()),
        say(&server, &sid, body.clone()),
        say(&server, &sid, body.clone()),
        async {
            let mut next = 0;
            while next < 3 * MANY {
                for packet in poll(&server, &sid).await.split('\u{1e}') {
                    let Some(answer) = packet.strip_prefix("43") else { continue };
                    let ack = answer.split_once('[').unwrap().0.parse::<usize>().unwrap();
                    assert_eq!(ack, next % MANY);
                    next += 1;
                }
            }
            next
        }
    );
    assert_eq!((one, two, three, next), (200, 200, 200, 3 * MANY));
    assert_eq!(server.read_all("t").await.len(), 9 * MANY);
}

#[tokio::test]
async fn many_questions_before_a_change_to_a_websocket_are_all_answered_over_that() {
    const MANY: usize = 2000;
    let server = Server::start().await;
    let token = server.token(&["--publish", "t"]).await;
    let (sid, mut ws) = probed(&server).await;
    let publish = |n| json!({"topic": "t", "events": [{"data": n}, {"data": n}, {"data": n}]});
    let all: Vec<_> = (0..MANY).map(|n| event(n, "publish", publish(n))).collect();
    // Its polls have ended, and it changes as soon as what it has posted was taken.
    assert_eq!(say(&server, &sid, connect(&token)).await, 200);
    for part in all.chunks(MANY / 2) {
        assert_eq!(say(&server, &sid, part.join("\u{1e}")).await, 200);
    }
    ws.send(Message::text("5")).await.unwrap();
    let mut next = 0;
    while next < MANY {
        let packet = text(&mut ws).await.unwrap();
        let Some(answer) = packet.strip_prefix("43") else { continue };
        assert_eq!(answer.split_once('[').unwrap().0.parse::<usize>().unwrap(), next);
        next += 1;
    }
    ws.send(Message::text(event(7, "publish", publish(7)))).await.unwrap();
    assert!(text(&mut ws).await.unwrap().starts_with("437["));
}

#[tokio::test]
async fn who_has_shown_no_token_cannot_fill_memory() {
    let server = Server::start().await;
    // What is answered waits for a poll that does not come; nothing more is heard meanwhile.
    let sid = open(&server).await;
    let before = server.rss_kib();
    let body = vec![format!("40/{},", "n".repeat(200)); 4000].join("\u{1e}");
    let posts =
        (0..30).map(|_| tokio::time::timeout(Duration::from_secs(2), say(&server, &sid, body.clone())));
    let taken = futures_util::future::join_all(posts)
        .await
        .into_iter()
        .filter(|done| matches!(done, Ok(200)))
        .count();
    assert!(taken <= 2, "{taken}");
    let answered = poll(&server, &sid).await;
    assert!(answered.starts_with("44/nnn"), "{answered:.100}");

    // Answers to pings go to a socket that takes them or not, before a WebSocket is a session's.
    let (_, mut ws) = probed(&server).await;
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let flood = ping.repeat(4096);
    let tcp = ws.get_mut();
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        for _ in 0..400 {
            tcp.write_all(&flood).await?;
        }
        std::io::Result::Ok(())
    })
    .await;
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 60 << 10, "{grown} KiB more");
    drop(ws);
    server.assert_unaffected("after").await;
}

#[tokio::test]
async fn names_that_nobody_listens_to_are_passed_over() {
    let server = Server::start().await;
    let token = server.token(&["--publish", "t"]).await;
    let mut ws = enter(&server, &token).await;
    for odd in ["42[7,\"x\"]", "42[\"\\ud800\"]", "42[null]", "421[\"nothing\"]"] {
        ws.send(Message::text(odd)).await.unwrap();
    }
    ws.send(Message::text(event(5, "publish", json!({"topic": "t", "event": {"data": 1}})))).await.unwrap();
    assert!(text(&mut ws).await.unwrap().starts_with("435["));
    let response = server.http.head(server.url("/socket.io/?EIO=4&transport=polling")).send().await.unwrap();
    assert_eq!(response.status(), 400);
}
