//! Zeros that were laid ahead of the end: no crash may take them for more, or for less, than they are.

use super::*;

/// Small groups, until the segment has zeros ahead.
async fn laid_ahead(log: &EmbeddedLog, dir: &Path, number: u32) -> Vec<String> {
    let mut written = read(log, "a").await;
    for _ in 0..20 {
        written.push(written.len().to_string());
        log.commit(one("a", written.last().unwrap())).await.unwrap();
    }
    let bytes = std::fs::read(segment(dir, number)).unwrap();
    assert!(bytes.len() > 100_000 && bytes.ends_with(&[0; 90_000]), "{}", bytes.len());
    written
}

/// The bytes of a segment without the zeros ahead; no record of these tests ends with one.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).unwrap() + 1
}

/// A copy of everything, as a crash at this moment would leave it.
fn copied(from: &Path) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            match entry.path() {
                path if path.is_dir() => copy(&path, &to),
                path => drop(std::fs::copy(path, to).unwrap()),
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    std::fs::copy(from.join("FORMAT"), to.path().join("FORMAT")).unwrap();
    copy(&from.join("segments"), &to.path().join("segments"));
    to
}

#[tokio::test]
async fn a_crash_with_zeros_ahead_loses_nothing_and_a_close_leaves_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let written = laid_ahead(&log, dir.path(), 1).await;
    let crashed = copied(dir.path());
    log.close().await.unwrap();
    let closed = std::fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(closed.len(), end(&closed));

    let report = check(crashed.path(), false).unwrap();
    assert!(report.is_sound() && report.torn_bytes == 0, "{report}");
    assert_eq!((report.events, report.bytes), (20, closed.len() as u64));
    let log = open(crashed.path()).unwrap();
    assert_eq!(read(&log, "a").await, written);
    assert_eq!(std::fs::read(segment(crashed.path(), 1)).unwrap(), closed);
    assert_eq!(laid_ahead(&log, crashed.path(), 1).await.len(), 40);
    log.close().await.unwrap();
    assert_eq!(read(&open(crashed.path()).unwrap(), "a").await.len(), 40);
}

#[tokio::test]
async fn a_write_into_zeros_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    let written = laid_ahead(&log, dir.path(), 1).await;
    let before = std::fs::read(segment(dir.path(), 1)).unwrap();
    log.commit(one("a", "torn")).await.unwrap();
    let after = std::fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(before.len(), after.len(), "within what was laid ahead");
    let (from, to) = (end(&before), end(&after));
    // Any part of the write may have arrived, its end before its beginning, too.
    for at in (from..to).step_by(3) {
        for (arrived, missing) in [(from..at, at..to), (at..to, from..at)] {
            let copy = copied(dir.path());
            let mut bytes = before.clone();
            bytes[arrived.clone()].copy_from_slice(&after[arrived]);
            std::fs::write(segment(copy.path(), 1), &bytes).unwrap();
            let is_whole = missing.is_empty() || after[missing].iter().all(|b| *b == 0);
            let log = open(copy.path()).unwrap();
            assert_eq!(read(&log, "a").await.len(), written.len() + usize::from(is_whole), "cut at {at}");
        }
    }
}

#[tokio::test]
async fn zeros_ahead_of_a_segment_that_was_just_left_are_no_loss_but_zeros_within_are() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 300_000, ..Options::default() };
    let log = open_with(dir.path(), options()).unwrap();
    laid_ahead(&log, dir.path(), 1).await;
    let zeros = std::fs::read(segment(dir.path(), 1)).unwrap();
    // A large batch fills the segment, the next ones go to a new one.
    log.commit(one("a", &"x".repeat(299_000))).await.unwrap();
    let written = laid_ahead(&log, dir.path(), 2).await;
    log.settled().await.unwrap();
    let crashed = copied(dir.path());
    log.close().await.unwrap();
    // As if the crash had come before the first segment was closed.
    std::fs::remove_file(crashed.path().join("segments/0000000001.idx")).unwrap();
    let path = segment(crashed.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &[0; 5_000]].concat()).unwrap();
    let report = check(crashed.path(), false).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(read(&open_with(crashed.path(), options()).unwrap(), "a").await, written);
    assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, whole.len());

    // Only the small ones of the segment are left: the next one says that there was more.
    let lost = copied(crashed.path());
    std::fs::remove_file(lost.path().join("segments/0000000001.idx")).unwrap();
    std::fs::write(segment(lost.path(), 1), &zeros).unwrap();
    assert!(matches!(open_with(lost.path(), options()), Err(Error::Corrupt { .. })));
    assert!(!check(lost.path(), false).unwrap().is_sound());
}

#[tokio::test]
async fn a_disk_with_room_for_the_events_alone_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(dir.path(), Options { disk: Arc::new(Narrow), ..Options::default() }).unwrap();
    for n in 0..40 {
        log.commit(one("a", &n.to_string())).await.unwrap();
    }
    assert_eq!(log.read_only(), None);
    let bytes = std::fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(bytes.len(), end(&bytes), "what was laid in part is cut off again");
    log.close().await.unwrap();
    assert_eq!(read(&open(dir.path()).unwrap(), "a").await.len(), 40);
}

/// A disk with room for small writes only.
struct Narrow;

struct NarrowTape(Box<dyn Tape>);

impl Disk for Narrow {
    fn tape(&self, file: Arc<File>) -> Box<dyn Tape> {
        Box::new(NarrowTape(RealDisk.tape(file)))
    }
}

impl Tape for NarrowTape {
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if bytes.len() <= 10_000 {
            return self.0.write(bytes, at);
        }
        self.0.write(&bytes[..10_000], at)?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}
