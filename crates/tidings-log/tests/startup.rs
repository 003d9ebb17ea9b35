//! A start reads what is unfinished, never the whole log; and a killed process loses nothing acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tidings_log::conformance::{ALL, append, topic};
use tidings_log::embedded::Options;
use tidings_log::{Batch, EmbeddedLog, Log, Mark, SystemClock};
use tidings_model::{Key, Offset};

fn open(dir: &Path, segment_bytes: u32) -> EmbeddedLog {
    let options = Options { segment_bytes, ..Options::default() };
    EmbeddedLog::open(dir, options, Arc::new(SystemClock), Arc::new(())).unwrap()
}

/// Bytes this process has read from files.
fn read_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|l| l.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn opening_reads_as_much_of_a_long_log_as_of_a_short_one() {
    let mut read = Vec::new();
    for events in [2_000u32, 40_000] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), 64 << 10);
        for n in 0..events / 500 {
            let event = |i: u32| append(&format!("t{}", i % 5), None, &format!("\"{:0100}\"", n * 500 + i));
            let appends = (0..500).map(event).collect();
            log.commit(Batch { appends, ..Batch::default() }).await.unwrap();
        }
        log.settled().await.unwrap();
        log.close().await.unwrap();
        let before = read_bytes();
        let log = open(dir.path(), 64 << 10);
        read.push(read_bytes() - before);
        assert_eq!(log.bounds(&topic("t3")).unwrap().tail, Offset(u64::from(events / 5)));
    }
    assert!(read[1] < read[0] * 2 + (256 << 10), "bytes read by opening: {read:?}");
}

/// Not a test of its own: what the next one runs in another process and kills.
#[test]
fn publisher_to_be_killed() {
    let Ok(dir) = std::env::var("KILLED_LOG") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = open(Path::new(&dir), 20_000);
        let start = log.bounds(&topic("a")).map_or(0, |b| b.tail.0);
        for n in start + 1.. {
            let batch = Batch {
                appends: vec![append(&format!("a:k{}", n % 50), Some(n.into()), &n.to_string())],
                marks: vec![Mark { name: "m".into(), value: Some(n.to_string().into()) }],
                ..Batch::default()
            };
            log.commit(batch).await.unwrap();
            writeln!(std::io::stdout(), "\nacknowledged {n}").unwrap();
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut acknowledged = 0u64;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "publisher_to_be_killed", "--nocapture"])
            .env("KILLED_LOG", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let news =
            lines.map_while(Result::ok).filter_map(|l| Some(l.strip_prefix("acknowledged ")?.to_owned()));
        let mut left = 100 + round * 61;
        for line in news {
            acknowledged = line.parse().unwrap();
            left -= 1;
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        runtime.block_on(async {
            let log = open(dir.path(), 20_000);
            let events = log.read(&topic("a"), Offset::ZERO, ALL).await.unwrap();
            let tail = events.len() as u64;
            assert!(tail == acknowledged || tail == acknowledged + 1, "{tail}, acknowledged {acknowledged}");
            for (n, event) in (1..).zip(&events) {
                assert_eq!((event.offset(), event.data()), (Offset(n), Some(n.to_string().as_str())));
            }
            assert_eq!(log.mark("m").await.unwrap().unwrap(), tail.to_string());
            let state = log.state(&topic("a"), None).await.unwrap();
            assert_eq!(state.offsets, (tail.saturating_sub(50) + 1..=tail).map(Offset).collect::<Vec<_>>());
            let key = Key::parse(&format!("k{}", tail % 50)).unwrap();
            let of_key = log.read_key(&topic("a"), &key, Offset(0), ALL).await.unwrap();
            assert_eq!(of_key.last().unwrap().offset(), Offset(tail));
            let again = vec![append("a", Some((tail - 5).into()), "again")];
            let receipt = log.commit(Batch { appends: again, ..Batch::default() }).await.unwrap();
            assert_eq!((receipt.appended[0].duplicate, receipt.appended[0].offset.0), (true, tail - 5));
            acknowledged = tail;
        });
    }
}
