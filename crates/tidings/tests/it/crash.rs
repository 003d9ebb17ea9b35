//! Kills the real program at random moments under load, and checks every promise about what was acknowledged.
//!
//! `TIDINGS_TORTURE=N` kills N times instead of 50; `TIDINGS_SEED=N` repeats a run's moments.

use crate::harness::{Random, Server, Sse, Ws, soon, until};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings::Uuid;

const TOPICS: [&str; 3] = ["red", "green", "blue"];
const PAUSE: Duration = Duration::from_millis(10);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Where events lie, as somebody was told: by topic and offset.
type Places = HashMap<(String, u64), String>;

/// What publishers and subscribers have witnessed.
#[derive(Default)]
struct Witness {
    acknowledged: Mutex<HashSet<String>>,
    /// Where acknowledged events lie, as far as the receipt says it.
    placed: Mutex<Places>,
    delivered: Mutex<Places>,
    /// Every id that was ever sent, acknowledged or not.
    sent: Mutex<HashMap<String, String>>,
    over: AtomicBool,
}

impl Witness {
    fn saw(places: &Mutex<Places>, topic: &str, event: &Value) {
        let (offset, id) =
            (event["offset"].as_u64().expect("an offset"), event["id"].as_str().expect("an id"));
        let before = places.lock().unwrap().insert((topic.to_owned(), offset), id.to_owned());
        assert!(before.is_none_or(|b| b == id), "offset {offset} of {topic} has held two events");
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Reach {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// Publishes batches under ids of its own, each until it is acknowledged.
async fn publish(reach: Reach, witness: Arc<Witness>, seed: u64) {
    let mut random = Random(seed);
    while !witness.is_over() {
        let topic = TOPICS[random.below(TOPICS.len() as u64) as usize];
        let ids: Vec<String> = (0..=random.below(20)).map(|_| Uuid::now_v7().to_string()).collect();
        for id in &ids {
            witness.sent.lock().unwrap().insert(id.clone(), topic.to_owned());
        }
        let filler = "x".repeat(random.below(2000) as usize);
        let events = ids.iter().map(|id| json!({ "id": id, "key": &id[34..], "data": filler }).to_string());
        let is_lines = random.below(2) == 0;
        let (kind, body) = if is_lines {
            ("application/x-ndjson", events.map(|e| e + "\n").collect::<String>())
        } else {
            ("application/json", format!("[{}]", events.collect::<Vec<_>>().join(",")))
        };
        loop {
            let request = reach.http.post(format!("{}/v1/topics/{topic}/events", reach.base));
            let request = request.bearer_auth(&reach.token).header("content-type", kind).body(body.clone());
            let Ok(response) = request.send().await else {
                if witness.is_over() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let status = response.status();
            let Ok(receipt) = response.json::<Value>().await else { continue };
            assert_eq!(status, 201, "{receipt}");
            if is_lines {
                assert_eq!(receipt["accepted"], ids.len(), "{receipt}");
            } else {
                let told = receipt["events"].as_array().expect("receipts");
                assert_eq!(told.len(), ids.len());
                for (event, id) in told.iter().zip(&ids) {
                    assert_eq!(event["id"].as_str(), Some(id.as_str()));
                    Witness::saw(&witness.placed, topic, event);
                }
            }
            witness.acknowledged.lock().unwrap().extend(ids);
            break;
        }
    }
}

/// Follows one topic by SSE with its cursor, and sees to it that nothing is skipped or repeated.
async fn follow_by_sse(reach: Reach, witness: Arc<Witness>, topic: &'static str) {
    let (mut cursor, mut last) = (None::<String>, 0);
    while !witness.is_over() {
        let url = format!("{}/v1/topics/{topic}/events?from=earliest", reach.base);
        let mut request = reach.http.get(url).bearer_auth(&reach.token).header("accept", "text/event-stream");
        if let Some(cursor) = &cursor {
            request = request.header("last-event-id", cursor);
        }
        let Ok(response) = request.send().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut stream = Sse::of(response, cursor.as_deref());
        while let Some(event) = stream.try_event().await {
            let offset = event["offset"].as_u64().expect("an offset");
            assert_eq!(offset, last + 1, "SSE of {topic} skips or repeats");
            last = offset;
            Witness::saw(&witness.delivered, topic, &event);
        }
        cursor = stream.cursor;
    }
}

/// Follows all topics over one WebSocket.
async fn follow_by_ws(reach: Reach, witness: Arc<Witness>) {
    let mut cursors = TOPICS.map(|_| "earliest".to_owned());
    let mut last = TOPICS.map(|_| 0);
    while !witness.is_over() {
        let Ok(mut ws) = Ws::try_open_at(&format!("{}/v1/ws", reach.base), Some(&reach.token)).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        for (topic, from) in TOPICS.iter().zip(&cursors) {
            ws.send(json!({"op": "subscribe", "topic": topic, "from": from})).await;
        }
        while let Some((cursor, event)) = ws.try_event().await {
            let topic = event["topic"].as_str().expect("a topic").split(':').next().unwrap_or_default();
            let n = TOPICS.iter().position(|t| *t == topic).expect("one of ours");
            let offset = event["offset"].as_u64().expect("an offset");
            assert_eq!(offset, last[n] + 1, "WebSocket of {topic} skips or repeats");
            (last[n], cursors[n]) = (offset, cursor);
            Witness::saw(&witness.delivered, topic, &event);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_delivered_is_taken_back() {
    let kills = number("TIDINGS_TORTURE").unwrap_or(50);
    let seed = number("TIDINGS_SEED").unwrap_or(u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let mut random = Random(seed);
    let mut server = Server::start_to_restart(&["--log-level", "warn"]).await;
    let reach = Reach { http: server.http.clone(), base: server.url(""), token: server.admin.clone() };
    let witness = Arc::new(Witness::default());
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(tokio::spawn(publish(reach.clone(), Arc::clone(&witness), seed ^ n)));
    }
    for topic in TOPICS {
        tasks.push(tokio::spawn(follow_by_sse(reach.clone(), Arc::clone(&witness), topic)));
    }
    tasks.push(tokio::spawn(follow_by_ws(reach.clone(), Arc::clone(&witness))));

    for round in 0..kills {
        // Mostly under load, sometimes before the first event after a start.
        if random.below(5) > 0 {
            let before = witness.count();
            until("publishing to go on", || async { witness.count() > before }).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        server.kill().await;
        if random.below(5) == 0 {
            // Also in the midst of a start.
            drop(server.spawn());
            tokio::time::sleep(Duration::from_millis(random.below(60))).await;
            server.kill().await;
        }
        server.launch().await;
        if let Some(task) = tasks.iter().position(tokio::task::JoinHandle::is_finished) {
            panic!("after kill {round}: {:?}", tasks.swap_remove(task).await);
        }
    }
    witness.over.store(true, Ordering::Relaxed);
    server.crash_and_restart().await;
    for task in tasks {
        soon("the clients' end", task).await.expect("no promise was broken");
    }
    check(&server, &witness).await;
}

async fn check(server: &Server, witness: &Witness) {
    let (mut log, mut total) = (Places::new(), 0);
    let mut ids = HashMap::new();
    for topic in TOPICS {
        let events = server.read_all(topic).await;
        for (n, event) in events.iter().enumerate() {
            assert_eq!(event["offset"], n as u64 + 1, "offsets of {topic} have a gap");
            let id = event["id"].as_str().expect("an id").to_owned();
            assert_eq!(witness.sent.lock().unwrap().get(&id).map(String::as_str), Some(topic), "never sent");
            assert_eq!(ids.insert(id.clone(), topic), None, "{id} is there twice");
            log.insert((topic.to_owned(), n as u64 + 1), id);
        }
        total += events.len();
    }
    let acknowledged = witness.acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !ids.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    eprintln!("{} acknowledged", acknowledged.len());
    for (what, places) in [("acknowledged", &witness.placed), ("delivered", &witness.delivered)] {
        let places = places.lock().unwrap();
        for (place, id) in places.iter() {
            assert_eq!(log.get(place), Some(id), "{what} and later absent: {place:?}");
        }
        eprintln!("{} {what} of {total} in the log", places.len());
        assert!(places.len() > 100, "hardly anything was {what}: this run shows nothing");
    }
}
