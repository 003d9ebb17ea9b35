//! Disks that fail, power cuts, bit flips, and files that are gone.

mod gate;
mod place;
mod repair;
mod runway;
mod torn;

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

#[tokio::test]
async fn an_observer_that_panics_stops_writing_and_leaves_nobody_waiting() {
    a_panic_stops_writing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_that_panics_in_the_hands_of_whoever_commits() {
    tokio::spawn(a_panic_stops_writing()).await.unwrap();
}

async fn a_panic_stops_writing() {
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
