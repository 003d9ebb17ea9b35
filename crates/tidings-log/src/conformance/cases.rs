//! The cases of the suite, each one promise.
//!
//! Owns: what is tried and expected. Never: looks into an implementation.

use super::{audience, dues, *};

/// Runs every case. Panics with the broken promise.
pub async fn suite(maker: &mut dyn Maker) {
    offsets_are_consecutive_and_reads_are_bounded(maker).await;
    the_observer_hears_what_was_committed(maker).await;
    a_batch_is_applied_whole_or_not_at_all(maker).await;
    ids_are_remembered_within_the_window(maker).await;
    dues::suite(maker).await;
    audience::suite(maker).await;
    state_follows_keys_deletions_and_trims(maker).await;
    keys_are_read_alone(maker).await;
    a_dropped_topic_begins_anew(maker).await;
    trimmed_events_are_said_to_be_gone(maker).await;
    times_and_sizes_find_offsets(maker).await;
    marks_and_registry_keep_the_newest_value(maker).await;
    topics_are_listed_in_name_order(maker).await;
    a_closed_log_refuses_commits(maker).await;
}

async fn offsets_are_consecutive_and_reads_are_bounded(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    assert_eq!(t.bounds("a"), None);
    assert!(t.read("a", 0).await.is_empty());
    let appends = vec![append("a", None, "1"), append("b", None, "2"), append("a", None, "3")];
    let receipt = t.commit(Batch { appends, ..Batch::default() }).await;
    assert_eq!(receipt.appended.iter().map(|a| a.offset.0).collect::<Vec<_>>(), [1, 1, 2]);
    t.append("a", "4").await;
    for round in 0..2 {
        assert_eq!(t.bounds("a"), Some((1, 3)), "round {round}");
        assert_eq!(t.read("a", 0).await, ["1:1", "2:3", "3:4"]);
        assert_eq!(t.read("a", 2).await, ["3:4"]);
        assert!(t.read("a", 3).await.is_empty());
        assert!(t.read("a", 30).await.is_empty());
        assert_eq!(t.read("b", 0).await, ["1:2"]);
        for (events, bytes, expected) in [(2, usize::MAX, 2), (9, 0, 1), (1, 1 << 20, 1), (9, 70, 2)] {
            let read = t.log.read(&topic("a"), Offset::ZERO, ReadMax { events, bytes }).await.unwrap();
            assert_eq!(read.len(), expected, "at most {events} events, {bytes} bytes");
        }
        t.reopen().await;
    }
    assert_eq!(t.append("a", "5").await, 4);
}

async fn the_observer_hears_what_was_committed(maker: &mut dyn Maker) {
    let t = Case::new(maker, IdWindow::default());
    let appends = vec![append("a", None, "1"), append("a", None, "2"), append("b", None, "3")];
    t.commit(Batch { appends, due_put: vec![due(1, 5, "a").into()], ..Batch::default() }).await;
    assert_eq!(t.heard.take(), ["a at 2: 1=1 2=2", "b at 1: 1=3", "due"]);
    t.commit(trim("a", 2, true)).await;
    t.commit(Batch { drops: vec![topic("a")], ..Batch::default() }).await;
    assert_eq!(t.heard.take(), ["a from 2", "a dropped"]);
    t.commit(Batch { marks: vec![Mark { name: "m".into(), value: None }], ..Batch::default() }).await;
    assert!(t.heard.take().is_empty());
}

async fn a_batch_is_applied_whole_or_not_at_all(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.append("a", "1").await;
    let refused = Batch {
        due_take: vec![Uuid::from_u128(9)],
        drops: vec![topic("a")],
        appends: vec![append("b", None, "2")],
        marks: vec![Mark { name: "m".into(), value: Some("v".into()) }],
        ..Batch::default()
    };
    let id = Uuid::from_u128(9);
    assert!(matches!(t.log.commit(refused).await, Err(Error::DueUnknown(unknown)) if unknown == id));
    t.reopen().await;
    assert_eq!(t.bounds("a"), Some((1, 1)));
    assert_eq!(t.bounds("b"), None);
    assert_eq!(t.log.mark("m").await.unwrap(), None);
    assert_eq!(t.commit(Batch::default()).await, Receipt::default());
}

async fn ids_are_remembered_within_the_window(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow { age_ms: 1_000, events: 3 });
    let publish = |id, data: &str| Batch { appends: vec![append("a", Some(id), data)], ..Batch::default() };
    let twice = vec![append("a", Some(1), "1"), append("a", Some(1), "2"), append("a", Some(2), "3")];
    let first = t.commit(Batch { appends: twice, ..Batch::default() }).await.appended;
    assert_eq!(
        first.iter().map(|a| (a.offset.0, a.duplicate)).collect::<Vec<_>>(),
        [(1, false), (1, true), (2, false)]
    );
    t.clock.advance(999);
    t.reopen().await;
    let again = t.commit(publish(1, "4")).await.appended[0];
    assert_eq!(
        (again.epoch, again.offset, again.published_at, again.duplicate),
        (first[0].epoch, first[0].offset, first[0].published_at, true)
    );
    assert_eq!(t.bounds("a"), Some((1, 2)));
    let elsewhere = Batch { appends: vec![append("b", Some(1), "5")], ..Batch::default() };
    assert!(!t.commit(elsewhere).await.appended[0].duplicate, "ids are remembered per topic");
    t.clock.advance(1);
    assert!(!t.commit(publish(1, "6")).await.appended[0].duplicate, "too long ago");
    for n in 0..2 {
        t.append("a", &n.to_string()).await;
    }
    t.reopen().await;
    assert!(t.commit(publish(1, "7")).await.appended[0].duplicate);
    t.append("a", "8").await;
    assert!(!t.commit(publish(1, "9")).await.appended[0].duplicate, "too many events ago");
}

async fn state_follows_keys_deletions_and_trims(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    for (address, data) in [("a:x", "1"), ("a:y", "2"), ("a", "3"), ("a:x", "4"), ("a:z", "5")] {
        t.append(address, data).await;
    }
    t.commit(Batch { appends: vec![delete("a:z")], ..Batch::default() }).await;
    let x = Key::parse("x").unwrap();
    for round in 0..2 {
        assert_eq!(t.state("a").await, ["2:2", "4:4"], "round {round}");
        let state = t.log.state(&topic("a"), Some(&x)).await.unwrap();
        assert_eq!(state.offsets, [Offset(4)]);
        assert_eq!(t.log.state(&topic("a"), None).await.unwrap().tail, Offset(6));
        t.reopen().await;
    }
    t.commit(trim("a", 6, true)).await;
    assert_eq!(t.state("a").await, ["2:2", "4:4"], "State outlives retention");
    let offsets: Vec<Offset> = (0..9).map(Offset).collect();
    let kept = t.log.read_at(&topic("a"), &offsets, ALL).await.unwrap();
    assert_eq!(data(&kept), ["2:2", "4:4", "6:0"]);
    let one = t.log.read_at(&topic("a"), &offsets, ReadMax { events: 9, bytes: 0 }).await.unwrap();
    assert_eq!(data(&one), ["2:2"]);
    t.append("a:y", "7").await;
    assert_eq!(t.state("a").await, ["4:4", "7:7"]);
    t.commit(trim("a", 7, false)).await;
    for round in 0..2 {
        assert_eq!(t.state("a").await, ["7:7"], "round {round}");
        assert_eq!(t.bounds("a"), Some((7, 7)));
        t.reopen().await;
    }
}

async fn keys_are_read_alone(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    for n in 0..10 {
        t.append(["a:x", "a:xy", "b:x"][n % 3], &n.to_string()).await;
    }
    let x = Key::parse("x").unwrap();
    for round in 0..2 {
        let read = |after: u64, max| t.log.read_key(&topic("a").clone(), &x, Offset(after), max);
        assert_eq!(data(&read(0, ALL).await.unwrap()), ["1:0", "3:3", "5:6", "7:9"], "round {round}");
        assert_eq!(data(&read(3, ALL).await.unwrap()), ["5:6", "7:9"]);
        assert_eq!(read(0, ReadMax { events: 2, bytes: 1 << 20 }).await.unwrap().len(), 2);
        assert!(read(7, ALL).await.unwrap().is_empty());
        t.reopen().await;
    }
    t.commit(trim("a", 4, true)).await;
    assert_eq!(data(&t.log.read_key(&topic("a"), &x, Offset(0), ALL).await.unwrap()), ["5:6", "7:9"]);
}

async fn a_dropped_topic_begins_anew(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    let first =
        t.commit(Batch { appends: vec![append("a:x", Some(1), "1")], ..Batch::default() }).await.appended[0];
    t.commit(Batch { drops: vec![topic("a"), topic("never")], ..Batch::default() }).await;
    for _ in 0..2 {
        assert_eq!(t.bounds("a"), None);
        assert!(t.state("a").await.is_empty());
        t.reopen().await;
    }
    let appends = vec![append("a", Some(1), "2")];
    let second = t.commit(Batch { appends, ..Batch::default() }).await.appended[0];
    assert_eq!((second.offset, second.duplicate), (Offset(1), false));
    assert_ne!(first.epoch, second.epoch);
    let both =
        Batch { drops: vec![topic("a")], appends: vec![append("a", Some(1), "3")], ..Batch::default() };
    let third = t.commit(both).await.appended[0];
    assert_eq!((third.offset, third.duplicate), (Offset(1), false));
    for _ in 0..2 {
        assert_eq!(t.log.bounds(&topic("a")).unwrap().epoch, third.epoch);
        assert_eq!(t.read("a", 0).await, ["1:3"]);
        assert!(t.state("a").await.is_empty());
        t.reopen().await;
    }
}

async fn trimmed_events_are_said_to_be_gone(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    for n in 1..=5 {
        t.append("a", &n.to_string()).await;
    }
    t.commit(trim("a", 3, true)).await;
    t.commit(trim("a", 2, true)).await;
    t.commit(trim("unknown", 2, true)).await;
    for _ in 0..2 {
        assert_eq!(t.bounds("a"), Some((3, 5)));
        let gone = t.log.read(&topic("a"), Offset(1), ALL).await;
        let expected = |a: Offset, o: Offset| a == Offset(2) && o == Offset(3);
        assert!(matches!(gone, Err(Error::Trimmed { asked, oldest, .. }) if expected(asked, oldest)));
        assert_eq!(t.read("a", 2).await, ["3:3", "4:4", "5:5"]);
        t.reopen().await;
    }
    t.commit(trim("a", 99, true)).await;
    for _ in 0..2 {
        assert_eq!(t.bounds("a"), Some((6, 5)));
        assert!(t.read("a", 5).await.is_empty());
        assert!(matches!(t.log.read(&topic("a"), Offset(4), ALL).await, Err(Error::Trimmed { .. })));
        t.reopen().await;
    }
    assert_eq!(t.append("a", "6").await, 6);
    assert_eq!(t.read("a", 5).await, ["6:6"]);
}

async fn times_and_sizes_find_offsets(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    for n in 1..=6 {
        t.append("a", &n.to_string()).await;
        t.append("b", "0").await;
        t.clock.advance(if n % 2 == 0 { 10 } else { 0 });
    }
    let len = t.log.read(&topic("a"), Offset(0), ALL).await.unwrap()[0].record().as_bytes().len() as u64;
    for _ in 0..2 {
        let at = |ms: i64| Timestamp::from_millis(1_000_000 + ms).unwrap();
        for (ms, offset) in [(-5, 0), (0, 0), (1, 2), (10, 2), (11, 4), (20, 4), (21, 6)] {
            assert_eq!(t.log.at_time(&topic("a"), at(ms)).await.unwrap(), Offset(offset), "at {ms} ms");
        }
        assert_eq!(t.log.at_size(&topic("a"), u64::MAX).await.unwrap(), Offset(0));
        assert_eq!(t.log.at_size(&topic("a"), 0).await.unwrap(), Offset(6));
        assert_eq!(t.log.at_size(&topic("a"), 3 * len).await.unwrap(), Offset(3));
        assert_eq!(t.log.at_time(&topic("none"), at(0)).await.unwrap(), Offset(0));
        t.reopen().await;
    }
    t.commit(trim("a", 4, true)).await;
    assert_eq!(t.log.at_size(&topic("a"), u64::MAX).await.unwrap(), Offset(3));
    assert_eq!(t.log.at_time(&topic("a"), Timestamp::default()).await.unwrap(), Offset(3));
    t.clock.advance(-1_000);
    t.append("a", "7").await;
    let events = t.log.read(&topic("a"), Offset(5), ALL).await.unwrap();
    assert!(events[0].published_at() <= events[1].published_at(), "time never runs backwards");
}

async fn marks_and_registry_keep_the_newest_value(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    let mark =
        |name: &str, value: Option<&'static str>| Mark { name: name.into(), value: value.map(Into::into) };
    let change = |kind: &str, key: &str, value: Option<&'static str>| RegistryChange {
        kind: kind.into(),
        key: key.into(),
        value: value.map(Into::into),
    };
    t.commit(Batch {
        marks: vec![mark("m", Some("1")), mark("n", Some("")), mark("m", Some("2")), mark("o", None)],
        registry: vec![
            change("user", "b", Some("1")),
            change("user", "a", Some("2")),
            change("key", "a", Some("3")),
        ],
        ..Batch::default()
    })
    .await;
    for _ in 0..2 {
        assert_eq!(t.log.mark("m").await.unwrap().unwrap(), "2");
        assert_eq!(t.log.mark("n").await.unwrap().unwrap(), "");
        assert_eq!(t.log.mark("o").await.unwrap(), None);
        let users = t.log.registry("user").await.unwrap();
        assert_eq!(users, [("a".to_owned(), "2".into()), ("b".to_owned(), "1".into())]);
        assert_eq!(t.log.registry_page("user", None, 1).await.unwrap(), users[..1]);
        assert_eq!(t.log.registry_page("user", Some("a"), 9).await.unwrap(), users[1..]);
        assert!(t.log.registry_page("user", Some("b"), 9).await.unwrap().is_empty());
        assert_eq!(t.log.registered("key", "a").await.unwrap().unwrap(), "3");
        t.reopen().await;
    }
    let registry = vec![change("user", "a", None), change("user", "b", Some("9"))];
    t.commit(Batch { marks: vec![mark("m", None)], registry, ..Batch::default() }).await;
    for _ in 0..2 {
        assert_eq!(t.log.mark("m").await.unwrap(), None);
        assert_eq!(t.log.registered("user", "a").await.unwrap(), None);
        assert_eq!(t.log.registry("user").await.unwrap(), [("b".to_owned(), "9".into())]);
        t.reopen().await;
    }
}

async fn topics_are_listed_in_name_order(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    for name in ["c", "a", "b"] {
        t.append(name, "1").await;
    }
    for _ in 0..2 {
        assert_eq!(t.log.topic_count(), 3);
        let page = t.log.topics(Some(&topic("a")), 1).await.unwrap();
        assert_eq!(page, [(topic("b"), t.log.bounds(&topic("b")).unwrap())]);
        let all = t.log.topics(None, 9).await.unwrap();
        assert_eq!(all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        t.reopen().await;
    }
}

async fn a_closed_log_refuses_commits(maker: &mut dyn Maker) {
    let t = Case::new(maker, IdWindow::default());
    t.append("a", "1").await;
    t.log.close().await.unwrap();
    let batch = Batch { appends: vec![append("a", None, "2")], ..Batch::default() };
    assert!(matches!(t.log.commit(batch).await, Err(Error::Closed)));
    t.log.close().await.expect("closing twice is no error");
}
