//! Disks that fail, power cuts, bit flips, and files that are gone.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tidings_log::conformance::{ALL, ManualClock, append, due, topic};
use tidings_log::embedded::disk::{Disk, RealDisk, Tape};
use tidings_log::embedded::{Options, check};
use tidings_log::{Batch, DueQuery, EmbeddedLog, Error, Log, Mark, Trim};
use tidings_model::{Key, Offset, Timestamp, Uuid};

/// What the disk does to the next operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Half is written, then the disk is full.
    Full,
    /// As `Full`, and the file cannot be cut back.
    FullForGood,
    /// Half is written, then the device fails.
    Write,
    /// All is written, but not to stable storage.
    Sync,
}

#[derive(Clone)]
struct Faulty(Arc<Mutex<Fault>>);

struct FaultyTape(Box<dyn Tape>, Faulty);

impl Faulty {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Fault::None)))
    }

    fn set(&self, fault: Fault) {
        *self.0.lock().unwrap() = fault;
    }

    fn get(&self) -> Fault {
        *self.0.lock().unwrap()
    }
}

impl Disk for Faulty {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(FaultyTape(RealDisk.tape(file), self.clone()))
    }
}

impl Tape for FaultyTape {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let kind = match self.1.get() {
            Fault::None | Fault::Sync => return self.0.write(bytes, at),
            Fault::Full | Fault::FullForGood => io::ErrorKind::StorageFull,
            Fault::Write => io::ErrorKind::Other,
        };
        self.0.write(&bytes[..bytes.len() / 2], at)?;
        Err(kind.into())
    }

    fn sync(&self) -> io::Result<()> {
        match self.1.get() {
            Fault::Sync => Err(io::ErrorKind::Other.into()),
            _ => self.0.sync(),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        match self.1.get() {
            Fault::FullForGood => Err(io::ErrorKind::Other.into()),
            _ => self.0.truncate(len),
        }
    }
}

fn open_with(dir: &Path, options: Options) -> Result<EmbeddedLog, Error> {
    EmbeddedLog::open(dir, options, Arc::new(ManualClock::at(1_000)), Arc::new(()))
}

fn open(dir: &Path) -> Result<EmbeddedLog, Error> {
    open_with(dir, Options::default())
}

fn one(address: &str, data: &str) -> Batch {
    Batch { appends: vec![append(address, None, data)], ..Batch::default() }
}

async fn read(log: &EmbeddedLog, name: &str) -> Vec<String> {
    let events = log.read(&topic(name), Offset::ZERO, ALL).await.unwrap();
    events.iter().map(|e| e.data().unwrap().to_owned()).collect()
}

fn segment(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("segments/{number:010}.log"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_batches_until_there_is_room() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
    let log = open_with(dir.path(), Options { disk: Arc::new(disk.clone()), ..Options::default() }).unwrap();
    log.commit(one("a:k", "1")).await.unwrap();
    disk.set(Fault::Full);
    let refused = Batch {
        appends: vec![append("a:k", Some(5), "2"), append("new", None, "2")],
        drops: vec![topic("a")],
        due_put: vec![due(7, 50, "a").into()],
        ..Batch::default()
    };
    for _ in 0..2 {
        assert!(matches!(log.commit(refused.clone()).await, Err(Error::Io { .. })));
    }
    assert_eq!(log.read_only(), None);
    disk.set(Fault::None);
    let accepted = Batch {
        appends: vec![append("a:k", Some(5), "3")],
        due_put: vec![due(7, 50, "a").into()],
        ..Batch::default()
    };
    let receipt = log.commit(accepted).await.unwrap();
    assert_eq!((receipt.appended[0].offset, receipt.appended[0].duplicate), (Offset(2), false));
    assert_eq!(receipt.due_duplicate, [false]);
    assert_eq!(log.bounds(&topic("new")), None);
    log.close().await.unwrap();
    assert_eq!(read(&open(dir.path()).unwrap(), "a").await, ["1", "3"]);
}

#[tokio::test]
async fn after_a_failed_write_or_sync_nothing_is_written_and_reads_go_on() {
    for fault in [Fault::Write, Fault::Sync, Fault::FullForGood] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Faulty::new());
        let log =
            open_with(dir.path(), Options { disk: Arc::new(disk.clone()), ..Options::default() }).unwrap();
        log.commit(one("a", "1")).await.unwrap();
        disk.set(fault);
        assert!(matches!(log.commit(one("a", "2")).await, Err(Error::Unknown(_))), "{fault:?}");
        disk.set(Fault::None);
        assert!(matches!(log.commit(one("a", "3")).await, Err(Error::ReadOnly(_))), "{fault:?}");
        assert!(log.read_only().is_some());
        assert_eq!(read(&log, "a").await, ["1"], "{fault:?}");
        assert_eq!(log.bounds(&topic("a")).unwrap().tail, Offset(1));
        log.close().await.unwrap();
        let log = open(dir.path()).unwrap();
        let found = read(&log, "a").await;
        assert!(found == ["1"] || found == ["1", "2"], "{fault:?}: {found:?}");
        let next = log.commit(one("a", "4")).await.unwrap().appended[0].offset;
        assert_eq!(next, Offset(found.len() as u64 + 1));
    }
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_directory_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(Error::Locked { .. })));
    assert!(matches!(check(dir.path(), false), Err(Error::Locked { .. })));
    log.close().await.unwrap();
    drop(open(dir.path()).unwrap());
    assert!(check(dir.path(), false).unwrap().is_sound());
}

#[tokio::test]
async fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    std::fs::write(dir.path().join("FORMAT"), "tidings-log 0\n").unwrap();
    let refused = open(dir.path());
    assert!(matches!(refused, Err(Error::Format { found, known: 1, .. }) if found == "tidings-log 0"));
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), Options { batch_bytes_max: 1_000, ..Options::default() }).unwrap();
    let refused = log.commit(one("a", &"7".repeat(1_001))).await;
    assert!(matches!(refused, Err(Error::BatchTooLarge { max: 1_000, .. })));
    log.commit(one("a", "1")).await.unwrap();
}

/// A closed log of some groups, and where each ends in the only segment.
async fn groups(dir: &Path) -> Vec<usize> {
    let log = open(dir).unwrap();
    let mut ends = Vec::new();
    for n in 0..4 {
        let batch = Batch {
            appends: vec![append("a:k", None, &n.to_string()), append("b", Some(n), &n.to_string())],
            ..Batch::default()
        };
        log.commit(batch).await.unwrap();
        ends.push(std::fs::metadata(segment(dir, 1)).unwrap().len() as usize);
    }
    ends
}

/// A copy of a log as a crash would leave it: without what only closing writes.
fn crashed(from: &Path, len: usize) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(to.path().join("segments")).unwrap();
    std::fs::copy(from.join("FORMAT"), to.path().join("FORMAT")).unwrap();
    let bytes = std::fs::read(segment(from, 1)).unwrap();
    std::fs::write(segment(to.path(), 1), &bytes[..len]).unwrap();
    to
}

#[tokio::test]
async fn a_torn_end_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let ends = groups(dir.path()).await;
    for len in ends[2]..=ends[3] {
        let copy = crashed(dir.path(), len);
        let log = open(copy.path()).unwrap();
        let expected = if len == ends[3] { 4 } else { 3 };
        assert_eq!(read(&log, "a").await.len(), expected, "cut at {len}");
        assert_eq!(read(&log, "b").await.len(), expected, "cut at {len}");
        log.commit(one("a", "7")).await.unwrap();
        assert_eq!(read(&log, "a").await.len(), expected + 1);
    }
    // Zeros, or bytes of an older file, are a torn end, too.
    for junk in [vec![0; 5_000], std::fs::read(segment(dir.path(), 1)).unwrap()] {
        let copy = crashed(dir.path(), ends[3]);
        let path = segment(copy.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&junk[junk.len().min(24)..]);
        if junk[0] != 0 {
            // As from a file with another salt.
            let end = bytes.len();
            bytes[ends[3]..end].iter_mut().for_each(|b| *b = b.wrapping_add(1));
        }
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&open(copy.path()).unwrap(), "a").await.len(), 4);
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_unless_it_may_be_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let ends = groups(dir.path()).await;
    for at in 24..ends[3] {
        let copy = crashed(dir.path(), ends[3]);
        flip(&segment(copy.path(), 1), at);
        match open(copy.path()) {
            Ok(log) => {
                assert!(at >= ends[2], "byte {at} was synced before a later group");
                assert_eq!(read(&log, "a").await.len(), 3);
            }
            Err(Error::Corrupt { at: found, what, .. }) => {
                assert!(at < ends[2], "byte {at} may be torn");
                let group = ends.iter().position(|end| at < *end).unwrap();
                let start = if group == 0 { 24 } else { ends[group - 1] };
                assert_eq!(found as usize, start, "{what}");
                let lost = format!("topic a lost offsets {0} to {0}", group + 1);
                assert!(group == 0 || what.contains(&lost), "{what}");
            }
            Err(e) => panic!("byte {at}: {e}"),
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_what_was_applied_is_never_taken_for_a_torn_end() {
    let dir = tempfile::tempdir().unwrap();
    let ends = groups(dir.path()).await;
    // Closing has noted how far the log goes.
    flip(&segment(dir.path(), 1), ends[3] - 3);
    assert!(matches!(open(dir.path()), Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_torn_group_of_several_batches_is_cut_at_its_first_invalid_record() {
    // One sync covers a group; within it the disk may have written a later part and not an earlier one.
    let dir = tempfile::tempdir().unwrap();
    let disk = Gate::default();
    let log = open_with(dir.path(), Options { disk: Arc::new(disk.clone()), ..Options::default() }).unwrap();
    log.commit(one("a", "0")).await.unwrap();
    disk.hold();
    // The first goes alone and holds the disk; the others gather behind it and become one group.
    let commits: Vec<_> = (1..5).map(|n| log.commit(one("a", &n.to_string()))).collect();
    let opener = async {
        while disk.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        disk.open();
    };
    let (results, ()) = tokio::join!(futures(commits), opener);
    results.into_iter().for_each(|r| drop(r.unwrap()));
    log.close().await.unwrap();
    let bytes = std::fs::read(segment(dir.path(), 1)).unwrap();
    // The last two records are of one group: damage the first of them.
    let record = bytes.len() - (bytes.len() - 24) / 5 * 2 + 20;
    let copy = crashed(dir.path(), bytes.len());
    flip(&segment(copy.path(), 1), record);
    let log = open(copy.path()).unwrap();
    assert_eq!(read(&log, "a").await, ["0", "1", "2"]);
}

/// Polls all of them, in order, until all are done.
async fn futures<T>(mut all: Vec<tidings_log::Answer<'_, T>>) -> Vec<Result<T, Error>> {
    let mut done: Vec<Option<Result<T, Error>>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(result) = future.as_mut().poll(cx)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// A disk whose next sync waits until it is let through.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, std::sync::Condvar, AtomicUsize)>);

impl Gate {
    fn hold(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    fn waiting(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }
}

struct GateTape(Box<dyn Tape>, Gate);

impl Disk for Gate {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(GateTape(RealDisk.tape(file), self.clone()))
    }
}

impl Tape for GateTape {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        let (held, changed, waiting) = &*self.1.0;
        let mut is_held = held.lock().unwrap();
        while *is_held {
            waiting.fetch_add(1, Ordering::SeqCst);
            is_held = changed.wait(is_held).unwrap();
        }
        drop(is_held);
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

#[tokio::test]
async fn nothing_is_visible_before_it_is_synced() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Gate::default());
    let log = open_with(dir.path(), Options { disk: Arc::new(disk.clone()), ..Options::default() }).unwrap();
    log.commit(one("a:k", "0")).await.unwrap();
    disk.hold();
    let check = async {
        while disk.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(log.bounds(&topic("a")).unwrap().tail, Offset(1));
        assert_eq!(read(&log, "a").await, ["0"]);
        let state = log.state(&topic("a"), Some(&Key::parse("k").unwrap())).await.unwrap();
        assert_eq!((state.offsets, state.tail), (vec![Offset(1)], Offset(1)));
        disk.open();
    };
    let (committed, ()) = tokio::join!(log.commit(one("a:k", "1")), check);
    committed.unwrap();
    assert_eq!(read(&log, "a").await, ["0", "1"]);
}

#[tokio::test]
async fn an_observer_that_panics_stops_writing_and_leaves_nobody_waiting() {
    struct Panics;
    impl tidings_log::Observer for Panics {
        fn advanced(
            &self,
            _: &tidings_model::TopicName,
            tail: Offset,
            _: &mut dyn Iterator<Item = tidings_model::Event>,
        ) {
            assert!(tail < Offset(2), "a broken observer");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_000));
    let log = EmbeddedLog::open(dir.path(), Options::default(), clock, Arc::new(Panics)).unwrap();
    log.commit(one("a", "1")).await.unwrap();
    assert!(matches!(log.commit(one("a", "2")).await, Err(Error::Unknown(_))));
    assert!(log.commit(one("a", "3")).await.is_err());
    assert!(log.read_only().is_some());
    assert_eq!(read(&log, "a").await, ["1", "2"]);
    log.close().await.unwrap();
    assert_eq!(read(&open(dir.path()).unwrap(), "a").await, ["1", "2"]);
}

#[tokio::test]
async fn a_deleted_index_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), Options { segment_bytes: 1_000, ..Options::default() }).unwrap();
    for n in 0..50u32 {
        let id = Some(u128::from(n));
        let appends = vec![append(&format!("a:k{}", n % 7), id, &n.to_string())];
        log.commit(Batch { appends, ..Batch::default() }).await.unwrap();
    }
    log.close().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let log = open(dir.path()).unwrap();
    let state = log.state(&topic("a"), None).await.unwrap();
    assert_eq!(state.offsets, (44..=50).map(Offset).collect::<Vec<_>>());
    let key = Key::parse("k0").unwrap();
    assert_eq!(log.read_key(&topic("a"), &key, Offset(0), ALL).await.unwrap().len(), 8);
    let again = Batch { appends: vec![append("a", Some(3), "again")], ..Batch::default() };
    assert!(log.commit(again).await.unwrap().appended[0].duplicate);
}

#[tokio::test]
async fn a_foreign_or_broken_index_is_built_again() {
    let (one_dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, key) in [(&one_dir, "a:x"), (&other, "a:y")] {
        let log = open(dir.path()).unwrap();
        log.commit(one(key, "1")).await.unwrap();
        log.close().await.unwrap();
    }
    std::fs::remove_dir_all(one_dir.path().join("index")).unwrap();
    std::fs::rename(other.path().join("index"), one_dir.path().join("index")).unwrap();
    for _ in 0..2 {
        let log = open(one_dir.path()).unwrap();
        let found = |key: &str| log.state(&topic("a"), Some(&Key::parse(key).unwrap()));
        assert_eq!(found("x").await.unwrap().offsets, [Offset(1)]);
        assert!(log.state(&topic("a"), Some(&Key::parse("y").unwrap())).await.unwrap().offsets.is_empty());
        log.close().await.unwrap();
        for file in std::fs::read_dir(one_dir.path().join("index")).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                std::fs::write(path, b"junk").unwrap();
            }
        }
    }
}

#[tokio::test]
async fn missing_sidecars_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), Options { segment_bytes: 500, ..Options::default() }).unwrap();
    for n in 0..20 {
        log.commit(one(["a", "b"][n % 2], &n.to_string())).await.unwrap();
    }
    log.settled().await.unwrap();
    log.close().await.unwrap();
    for file in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "idx") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let log = open(dir.path()).unwrap();
    assert_eq!(read(&log, "a").await.len(), 10);
    assert_eq!(read(&log, "b").await.len(), 10);
}

#[tokio::test]
async fn a_lost_side_store_is_rebuilt_while_the_segments_hold_everything() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 500, ..Options::default() };
    let log = open_with(dir.path(), options()).unwrap();
    for n in 0..20u32 {
        let batch = Batch {
            due_put: vec![due(u128::from(n), 50, "a").into()],
            marks: vec![Mark { name: "m".into(), value: Some(n.to_string().into()) }],
            ..one("a", &n.to_string())
        };
        log.commit(batch).await.unwrap();
    }
    log.close().await.unwrap();
    let remove_side = || {
        for name in ["side.db", "side.db-wal", "side.db-shm"] {
            let _ = std::fs::remove_file(dir.path().join(name));
        }
    };
    remove_side();
    let log = open_with(dir.path(), options()).unwrap();
    assert_eq!(read(&log, "a").await.len(), 20);
    assert_eq!(log.mark("m").await.unwrap().unwrap(), "19");
    assert_eq!(
        log.due(DueQuery::until(Timestamp::from_millis(50).unwrap()), ALL).await.unwrap().dues.len(),
        20
    );
    let trims = vec![Trim { topic: topic("a"), oldest: Offset(10), keep_state: true }];
    log.commit(Batch { trims, ..Batch::default() }).await.unwrap();
    log.settled().await.unwrap();
    log.close().await.unwrap();
    assert!(!segment(dir.path(), 1).exists());
    // Now segments are gone, and with them what only the side store knows.
    remove_side();
    assert!(matches!(open(dir.path()), Err(Error::Corrupt { what, .. }) if what.contains("side.db")));
    let report = check(dir.path(), true).unwrap();
    assert!(report.is_repaired && report.side.is_some(), "{report}");
    let log = open(dir.path()).unwrap();
    assert_eq!(log.mark("m").await.unwrap().unwrap(), "19");
    let oldest = log.bounds(&topic("a")).unwrap().oldest;
    let kept = log.read(&topic("a"), Offset(oldest.0 - 1), ALL).await.unwrap();
    assert_eq!(kept.last().unwrap().offset(), Offset(20));
}

#[tokio::test]
async fn a_repair_sets_damage_aside_and_readers_hear_of_the_hole() {
    let dir = tempfile::tempdir().unwrap();
    let ends = groups(dir.path()).await;
    flip(&segment(dir.path(), 1), ends[0] + 30);
    let expected = |e: &Error| matches!(e, Error::Corrupt { at, .. } if *at as usize == ends[0]);
    assert!(open(dir.path()).is_err_and(|e| expected(&e)));
    let found = check(dir.path(), false).unwrap();
    assert_eq!(found.damage.len(), 1, "{found}");
    assert!(!found.is_repaired && found.to_string().contains("topic a, offsets 2 to 2"), "{found}");
    let report = check(dir.path(), true).unwrap();
    assert!(report.is_repaired, "{report}");
    let copy = report.damage[0].set_aside.clone().unwrap();
    assert_eq!(std::fs::metadata(copy).unwrap().len() as usize, ends[1] - ends[0]);
    for _ in 0..2 {
        let log = open(dir.path()).unwrap();
        let read = |after| log.read(&topic("a"), Offset(after), ALL);
        assert_eq!(read(0).await.unwrap().len(), 1);
        let hole = read(1).await;
        assert!(matches!(hole, Err(Error::Trimmed { asked: Offset(2), oldest: Offset(3), .. })), "{hole:?}");
        assert_eq!(read(2).await.unwrap().first().unwrap().offset(), Offset(3));
        log.commit(one("a", "more")).await.unwrap();
        assert!(log.due_by_id(Uuid::from_u128(1)).await.unwrap().is_none());
        log.close().await.unwrap();
    }
    let again = check(dir.path(), false).unwrap();
    assert!(again.damage.is_empty() && again.missing.len() == 2, "{again}");
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_met_by_its_reader_and_found_by_a_check() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 300, ..Options::default() };
    let log = open_with(dir.path(), options()).unwrap();
    for n in 0..20 {
        log.commit(one("a", &format!("\"text {n}\""))).await.unwrap();
    }
    log.settled().await.unwrap();
    log.close().await.unwrap();
    let path = segment(dir.path(), 2);
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"text").unwrap();
    flip(&path, at);
    let log = open_with(dir.path(), options()).unwrap();
    let whole = log.read(&topic("a"), Offset(0), ALL).await;
    assert!(matches!(whole, Err(Error::Corrupt { .. })));
    assert_eq!(log.read(&topic("a"), Offset(15), ALL).await.unwrap().len(), 5);
    log.close().await.unwrap();
    let report = check(dir.path(), true).unwrap();
    assert_eq!((report.damage.len(), report.missing.len()), (1, 1), "{report}");
    let (first, last) = (report.missing[0].first, report.missing[0].last);
    let log = open_with(dir.path(), options()).unwrap();
    assert_eq!(log.read(&topic("a"), Offset(0), ALL).await.unwrap().len() as u64, first - 1);
    let hole = log.read(&topic("a"), Offset(first - 1), ALL).await;
    assert!(matches!(hole, Err(Error::Trimmed { oldest, .. }) if oldest.0 == last + 1), "{hole:?}");
    assert_eq!(log.read(&topic("a"), Offset(last), ALL).await.unwrap().len() as u64, 20 - last);
}
