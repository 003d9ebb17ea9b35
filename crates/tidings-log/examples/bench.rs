//! What the embedded log costs beside a plain file that receives the same bytes with one sync per group.
//!
//! `cargo run --release -p tidings-log --example bench -- [groups...]`; without arguments groups of 1, 64 and
//! 1,024 events of about 250 bytes. `segment x` is what the segments grow by for each byte of an event, `disk x`
//! what reaches the disk (whole pages, the index, the file system's own) beside what it is for the plain file.
//! `-- idle` prints the memory of an idle log. `OPEN_EVENTS=10000000` adds the time that opening a log of so many takes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidings_log::embedded::Options;
use tidings_log::{Append, Batch, EmbeddedLog, Log, SystemClock};
use tidings_model::{NewEvent, Offset, RecordWriter, Topic, TopicName, Uuid};

const RUN: Duration = Duration::from_secs(3);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("idle") {
        let dir = tempfile::tempdir_in(".").unwrap();
        println!("resident before: {} KiB", resident());
        println!("opening a new log: {:?}", opening(dir.path()));
        let log = open(dir.path());
        std::thread::sleep(Duration::from_millis(500));
        println!("resident with an idle log: {} KiB", resident());
        return drop(log);
    }
    let groups: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let groups = if groups.is_empty() { vec![1, 64, 1024] } else { groups };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("events per second, also as a part of the plain file's; one and two commits under way");
    println!(
        "{:>32} {:>10} {:>10} {:>5} {:>10} {:>5} {:>9} {:>9} {:>7}",
        "", "file", "one", "part", "two", "part", "CPU us/ev", "segment x", "disk x"
    );
    for group in groups {
        for (what, topics, keys) in
            [("one topic", 1, 0), ("10,000 topics", 10_000, 0), ("1,000,000 keys", 1, 1_000_000)]
        {
            let dir = tempfile::tempdir_in(".").unwrap();
            let (file, file_disk) = plain_file(dir.path(), group);
            let [one, two] = [1, 2].map(|depth| {
                let dir = tempfile::tempdir_in(".").unwrap();
                runtime.block_on(commits(dir.path(), group, topics, keys, depth))
            });
            let name = format!("{group} per commit, {what}");
            let (one_part, two_part) = (one.rate / file, two.rate / file);
            println!(
                "{name:>32} {file:>10.0} {:>10.0} {one_part:>5.2} {:>10.0} {two_part:>5.2} {:>9.2} {:>9.3} {:>7.3}",
                one.rate,
                two.rate,
                two.cpu_us,
                one.segments,
                one.disk / file_disk
            );
        }
    }
    let dir = tempfile::tempdir_in(".").unwrap();
    let (rate, p50, p99) = runtime.block_on(publishers(dir.path(), 1));
    println!("1 publisher, one event at a time: {rate:.0} ev/s, p50 {p50:.0} us, p99 {p99:.0} us");
    let dir = tempfile::tempdir_in(".").unwrap();
    let (rate, p50, p99) = runtime.block_on(publishers(dir.path(), 256));
    println!("256 publishers, one event at a time: {rate:.0} ev/s, p50 {p50:.0} us, p99 {p99:.0} us");
    let dir = tempfile::tempdir_in(".").unwrap();
    drop(open(dir.path()));
    println!("opening an empty log: {:?}", opening(dir.path()));
    if let Some(events) = std::env::var("OPEN_EVENTS").ok().and_then(|n| n.parse::<usize>().ok()) {
        runtime.block_on(fill(dir.path(), events));
        println!("opening {events} events: {:?}", opening(dir.path()));
        runtime.block_on(read_all(dir.path(), events));
    }
}

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&dir.join("log"), Options::default(), Arc::new(SystemClock), Arc::new(())).unwrap()
}

fn opening(dir: &Path) -> Duration {
    let start = Instant::now();
    let log = open(dir);
    let took = start.elapsed();
    drop(log);
    took
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// An event of about 250 bytes.
fn event(topic: &TopicName, n: u64, keys: u64) -> Append {
    let address = match keys {
        0 => topic.to_string(),
        _ => format!("{topic}:k{}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys),
    };
    let data = format!("{{\"n\":{n:012},\"text\":\"{}\"}}", "x".repeat(165));
    let mut event = NewEvent::new(Topic::parse(&address).unwrap(), data);
    event.name = Some("order.changed".into());
    let record = RecordWriter::encode(&event, Uuid::from_u128(u128::from(n) << 64 | 1));
    Append { topic: topic.clone(), record }
}

/// Events per second, and bytes brought to the disk for each byte of an event.
fn plain_file(dir: &Path, group: usize) -> (f64, f64) {
    let mut file = File::create(dir.join("plain")).unwrap();
    let bytes = vec![7; group * event(&TopicName::parse("t0").unwrap(), 0, 0).record.len()];
    let (written, start) = (written(), Instant::now());
    let mut events = 0;
    while start.elapsed() < RUN / 2 {
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        events += group;
    }
    let rate = events as f64 / start.elapsed().as_secs_f64();
    let payload = bytes.len() / group * events;
    (rate, (self::written() - written) as f64 / payload as f64)
}

struct Run {
    rate: f64,
    cpu_us: f64,
    /// Bytes of the segments for each byte of an event.
    segments: f64,
    /// Bytes brought to the disk for each byte of an event: whole pages, the index and the file system's own.
    disk: f64,
}

/// Commits of `group` events, `depth` (1 or 2) under way at any time; two may share a sync.
async fn commits(dir: &Path, group: usize, topics: u64, keys: u64, depth: usize) -> Run {
    let log = Arc::new(open(dir));
    let names: Vec<TopicName> = (0..topics).map(|n| TopicName::parse(&format!("t{n}")).unwrap()).collect();
    for chunk in names.chunks(1000) {
        let appends = chunk.iter().map(|t| event(t, 0, 0)).collect();
        log.commit(Batch { appends, ..Batch::default() }).await.unwrap();
    }
    log.settled().await.unwrap();
    // Made before the clock runs: what is measured is the log.
    let pool: Vec<Append> = (0..200_000).map(|n| event(&names[(n * 7 % topics) as usize], n, keys)).collect();
    let before = segments(dir);
    let (cpu, written, start) = (cpu(), written(), Instant::now());
    let (mut events, mut payload) = (0, 0);
    let mut pending: Option<tokio::task::JoinHandle<_>> = None;
    while start.elapsed() < RUN {
        let at = events % (pool.len() - group + 1);
        let appends = pool[at..at + group].to_vec();
        payload += appends.iter().map(|a| a.record.len() as u64).sum::<u64>();
        events += group;
        let batch = Batch { appends, ..Batch::default() };
        if depth == 1 {
            log.commit(batch).await.unwrap();
            continue;
        }
        let log = log.clone();
        let next = tokio::spawn(async move { log.commit(batch).await.unwrap() });
        if let Some(previous) = pending.replace(next) {
            previous.await.unwrap();
        }
    }
    if let Some(last) = pending {
        last.await.unwrap();
    }
    if keys > 0 {
        log.settled().await.unwrap();
    }
    let rate = events as f64 / start.elapsed().as_secs_f64();
    let cpu_us = (self::cpu() - cpu) / events as f64 * 1e6;
    log.close().await.unwrap();
    let (segments, disk) = (segments(dir) - before, self::written() - written);
    Run { rate, cpu_us, segments: segments as f64 / payload as f64, disk: disk as f64 / payload as f64 }
}

/// Bytes that the segments of the log in `dir` hold, their tables of offsets included.
fn segments(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log/segments")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Seconds of processor time used by this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Bytes this process has caused to be written to storage.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

async fn publishers(dir: &Path, count: usize) -> (f64, f64, f64) {
    let log = Arc::new(open(dir));
    let start = Instant::now();
    let one = |_| {
        let log = log.clone();
        tokio::spawn(async move {
            let topic = TopicName::parse("t0").unwrap();
            let mut times = Vec::new();
            while start.elapsed() < RUN {
                let appends = vec![event(&topic, times.len() as u64, 0)];
                let begun = Instant::now();
                log.commit(Batch { appends, ..Batch::default() }).await.unwrap();
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            times
        })
    };
    let mut times = Vec::new();
    for publisher in (0..count).map(one).collect::<Vec<_>>() {
        times.extend(publisher.await.unwrap());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn fill(dir: &Path, events: usize) {
    let log = open(dir);
    let topic = TopicName::parse("t0").unwrap();
    let pool: Vec<Append> = (0..4096).map(|n| event(&topic, n, 0)).collect();
    for _ in 0..events / pool.len() {
        log.commit(Batch { appends: pool.clone(), ..Batch::default() }).await.unwrap();
    }
    log.settled().await.unwrap();
    log.close().await.unwrap();
}

async fn read_all(dir: &Path, events: usize) {
    let log = open(dir);
    let topic = TopicName::parse("t0").unwrap();
    let (start, mut after) = (Instant::now(), Offset::ZERO);
    loop {
        let max = tidings_log::ReadMax { events: 1024, bytes: 1 << 20 };
        let page = log.read(&topic, after, max).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.offset();
    }
    let rate = after.0 as f64 / start.elapsed().as_secs_f64();
    println!("reading {} of {events} events: {rate:.0} ev/s", after.0);
}
