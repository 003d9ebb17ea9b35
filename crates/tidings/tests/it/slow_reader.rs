//! A client that never reads delays nobody, costs bounded memory, and loses nothing (I11).

use crate::harness::{Server, Sse, soon, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

const READERS: usize = 100;
const BATCH: usize = 200;
const WARM_UP: usize = 20_000;
const EVENTS: usize = 100_000;
const PATH: &str = "/v1/topics/t/events?from=latest";

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// What the readers have seen.
struct Seen {
    /// How late each part came, in microseconds.
    delays: Mutex<Vec<u64>>,
    /// The newest batch that each reader has got.
    newest: [AtomicU64; READERS],
}

/// Publishes `count` events in batches, each when all readers have got the batch before: as fast as the machine
/// delivers, without piling up what nobody has delayed.
async fn publish(server: &Server, count: usize, seen: &Seen, mut after_each: impl FnMut()) {
    let batches = (count / BATCH) as u64;
    for batch in 1..=batches {
        let at = now_us();
        let event = json!({"pad": "x".repeat(80), "at": at, "batch": batch, "end": batch == batches});
        server.publish("t", &vec![event; BATCH]).await;
        after_each();
        soon("the readers to get on", async {
            while seen.newest.iter().any(|n| n.load(Ordering::Relaxed) < batch) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// Reads to the event that says it is the last. It looks at the newest event of each part only, so that a
/// hundred readers do not slow the machine down themselves.
fn watch(server: &Server, seen: Arc<Seen>, n: usize) -> JoinHandle<()> {
    let request = server.http.get(server.url(PATH)).bearer_auth(&server.admin);
    let request = request.header("accept", "text/event-stream");
    tokio::spawn(async move {
        let mut response = request.send().await.expect("an answer");
        let mut kept = Vec::new();
        loop {
            let chunk = soon("more events", response.chunk()).await;
            kept.extend_from_slice(&chunk.expect("it goes on").expect("it goes on"));
            // An event may be cut between two parts.
            kept.drain(..kept.len().saturating_sub(800));
            let Some(newest) = kept.windows(5).rposition(|w| w == b"\"at\":") else { continue };
            let text = String::from_utf8_lossy(&kept[newest + 5..]).into_owned();
            let Some((at, rest)) = text.split_once(",\"batch\":") else { continue };
            let Some((batch, rest)) = rest.split_once(",\"end\":") else { continue };
            let at: u64 = at.parse().expect("microseconds");
            seen.delays.lock().unwrap().push(now_us().saturating_sub(at));
            seen.newest[n].store(batch.parse().expect("a number"), Ordering::Relaxed);
            if rest.starts_with("true") {
                return;
            }
        }
    })
}

/// Reads everything, in order and without a gap, up to and including `last`.
async fn read_on(server: &Server, mut stream: Sse, mut next: u64, last: u64) -> u32 {
    let mut disconnects = 0;
    while next <= last {
        match stream.try_event().await {
            Some(event) => {
                assert_eq!(event["offset"], next);
                next += 1;
            }
            None => {
                disconnects += 1;
                let cursor = stream.cursor.clone().expect("a cursor");
                stream = Sse::open(server, PATH, &server.admin, Some(&cursor)).await;
            }
        }
    }
    disconnects
}

fn p99(delays: &Mutex<Vec<u64>>) -> Duration {
    let mut delays = std::mem::take(&mut *delays.lock().unwrap());
    delays.sort_unstable();
    Duration::from_micros(delays[delays.len() * 99 / 100])
}

/// The delay of a hundred readers while `count` events flow.
async fn measure(server: &Server, count: usize, after_each: impl FnMut()) -> Duration {
    let seen = Arc::new(Seen { delays: Mutex::default(), newest: [const { AtomicU64::new(0) }; READERS] });
    let open = || async { open_streams(&server.get("/metrics").await.text().await.unwrap()) };
    let before = open().await;
    let readers: Vec<_> = (0..READERS).map(|n| watch(server, Arc::clone(&seen), n)).collect();
    // All of them are there once the server counts them.
    until("the readers to be connected", || async { open().await >= before + READERS as u64 }).await;
    publish(server, count, &seen, after_each).await;
    for reader in readers {
        soon("everything to arrive", reader).await.unwrap();
    }
    until("the readers to be gone", || async { open().await <= before }).await;
    p99(&seen.delays)
}

/// SSE streams that the metrics say are open.
fn open_streams(metrics: &str) -> u64 {
    let open = metrics.lines().find_map(|line| line.strip_prefix("tidings_streams{kind=\"sse\"} "));
    open.map_or(0, |n| n.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_delays_nobody_and_gets_everything_later() {
    let server = Server::start().await;
    server.publish("t", &[Value::Null]).await;
    let alone = measure(&server, WARM_UP, || ()).await;
    let before = server.rss_kib();

    let stuck = server.sse("t", "from=latest").await;
    let mut highest = before;
    let beside = measure(&server, EVENTS, || highest = highest.max(server.rss_kib())).await;
    eprintln!(
        "p99 alone {alone:?}, beside a stuck reader {beside:?}; memory {before} KiB, then {highest} KiB"
    );
    assert!(
        beside < alone * 3 + Duration::from_millis(100),
        "the others are delayed: {alone:?}, now {beside:?}"
    );
    assert!(highest < before + (64 << 10), "memory grew from {before} to {highest} KiB");

    let first = 2 + WARM_UP as u64;
    let disconnects = read_on(&server, stuck, first, first + EVENTS as u64 - 1).await;
    eprintln!("the stuck reader got everything after {disconnects} disconnects");
}
