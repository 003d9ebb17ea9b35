//! What a row costs that concerns ten users, by how many follow the topic.
//!
//! `cargo run --release -p tidings-engine --example rows -- [users...]`: for each number, subscriptions of so many
//! users on one topic whose rule names nine columns; rows are captured one at a time, as updates that also change
//! hands, and every subscription that was woken is read. One line each: users, processor microseconds a row with its
//! ten deliveries and without any (the best of five rounds), bytes of memory a subscription.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tidings_engine::{Capture, Hub, Item, Listener, Place, Step, Subscription, Tidings};
use tidings_log::embedded::Options;
use tidings_log::{EmbeddedLog, SystemClock};
use tidings_model::{Filter, From, Grants, Key, Limits, NewEvent, Principal, RowRule, Topic, TopicName};

const ROUNDS: usize = 5;
const ROWS: usize = 1000;
/// Columns with a user each; one more could see the row before.
const COLUMNS: usize = 9;
const MATCHING: usize = COLUMNS + 1;

/// Notes who has news.
struct Woken {
    reader: usize,
    all: Arc<Mutex<BTreeSet<usize>>>,
}

impl Listener for Woken {
    fn wake(&self, _: Place) {
        self.all.lock().unwrap().insert(self.reader);
    }
}

fn main() {
    let users: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let users = if users.is_empty() { vec![MATCHING, 1000, 100_000] } else { users };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for users in users {
        assert!(users >= MATCHING, "each row concerns {MATCHING} users");
        let (cpu_us, alone_us, bytes) = runtime.block_on(measure(users));
        println!(
            "users {users} cpu_us_per_row {cpu_us:.2} without_readers {alone_us:.2} bytes_per_subscription {bytes:.0}"
        );
    }
}

async fn measure(users: usize) -> (f64, f64, f64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let limits = Limits::default();
    let (hub, clock) = (Arc::new(Hub::new(&limits)), Arc::new(SystemClock));
    let log = EmbeddedLog::open(dir.path(), Options::default(), clock.clone(), hub.clone()).unwrap();
    let tidings = Tidings::new(Arc::new(log), hub, clock, limits);
    let topic = TopicName::parse("orders").unwrap();
    tidings.captured("bench", std::slice::from_ref(&topic)).await.unwrap();
    let rule = RowRule::columns((0..COLUMNS).map(|n| format!("u{n}").into()).collect()).unwrap();
    tidings.set_rule(&topic, Some(rule), Vec::new()).unwrap();
    let woken: Arc<Mutex<BTreeSet<usize>>> = Arc::default();
    let (alone_us, delivered) = rounds(&tidings, &topic, users, &woken, &mut []).await;
    assert_eq!(delivered, 0);

    let before = resident_kib();
    let mut readers: Vec<Subscription> = Vec::with_capacity(users);
    for reader in 0..users {
        let who = Principal {
            id: Some(reader.to_string().into()),
            subscribe: Grants::all(),
            is_admin: false,
            ..Principal::nobody()
        };
        let (topics, all) = (vec![Topic::whole(topic.clone())], Filter::default());
        let reading = tidings.subscribe(Arc::new(who), topics, &From::Latest, &all).await.unwrap();
        let listener: Arc<dyn Listener> = Arc::new(Woken { reader, all: Arc::clone(&woken) });
        reading.listen_with(&listener);
        readers.push(reading);
    }
    let bytes = resident_kib().saturating_sub(before) as f64 * 1024.0 / users as f64;
    let (cpu_us, delivered) = rounds(&tidings, &topic, users, &woken, &mut readers).await;
    assert_eq!(delivered, ROUNDS * ROWS * MATCHING, "every row reaches its users");
    (cpu_us, alone_us, bytes)
}

/// Processor microseconds a row in the best round, and how many events were delivered in all.
async fn rounds(
    tidings: &Tidings,
    topic: &TopicName,
    users: usize,
    woken: &Mutex<BTreeSet<usize>>,
    readers: &mut [Subscription],
) -> (f64, usize) {
    let (mut best, mut delivered) = (f64::INFINITY, 0);
    for round in 0..ROUNDS {
        let began = cpu_us();
        for row in 0..ROWS {
            deliver(tidings, topic, round * ROWS + row, users).await;
            let news = std::mem::take(&mut *woken.lock().unwrap());
            for reader in news {
                delivered += read(&mut readers[reader]).await;
            }
        }
        best = best.min(cpu_us().saturating_sub(began) as f64 / ROWS as f64);
    }
    (best, delivered)
}

/// A row that changes hands in its first column.
async fn deliver(tidings: &Tidings, topic: &TopicName, number: usize, users: usize) {
    // Different users, spread over all.
    let user = |n: usize| (number * 7919 + n) % users;
    let columns = |first: usize| {
        let rest = (1..COLUMNS).map(|n| format!(r#","u{n}":{}"#, user(n))).collect::<String>();
        format!(r#"{{"id":{number},"u0":{first}{rest},"note":"{number:0>80}"}}"#)
    };
    let key = Key::of_columns([(number % 1000).to_string().as_str()]).0;
    let mut event = NewEvent::new(Topic { name: topic.clone(), key: Some(key) }, columns(user(0)));
    event.name = Some("update".into());
    event.context = Some(format!(r#"{{"before":{},"changed":["u0"]}}"#, columns(user(COLUMNS))).into());
    let capture = Capture { source: "bench".into(), events: vec![event], ..Capture::default() };
    tidings.capture(capture).await.unwrap();
}

async fn read(reader: &mut Subscription) -> usize {
    let mut count = 0;
    loop {
        let item = match reader.step() {
            Step::Idle => return count,
            Step::Item(item) => Some(item),
            Step::Behind => reader.next_read().await.unwrap(),
        };
        if let Some(Item::Events(batch)) = item {
            count += batch.entries.len();
        }
    }
}

/// Processor time of this process's threads so far.
fn cpu_us() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").map(|all| all.flatten().collect::<Vec<_>>());
    let all = tasks.unwrap_or_default().into_iter().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<u64>().ok()
    });
    all.sum::<u64>() / 1000
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
