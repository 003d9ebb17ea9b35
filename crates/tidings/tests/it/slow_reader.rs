//! A client that never reads delays nobody, costs bounded memory, and loses nothing (I11).

use crate::harness::{PATIENCE, Server, Sse};
use serde_json::{Value, json};
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

/// Publishes `count` events in batches, each acknowledged before the next; the last one says so.
async fn publish(server: &Server, count: usize, mut after_each: impl FnMut()) {
    for n in 0..count / BATCH {
        let is_last = n + 1 == count / BATCH;
        let at = now_us();
        let event = |i| json!({"at": at, "pad": "x".repeat(80), "end": is_last && i + 1 == BATCH});
        server.publish("t", &(0..BATCH).map(event).collect::<Vec<_>>()).await;
        after_each();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads to the event that says it is the last; gives how late each part came, in microseconds. It looks at
/// the newest event of each part only, so that a hundred readers do not slow the machine down themselves.
fn watch(server: &Server, delays: Arc<Mutex<Vec<u64>>>) -> JoinHandle<()> {
    let request = server.http.get(server.url(PATH)).bearer_auth(&server.admin);
    let request = request.header("accept", "text/event-stream");
    tokio::spawn(async move {
        let mut response = request.send().await.expect("an answer");
        let mut kept = Vec::new();
        loop {
            let chunk = tokio::time::timeout(PATIENCE, response.chunk()).await.expect("it goes on");
            kept.extend_from_slice(&chunk.expect("it goes on").expect("it goes on"));
            let find = |what: &[u8]| kept.windows(what.len()).rposition(|w| w == what);
            let Some(newest) = find(b"\"at\":") else { continue };
            let digits: Vec<u8> = kept[newest + 5..].iter().copied().take_while(u8::is_ascii_digit).collect();
            let is_over = find(b"\"end\":true").is_some();
            if let Ok(at) = String::from_utf8(digits).unwrap().parse::<u64>() {
                delays.lock().unwrap().push(now_us().saturating_sub(at));
            }
            if is_over {
                return;
            }
            // An event may be cut between two parts.
            let rest = kept.len().saturating_sub(400);
            kept.drain(..rest);
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
    let delays = Arc::new(Mutex::new(Vec::new()));
    let readers: Vec<_> = (0..READERS).map(|_| watch(server, Arc::clone(&delays))).collect();
    // All of them are there once the server counts them.
    crate::harness::until("the readers to be connected", || async {
        let metrics = server.get("/metrics").await.text().await.unwrap();
        open_streams(&metrics) >= READERS as u64
    })
    .await;
    publish(server, count, after_each).await;
    for reader in readers {
        tokio::time::timeout(PATIENCE, reader).await.expect("everything arrives").unwrap();
    }
    p99(&delays)
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
        beside < alone * 3 + Duration::from_millis(50),
        "the others are delayed: {alone:?}, now {beside:?}"
    );
    assert!(highest < before + (64 << 10), "memory grew from {before} to {highest} KiB");

    let first = 2 + WARM_UP as u64;
    let disconnects = read_on(&server, stuck, first, first + EVENTS as u64 - 1).await;
    eprintln!("the stuck reader got everything after {disconnects} disconnects");
}
