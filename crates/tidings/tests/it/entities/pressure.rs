//! Slow clients, slow resolvers, many changes, many clients.

use super::dialect::raw_upgrade;
use super::{ITEMS, server};
use crate::harness::entities::{App, Es, changed, metric, subscriptions};
use crate::harness::{Random, soon, until};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn many_changes_during_a_fetch_are_one_further_fetch_and_the_last_state_arrives() {
    let app = App::start().await;
    app.set("/items/1", &[json!(0)]);
    let (server, _dir) = server(ITEMS, &app).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Es::open(&server, "").await;
        client.subscribe("items", "1").await;
        clients.push(client);
    }
    subscriptions(&server, "items", 50).await;
    app.hold();
    changed(&server, "items", "1").await;
    until("the fetch to begin", || async { app.asked_for("/items/1") == 1 }).await;
    for n in 1..=100 {
        app.set("/items/1", &[json!(n)]);
        changed(&server, "items", "1").await;
    }
    app.release();
    for client in &mut clients {
        // The first fetch's state is sent too, unless the second one is there before it.
        let before = client.until("100").await;
        assert!(before.is_empty() || before == ["0"], "{before:?}");
    }
    assert_eq!(app.asked_for("/items/1"), 2, "two fetches for 101 changes and 50 clients");
    assert_eq!(metric(&server, "tidings_entity_fetches_total{entity=\"items\"}").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_delays_nobody_and_costs_bounded_memory() {
    const CHANGES: usize = 1000;
    let app = App::start().await;
    let settings = format!("[entities]\nwrite_timeout_ms = 600000\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let big = "x".repeat(1 << 20);
    app.set("/items/big", &[json!(big)]);
    let mut stuck = raw_upgrade(&server).await;
    let text = r#"{"action":"subscribe","body":{"id":"big","entity":"items"}}"#;
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    stuck.write_all(&frame).await.unwrap();
    subscriptions(&server, "items", 1).await;
    let mut reader = Es::open(&server, "").await;
    reader.subscribe("items", "small").await;
    subscriptions(&server, "items", 2).await;
    let before = server.rss_kib();
    let (mut highest, mut slowest) = (before, Duration::ZERO);
    for n in 0..CHANGES {
        changed(&server, "items", "big").await;
        if n % 20 == 0 {
            app.set("/items/small", &[json!(n)]);
            let began = Instant::now();
            changed(&server, "items", "small").await;
            reader.until(&n.to_string()).await;
            slowest = slowest.max(began.elapsed());
            highest = highest.max(server.rss_kib());
        }
    }
    eprintln!("the others waited {slowest:?} at most; memory {before} KiB, then {highest} KiB");
    assert!(slowest < Duration::from_secs(1), "others wait {slowest:?}");
    assert!(highest < before + (200 << 10), "memory grew from {before} to {highest} KiB");
    // Once it reads, it gets the newest state.
    app.set("/items/big", &[json!("the last")]);
    changed(&server, "items", "big").await;
    let (mut tail, last) = (Vec::new(), b"\"the last\"");
    soon("the last state", async {
        let mut some = vec![0; 1 << 16];
        while !tail.ends_with(last) {
            let n = tokio::io::AsyncReadExt::read(&mut stuck, &mut some).await.expect("it goes on");
            assert!(n > 0, "it goes on");
            tail.extend_from_slice(&some[..n]);
            tail.drain(..tail.len().saturating_sub(64));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_after_the_write_timeout() {
    let app = App::start().await;
    app.set("/items/big", &[json!("x".repeat(8 << 20))]);
    let settings = format!("[entities]\nwrite_timeout_ms = 500\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let mut stuck = raw_upgrade(&server).await;
    let text = r#"{"action":"subscribe","body":{"id":"big","entity":"items"}}"#;
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    stuck.write_all(&frame).await.unwrap();
    subscriptions(&server, "items", 1).await;
    changed(&server, "items", "big").await;
    subscriptions(&server, "items", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_and_go_by_the_hundred_while_changes_flow() {
    const CLIENTS: u64 = 200;
    let app = App::start().await;
    for id in 0..5 {
        app.set(&format!("/items/{id}"), &[json!(id)]);
    }
    let (server, _dir) = server(ITEMS, &app).await;
    let server = Arc::new(server);
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let (server, over, rounds) = (Arc::clone(&server), Arc::clone(&over), Arc::clone(&rounds));
            tokio::spawn(async move {
                let mut random = Random(seed);
                while !over.load(Ordering::Relaxed) {
                    let mut client =
                        Es::open(&server, ["", "?state=1", "?ack=1"][random.below(3) as usize]).await;
                    for _ in 0..random.below(4) {
                        client.subscribe("items", &random.below(5).to_string()).await;
                    }
                    client.action("secret", json!(random.below(3).to_string())).await;
                    tokio::time::sleep(Duration::from_millis(random.below(100))).await;
                    rounds.fetch_add(1, Ordering::Relaxed);
                    match random.below(2) {
                        0 => client.close().await,
                        _ => drop(client),
                    }
                }
            })
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(8);
    let mut random = Random(7);
    while Instant::now() < end {
        changed(&server, "items", &random.below(5).to_string()).await;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        soon("a client's end", client).await.unwrap();
    }
    assert!(rounds.load(Ordering::Relaxed) > CLIENTS, "hardly anybody came");
    subscriptions(&server, "items", 0).await;
    let mut client = Es::open(&server, "?state=1").await;
    client.subscribe("items", "3").await;
    assert_eq!(client.frame().await, "3");
}

#[tokio::test]
async fn a_resolver_that_hangs_or_fails_hurts_its_own_entity_only() {
    let app = App::start().await;
    app.set("/items/1", &[json!(1)]);
    let settings = r#"
[entities.items]
http = "APP/items/{id}"
timeout_ms = 300
fetches_at_once = 2
[entities.orders]
topic = "orders"
"#;
    let (server, _dir) = server(settings, &app).await;
    let mut client = Es::open(&server, "?errors=1&ack=1").await;
    for (entity, id) in [("items", "1"), ("orders", "1")] {
        client.subscribe(entity, id).await;
        client.json().await;
    }
    app.hold();
    changed(&server, "items", "1").await;
    server.publish("orders:1", &[json!("quick")]).await;
    assert_eq!(client.frame().await, "\"quick\"", "the other entity does not wait");
    let error = client.json().await;
    assert_eq!(error["body"]["code"], "resolver_timeout");
    let (status, _) = crate::harness::code(server.get("/v1/entities/items/1").await).await;
    assert_eq!(status, 504);
    app.release();
    // The change that could not be fetched is not forgotten.
    loop {
        let frame = client.frame().await;
        if frame == "1" {
            break;
        }
        assert!(frame.contains("resolver_timeout"), "{frame}");
    }
    assert!(metric(&server, "tidings_entity_failures_total{entity=\"items\"}").await >= 1);
}

#[tokio::test]
async fn a_hundred_thousand_rows_arrive_and_more_than_allowed_are_refused() {
    let app = App::start().await;
    let rows: Vec<_> = (0..100_000).map(|n| json!(n)).collect();
    app.set("/items/all", &rows);
    app.set("/users/all", &rows);
    let settings = ITEMS.replace("[entities.users]", "[entities.users]\nrows_max = 99999");
    let (server, _dir) = server(&settings, &app).await;
    let mut client = Es::open(&server, "?errors=1&state=1").await;
    client.subscribe("items", "all").await;
    for n in 0..100_000 {
        assert_eq!(client.frame().await, n.to_string());
    }
    client.subscribe("users", "all").await;
    assert_eq!(client.json().await["body"]["code"], "resolver_failed");
}

#[tokio::test]
async fn a_connection_may_have_so_many_subscriptions_and_the_server_so_many_connections() {
    let app = App::start().await;
    let settings = format!("[limits]\nentity_keys = 3\nentity_connections = 2\n{ITEMS}");
    let (server, _dir) = server(&settings, &app).await;
    let mut client = Es::open(&server, "?errors=1&ack=1").await;
    for id in ["1", "2", "3"] {
        client.subscribe("items", id).await;
        assert_eq!(client.json().await["action"], "subscribed");
    }
    client.subscribe("items", "4").await;
    assert_eq!(client.json().await["body"]["code"], "subscriptions_too_many");
    client.subscribe("items", "1").await;
    assert_eq!(client.json().await["action"], "subscribed", "one that is there already");
    let second = Es::open(&server, "").await;
    let third = Es::try_at(&server.url("/ws/entity-sync/"), &[]).await;
    assert!(matches!(third, Err(tokio_tungstenite::tungstenite::Error::Http(r)) if r.status() == 503));
    second.close().await;
    until("room again", || async { Es::try_at(&server.url("/ws/entity-sync/"), &[]).await.is_ok() }).await;
}
