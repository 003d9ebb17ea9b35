//! Order lines while receivers and the server itself break.

use super::receiver::{Hit, Receiver, Say};
use super::*;
use crate::harness::Random;
use std::collections::HashSet;
use std::sync::Mutex;

const EVENTS: u64 = 1000;
const KEYS: u64 = 10;
const DESTINATIONS: u64 = 20;

/// Fails in every way now and then, the same way with the same seed.
fn unreliable(seed: u64) -> impl Fn(&Hit) -> Say + Send + Sync {
    let random = Mutex::new(Random(seed));
    move |_| {
        let mut random = random.lock().unwrap();
        match random.below(400) {
            0..3 => Say::Status(500),
            3 => Say::Hang,
            4..6 => Say::Close,
            6..9 => Say::After(Duration::from_millis(random.below(20)), 200),
            9 => Say::With(503, vec![("retry-after", "0".into())], "busy"),
            _ => Say::Status(204),
        }
    }
}

/// Fails unless each line's events were first met one after the other, each only after the one before was taken.
fn check_lines(receiver: &Receiver, is_by_key: bool, what: &str) -> usize {
    let mut taken = HashSet::new();
    let step = if is_by_key { KEYS } else { 1 };
    for (n, is_answer) in receiver.journal() {
        if is_answer {
            taken.insert(n);
        } else if !taken.contains(&n) && n > step {
            assert!(taken.contains(&(n - step)), "{what}: {n} came before {} was taken", n - step);
        }
    }
    taken.len()
}

#[tokio::test]
async fn every_line_keeps_its_order_without_a_hole_whatever_fails_and_however_often_the_server_is_killed() {
    let seed = 20_261_121;
    println!("seed {seed}");
    let mut server = Hooks::start().await;
    let mut receivers = Vec::new();
    for i in 0..DESTINATIONS {
        let receiver = Receiver::start(unreliable(seed + i)).await;
        let order = if i % 2 == 0 { "topic" } else { "key" };
        let fields = json!({ "order": order, "timeout_ms": 150, "retry_base_ms": 5, "retry_max_ms": 20, "max_attempts": 1000 });
        server.hook(&format!("hook {i}"), "t", &receiver, fields).await;
        receivers.push(receiver);
    }
    let events: Vec<Value> =
        (1..=EVENTS).map(|n| json!({ "key": (n % KEYS).to_string(), "data": { "n": n } })).collect();
    for some in events.chunks(100) {
        assert_eq!(server.post("t", &server.admin, json!(some).to_string()).await.status(), 201);
        // One receiver or another has got further: the server is in the middle of it.
        let before: usize = receivers.iter().map(|r| r.hits().len()).sum();
        until("deliveries", async || receivers.iter().map(|r| r.hits().len()).sum::<usize>() > before + 200)
            .await;
        server.crash_and_restart().await;
    }
    for (i, receiver) in receivers.iter().enumerate() {
        let what = format!("destination {i}");
        tokio::time::timeout(4 * crate::harness::PATIENCE, async {
            while check_lines(receiver, i % 2 == 1, &what) < EVENTS as usize {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{what}: a hole after {} requests", receiver.hits().len()));
    }
}

#[tokio::test]
async fn a_delivery_outlives_a_kill_with_its_attempts() {
    let mut server = Hooks::start().await;
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let receiver = Receiver::start(move |hit| {
        Say::Status(if hit.n() > 1 || well.load(Ordering::SeqCst) { 200 } else { 500 })
    })
    .await;
    let path =
        server.hook("hook", "t", &receiver, json!({ "retry_base_ms": 200, "retry_max_ms": 200 })).await;
    server.publish("t", &[json!({ "n": 1 }), json!({ "n": 2 })]).await;
    let id = format!("/v1/deliveries/{}.1", path.rsplit('/').next().unwrap());
    let tries = async |server: &Hooks| match server.get(&id).await {
        answer if answer.status() == 200 => answer.json::<Value>().await.unwrap()["tries"].as_u64().unwrap(),
        _ => 0,
    };
    until("three attempts", async || tries(&server).await >= 3).await;
    server.kill().await;
    let before = receiver.hits().len();
    server.launch().await;
    assert!(tries(&server).await >= 3, "the count was lost");
    receiver.got(before + 1).await;
    until("another attempt", async || tries(&server).await >= 4).await;
    is_well.store(true, Ordering::SeqCst);
    until("both", async || receiver.numbers().last() == Some(&2)).await;
    let hits = receiver.hits();
    assert!(
        hits.iter().filter(|h| h.n() == 1).all(|h| h.header("webhook-id") == hits[0].header("webhook-id"))
    );
    until("it is put down", async || server.json(&path).await["behind"] == 0).await;
    let attempts = server.json(&id).await["attempts"].as_array().unwrap().len();
    assert!(attempts >= 5 && attempts <= hits.len(), "{attempts} attempts, {} requests", hits.len());
}
