//! Power cuts: what is cut off, what is refused, and what is seen before a sync.

use super::gate::Gate;
use super::*;

/// A closed log of some groups, and where each ends in the only segment.
pub async fn groups(dir: &Path) -> Vec<usize> {
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
pub fn crashed(from: &Path, len: usize) -> tempfile::TempDir {
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
