//! entity-sync's own messages, over its own URL.

use super::{ITEMS, server};
use crate::harness::entities::{App, Es, changed, metric, subscriptions};
use crate::harness::{soon, until};
use reqwest::StatusCode;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn a_subscriber_gets_each_change_of_its_entity_and_of_no_other() {
    let app = App::start().await;
    app.set("/items/100", &[json!({"ID": "100"})]);
    app.set("/items/101", &[json!({"ID": "101"})]);
    let (server, _dir) = server(ITEMS, &app).await;
    let mut client = Es::open(&server, "").await;
    client.subscribe("items", "100").await;
    subscriptions(&server, "items", 1).await;
    let began = Instant::now();
    changed(&server, "items", "101").await;
    changed(&server, "items", "100").await;
    assert_eq!(client.frame().await, r#"{"ID":"100"}"#);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(app.asked_for("/items/101"), 0, "nobody watches it");
}

#[tokio::test]
async fn several_keys_several_clients_and_leaving() {
    let app = App::start().await;
    for path in ["/items/1", "/items/2", "/users/1"] {
        app.set(path, &[json!(path)]);
    }
    let (server, _dir) = server(ITEMS, &app).await;
    let (mut a, mut b) = (Es::open(&server, "").await, Es::open(&server, "").await);
    for (entity, id) in [("items", "1"), ("items", "2"), ("items", "1")] {
        a.subscribe(entity, id).await;
    }
    b.subscribe("users", "1").await;
    b.subscribe("items", "2").await;
    subscriptions(&server, "items", 3).await;
    subscriptions(&server, "users", 1).await;
    // One at a time, so that each change is a frame of its own.
    for (entity, id) in [("items", "1"), ("users", "1"), ("items", "2")] {
        changed(&server, entity, id).await;
        let expected = format!("\"/{entity}/{id}\"");
        for (client, gets) in [(&mut a, entity == "items"), (&mut b, id == "2" || entity == "users")] {
            if gets {
                assert_eq!(client.frame().await, expected);
            }
        }
    }
    a.action("unsubscribe", json!({"id": "2", "entity": "items"})).await;
    subscriptions(&server, "items", 2).await;
    changed(&server, "items", "2").await;
    assert_eq!(b.frame().await, "\"/items/2\"", "others are unaffected");
    changed(&server, "items", "1").await;
    assert_eq!(a.frame().await, "\"/items/1\"", "nothing of the key that was left came before");
    a.close().await;
    drop(b);
    subscriptions(&server, "items", 0).await;
    subscriptions(&server, "users", 0).await;
    until("the connections to be gone", || async {
        metric(&server, "tidings_streams{kind=\"entity-sync\"}").await == 0
    })
    .await;
}

#[tokio::test]
async fn rows_come_in_order_and_never_between_those_of_another_change() {
    let app = App::start().await;
    let rows = |name: &str| (0..3).map(|n| json!(format!("{name}{n}"))).collect::<Vec<_>>();
    app.set("/items/1", &rows("a"));
    app.set("/items/2", &rows("b"));
    let (server, _dir) = server(ITEMS, &app).await;
    let mut client = Es::open(&server, "?ack=1").await;
    client.subscribe("items", "1").await;
    client.subscribe("items", "2").await;
    assert_eq!(client.json().await["action"], "subscribed");
    assert_eq!(client.json().await["body"]["id"], "2");
    for _ in 0..20 {
        tokio::join!(changed(&server, "items", "1"), changed(&server, "items", "2"));
    }
    let mut seen = [false, false];
    while seen != [true, true] {
        let first = client.frame().await;
        let name = first.chars().nth(1).expect("a name");
        assert_eq!(first, format!("\"{name}0\""));
        for n in 1..3 {
            assert_eq!(client.frame().await, format!("\"{name}{n}\""));
        }
        seen[usize::from(name == 'b')] = true;
    }
}

#[tokio::test]
async fn the_resolver_sees_the_newest_secret_and_refuses_whom_it_will() {
    let app = App::start().await;
    app.set("/items/1", &[json!("for s2 only")]);
    app.only("s2");
    let (server, _dir) = server(ITEMS, &app).await;
    let (mut allowed, mut other) = (Es::open(&server, "?ack=1").await, Es::open(&server, "?ack=1").await);
    for client in [&mut allowed, &mut other] {
        client.subscribe("items", "1").await;
        client.action("secret", json!("s1")).await;
        client.json().await;
        assert_eq!(client.json().await["action"], "accepted");
    }
    changed(&server, "items", "1").await;
    until("the resolver to be asked", || async { !app.asked().is_empty() }).await;
    assert_eq!(app.asked(), [("/items/1".to_owned(), "s1".to_owned())], "one fetch for both");
    allowed.action("secret", json!("s2")).await;
    allowed.json().await;
    changed(&server, "items", "1").await;
    assert_eq!(allowed.frame().await, "\"for s2 only\"");
    let secrets = || app.asked().into_iter().map(|(_, secret)| secret).collect::<Vec<_>>();
    until("both secrets to be asked for", || async { secrets().len() >= 3 }).await;
    assert!(secrets()[1..].contains(&"s1".into()) && secrets()[1..].contains(&"s2".into()));
    // A thing of its own behind it shows that the refused client got nothing before.
    other.action("unsubscribe", json!({"id": "1", "entity": "items"})).await;
    assert_eq!(other.json().await["action"], "unsubscribed");
    assert_eq!(metric(&server, "tidings_entity_failures_total{entity=\"items\"}").await, 0);
}

#[tokio::test]
async fn what_is_none_of_its_messages_is_passed_through_with_the_secret() {
    let app = App::start().await;
    let settings = format!("[entities]\npass_through = \"APP/messages\"\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let mut client = Es::open(&server, "?ack=1").await;
    client.action("secret", json!("s")).await;
    client.say(r#"{"foo": 1}"#).await;
    client.subscribe("items", "1").await;
    client.say(Message::binary(&br#"{"action":"","bar":[2]}"#[..])).await;
    until("both to be passed through", || async { app.posted().len() == 2 }).await;
    let expected = [r#"{"foo": 1}"#, r#"{"action":"","bar":[2]}"#].map(|m| (m.to_owned(), "s".to_owned()));
    assert_eq!(app.posted(), expected);
}

#[tokio::test]
async fn messages_can_be_passed_to_a_topic() {
    let app = App::start().await;
    let (server, _dir) = server("[entities]\npass_through = \"topic:inbox\"\n", &app).await;
    let mut inbox = server.sse("inbox", "from=earliest").await;
    let mut client = Es::open(&server, "").await;
    client.say(r#"{"foo":1}"#).await;
    assert_eq!(inbox.event().await["data"], json!({"foo": 1}));
}

#[tokio::test]
async fn bad_messages_leave_the_connection_and_are_told_only_to_whom_asked() {
    let app = App::start().await;
    app.set("/items/1", &[json!("row")]);
    let (server, _dir) = server(ITEMS, &app).await;
    let bad = [
        ("nonsense", "json_invalid"),
        ("[1]", "json_invalid"),
        (r#"{"action":"subscribe","body":{"id":1,"entity":"items"}}"#, "parameter_invalid"),
        (r#"{"action":"dance","body":{}}"#, "op_unknown"),
        (r#"{"action":"subscribe","body":{"id":"1","entity":"unknown"}}"#, "entity_unknown"),
        (r#"{"foo":1}"#, "op_unknown"),
    ];
    let mut quiet = Es::open(&server, "").await;
    let mut told = Es::open(&server, "?errors=1").await;
    for (message, code) in bad {
        quiet.say(message).await;
        told.say(message).await;
        let error = told.json().await;
        assert_eq!((&error["action"], &error["body"]["code"]), (&json!("error"), &json!(code)), "{message}");
    }
    // Names of members are taken in any case, and frames of bytes too.
    quiet.say(Message::binary(&br#"{"ACTION":"subscribe","Body":{"ID":"1","Entity":"items"}}"#[..])).await;
    subscriptions(&server, "items", 1).await;
    changed(&server, "items", "1").await;
    assert_eq!(quiet.frame().await, "\"row\"", "the first frame of all");
}

#[tokio::test]
async fn the_state_comes_first_where_asked_for_and_nothing_falls_between() {
    let app = App::start().await;
    app.set("/items/1", &[json!(0)]);
    let (server, _dir) = server(ITEMS, &app).await;
    let mut plain = Es::open(&server, "?ack=1").await;
    plain.subscribe("items", "1").await;
    plain.json().await;
    for round in 0..50 {
        let mut client = Es::open(&server, "?state=1&ack=1").await;
        client.subscribe("items", "1").await;
        assert_eq!(client.json().await["action"], "subscribed");
        // Stored and told at any moment of the first fetch: the newest always arrives.
        app.set("/items/1", &[json!(round + 1)]);
        changed(&server, "items", "1").await;
        client.until(&(round + 1).to_string()).await;
    }
    // Whoever did not ask for it gets changes only: never the state that others have asked for.
    let fetched_for_others = app.asked_for("/items/1");
    let before = plain.until("50").await;
    assert!(!before.contains(&"0".to_owned()) && before.len() < 50, "{before:?} of {fetched_for_others}");
}

#[tokio::test]
async fn the_upgrade_keeps_out_foreign_pages_and_other_requests() {
    let app = App::start().await;
    let settings = format!("[entities]\norigins = [\"https://friend.example\"]\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let url = server.url("/ws/entity-sync/");
    let own = server.url("");
    for (origin, is_let_in) in [
        (own.as_str(), true),
        ("https://friend.example", true),
        ("https://evil.example", false),
        ("null", false),
    ] {
        match Es::try_at(&url, &[("origin", origin)]).await {
            Ok(_) => assert!(is_let_in, "{origin}"),
            Err(Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), 403, "{origin}");
                assert!(!is_let_in, "{origin}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    let plain = server.http.get(&url).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::BAD_REQUEST);
    assert_eq!(plain.headers()["sec-websocket-version"], "13");
    assert_eq!(plain.text().await.unwrap().trim(), "Bad Request");
    let slashless = server.http.get(server.url("/ws/entity-sync")).send().await.unwrap();
    assert_eq!(slashless.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn silent_clients_are_pinged_and_cut_and_large_messages_refused() {
    let app = App::start().await;
    let settings = format!("[entities]\nping_ms = 300\npong_ms = 1500\nmessage_bytes = 1000\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let mut client = Es::open(&server, "").await;
    let secret = |total: usize| json!({"action": "secret", "body": "x".repeat(total - 29)}).to_string();
    assert_eq!(secret(1000).len(), 1000);
    // This one answers pings by reading, and stays.
    client.say(secret(1000)).await;
    let reading = async { while client.next().await.is_some() {} };
    assert!(tokio::time::timeout(Duration::from_millis(3000), reading).await.is_err(), "it stays");
    assert!(client.pings >= 2, "{}", client.pings);
    client.say(secret(1001)).await;
    assert_eq!(client.end().await, Some(1009));
    // This one never answers: the bare socket sees a ping, and then the end without a close frame.
    let mut silent = raw_upgrade(&server).await;
    let began = Instant::now();
    let mut heard = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut heard);
    soon("the end", read).await.unwrap();
    assert!(began.elapsed() > Duration::from_millis(1200), "{:?}", began.elapsed());
    let frames = &heard[heard.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4..];
    assert!(!frames.is_empty() && frames.chunks(2).all(|frame| frame == [0x89, 0]), "{frames:?}");
}

/// A WebSocket whose client does nothing by itself.
pub async fn raw_upgrade(server: &crate::harness::Server) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let address = server.url("").replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "GET /ws/entity-sync/ HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.expect("it is sent");
    socket
}

#[tokio::test]
async fn with_tokens_as_secrets_only_what_they_grant_is_sent_and_only_while_they_last() {
    let app = App::start().await;
    app.set("/items/1", &[json!("one")]);
    app.set("/users/1", &[json!("user")]);
    let settings = format!("[entities]\nauth = \"jwt\"\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let mut client = Es::open(&server, "?ack=1&errors=1&state=1").await;
    client.subscribe("items", "1").await;
    client.subscribe("users", "1").await;
    assert_eq!(client.json().await["action"], "subscribed");
    assert_eq!(client.json().await["action"], "subscribed");
    client.action("secret", json!("no token")).await;
    assert_eq!(client.json().await["body"]["code"], "token_invalid");
    assert!(app.asked().is_empty(), "without a token nothing is fetched");
    let token = server.token(&["--subscribe", "items", "--ttl", "3s"]).await;
    client.action("secret", json!(token)).await;
    let mut got = [client.frame().await, client.frame().await];
    got.sort();
    assert_eq!(got[0], "\"one\"");
    assert!(got[1].contains("accepted"), "{got:?}");
    changed(&server, "users", "1").await;
    changed(&server, "items", "1").await;
    assert_eq!(client.frame().await, "\"one\"");
    assert_eq!(app.asked_for("/users/1"), 0, "the token does not grant users");
    assert_eq!(client.end().await, Some(4401), "the connection ends with its token");
}

#[tokio::test]
async fn the_path_is_a_setting_and_the_door_can_be_shut() {
    let app = App::start().await;
    let (there, _dir) = server(&format!("[entities]\npath = \"/es\"\n{ITEMS}"), &app).await;
    Es::at(&there.url("/es")).await.close().await;
    let (shut, _dir) = server("[entities]\nenabled = false\n", &app).await;
    let answer = Es::try_at(&shut.url("/ws/entity-sync/"), &[]).await;
    assert!(matches!(answer, Err(Error::Http(r)) if r.status().as_u16() == 404));
}
