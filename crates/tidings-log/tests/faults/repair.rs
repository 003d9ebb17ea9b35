//! Files that are gone or damaged.

use super::torn::groups;
use super::*;

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
    assert!(again.is_sound() && again.lost.len() == 2, "{again}");
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
