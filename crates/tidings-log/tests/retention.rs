//! What is trimmed gives its space back, and nothing else does.

use std::path::Path;
use std::sync::Arc;
use tidings_log::conformance::{ALL, ManualClock, append, delete, topic};
use tidings_log::embedded::Options;
use tidings_log::{Append, Batch, EmbeddedLog, Error, Log, Trim};
use tidings_model::{Key, Offset};

const SEGMENT: u32 = 4_096;

fn open(dir: &Path) -> EmbeddedLog {
    let options = Options { segment_bytes: SEGMENT, ..Options::default() };
    EmbeddedLog::open(dir, options, Arc::new(ManualClock::at(1_000)), Arc::new(())).unwrap()
}

async fn commit(log: &EmbeddedLog, appends: Vec<Append>) {
    log.commit(Batch { appends, ..Batch::default() }).await.unwrap();
}

async fn trim(log: &EmbeddedLog, name: &str, oldest: u64, keep_state: bool) {
    let trims = vec![Trim { topic: topic(name), oldest: Offset(oldest), keep_state }];
    log.commit(Batch { trims, ..Batch::default() }).await.unwrap();
    log.settled().await.unwrap();
}

fn bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("segments")).unwrap().map(|f| f.unwrap());
    files
        .filter(|f| f.path().extension().is_some_and(|e| e == "log"))
        .map(|f| f.metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn a_trim_gives_space_back_and_keeps_state() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    commit(&log, vec![append("a:old", None, "\"first\""), append("a:gone", None, "\"second\"")]).await;
    for n in 0..400 {
        commit(&log, vec![append("a:new", None, &format!("\"{n:0100}\""))]).await;
    }
    commit(&log, vec![delete("a:gone")]).await;
    log.settled().await.unwrap();
    let before = bytes(dir.path());
    trim(&log, "a", 395, true).await;
    assert!(bytes(dir.path()) < before / 5, "{} of {before} bytes", bytes(dir.path()));
    let state = log.state(&topic("a"), None).await.unwrap();
    assert_eq!(state.offsets, [Offset(1), Offset(402)]);
    let kept = log.read_at(&topic("a"), &state.offsets, ALL).await.unwrap();
    assert_eq!(kept[0].data(), Some("\"first\""));
    log.close().await.unwrap();
    for remove_index in [false, true] {
        if remove_index {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let log = open(dir.path());
        assert_eq!(log.read(&topic("a"), Offset(394), ALL).await.unwrap().len(), 9);
        let state = log.state(&topic("a"), None).await.unwrap();
        assert_eq!(state.offsets, [Offset(1), Offset(402)]);
        assert_eq!(log.read_at(&topic("a"), &state.offsets, ALL).await.unwrap().len(), 2);
        let gone = log.read(&topic("a"), Offset(5), ALL).await;
        assert!(matches!(gone, Err(Error::Trimmed { oldest: Offset(395), .. })));
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_trim_without_state_and_a_drop_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for n in 0..100 {
        let data = format!("\"{n:0100}\"");
        commit(&log, vec![append("a:k", None, &data), append("b:k", None, &data)]).await;
    }
    trim(&log, "a", 101, false).await;
    let half = bytes(dir.path());
    assert_eq!(log.read(&topic("b"), Offset(0), ALL).await.unwrap().len(), 100);
    log.commit(Batch { drops: vec![topic("b")], ..Batch::default() }).await.unwrap();
    log.settled().await.unwrap();
    assert!(bytes(dir.path()) < 3 * u64::from(SEGMENT), "{} bytes, {half} before", bytes(dir.path()));
    assert_eq!(log.bounds(&topic("a")).unwrap().tail, Offset(100));
    commit(&log, vec![append("a", None, "1")]).await;
    assert_eq!(log.bounds(&topic("a")).unwrap().tail, Offset(101), "offsets go on");
    log.close().await.unwrap();
    let log = open(dir.path());
    assert_eq!(log.bounds(&topic("a")).unwrap().tail, Offset(101), "offsets go on after a restart");
    assert_eq!(log.bounds(&topic("b")), None);
}

#[tokio::test]
async fn a_reader_under_way_while_segments_go_sees_events_or_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    for n in 0..300 {
        commit(&log, vec![append(["a:x", "a:y", "a:z"][n % 3], None, &format!("\"{n:0100}\""))]).await;
    }
    let reading = {
        let log = log.clone();
        tokio::spawn(async move {
            let (name, mut after, mut gaps) = (topic("a"), 0, 0);
            while after < 300 {
                let max = tidings_log::ReadMax { events: 3, bytes: 1_000 };
                match log.read(&name, Offset(after), max).await {
                    Ok(events) => {
                        for event in events {
                            after += 1;
                            assert_eq!(event.offset(), Offset(after));
                        }
                    }
                    Err(Error::Trimmed { oldest, .. }) => {
                        assert!(oldest.0 > after);
                        (after, gaps) = (oldest.0 - 1, gaps + 1);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            gaps
        })
    };
    for oldest in (1..=250).step_by(50) {
        trim(&log, "a", oldest, true).await;
        assert_eq!(log.state(&topic("a"), None).await.unwrap().offsets.len(), 3);
    }
    reading.await.unwrap();
    let x = Key::parse("x").unwrap();
    let kept = log.read_key(&topic("a"), &x, Offset(0), ALL).await.unwrap();
    assert_eq!(kept.first().unwrap().offset(), Offset(202));
}
