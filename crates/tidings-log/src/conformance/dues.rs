//! The cases about scheduled events, each one promise.
//!
//! Owns: what is tried and expected. Never: looks into an implementation.

use super::*;
use crate::{DuePage, DuePut};

pub async fn suite(maker: &mut dyn Maker) {
    scheduled_events_leave_once_and_in_order(maker).await;
    a_moved_event_keeps_its_id_and_leaves_once(maker).await;
    what_is_said_about_an_event_goes_with_it(maker).await;
    scheduled_events_are_read_in_pages(maker).await;
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms).expect("in range")
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn puts(dues: impl IntoIterator<Item = Due>) -> Batch {
    Batch { due_put: dues.into_iter().map(DuePut::from).collect(), ..Batch::default() }
}

async fn due_until(log: &dyn Log, ms: i64, max: ReadMax) -> DuePage {
    log.due(DueQuery::until(at(ms)), max).await.expect("reads")
}

async fn scheduled_events_leave_once_and_in_order(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    assert_eq!(t.log.due_next().await.unwrap(), None);
    let some = puts([due(1, 50, "a"), due(2, 40, "a"), due(3, 50, "b"), due(1, 10, "a")]);
    assert_eq!(t.commit(some).await.due_duplicate, [false, false, false, true]);
    t.commit(Batch { appends: vec![append("a", Some(5), "1")], ..Batch::default() }).await;
    assert_eq!(t.commit(puts([due(5, 60, "a"), due(5, 60, "b")])).await.due_duplicate, [true, false]);
    for round in 0..2 {
        let found = due_until(&*t.log, 50, ALL).await.dues;
        assert_eq!(found, [due(2, 40, "a"), due(1, 50, "a"), due(3, 50, "b")], "round {round}");
        assert_eq!(due_until(&*t.log, 50, ReadMax { events: 1, ..ALL }).await.dues.len(), 1);
        assert_eq!(due_until(&*t.log, 39, ALL).await, DuePage::default());
        assert_eq!(t.log.due_next().await.unwrap(), Some(at(40)));
        assert_eq!(t.log.due_by_id(id(3)).await.unwrap(), Some(due(3, 50, "b")));
        t.reopen().await;
    }
    let fire = || Batch {
        due_take: vec![id(2)],
        appends: vec![append("a", Some(2), "\"later\"")],
        ..Batch::default()
    };
    assert_eq!(t.commit(fire()).await.appended[0].offset, Offset(2));
    for _ in 0..2 {
        assert!(matches!(t.log.commit(fire()).await, Err(Error::DueUnknown(_))), "fires once");
        assert_eq!(t.log.due_by_id(id(2)).await.unwrap(), None);
        assert_eq!(t.log.due_next().await.unwrap(), Some(at(50)));
        t.reopen().await;
    }
    let twice = Batch { due_take: vec![id(1); 2], ..Batch::default() };
    assert!(matches!(t.log.commit(twice).await, Err(Error::DueUnknown(_))));
}

async fn a_moved_event_keeps_its_id_and_leaves_once(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.commit(puts([due(1, 50, "a"), due(2, 60, "a")])).await;
    let moved = |to: Due| Batch { due_take: vec![to.id], ..puts([to]) };
    assert_eq!(t.commit(moved(due(1, 60, "a"))).await.due_duplicate, [false]);
    for _ in 0..2 {
        assert_eq!(t.log.due_by_id(id(1)).await.unwrap(), Some(due(1, 60, "a")));
        let found = due_until(&*t.log, 60, ALL).await.dues;
        assert_eq!(found, [due(2, 60, "a"), due(1, 60, "a")], "moving is scheduling anew");
        t.reopen().await;
    }
    // Published under the same id meanwhile: it may be moved all the same, and is a repeat when it fires.
    t.commit(Batch { appends: vec![append("a", Some(1), "1")], ..Batch::default() }).await;
    assert_eq!(t.commit(moved(due(1, 70, "a"))).await.due_duplicate, [false]);
    let unknown = moved(due(9, 70, "a"));
    assert!(matches!(t.log.commit(unknown).await, Err(Error::DueUnknown(_))));
    assert_eq!(t.log.due_by_id(id(9)).await.unwrap(), None);
}

async fn what_is_said_about_an_event_goes_with_it(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    let said = |n| DuePut { due: due(n, 50, "a"), notice: Some(append("$said", None, &n.to_string())) };
    let batch = Batch {
        appends: vec![append("a", None, "1")],
        due_put: vec![said(1), said(2), said(1)],
        ..Batch::default()
    };
    let receipt = t.commit(batch).await;
    assert_eq!((receipt.appended.len(), receipt.due_duplicate), (1, vec![false, false, true]));
    let mut heard = t.heard.take();
    heard.sort();
    assert_eq!(heard, ["$said at 2: 1=1 2=2", "a at 1: 1=1", "due"]);
    t.reopen().await;
    assert_eq!(t.read("$said", 0).await, ["1:1", "2:2"]);
}

async fn scheduled_events_are_read_in_pages(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    let owned =
        |n: u128, ms, name, owner: Option<&str>| Due { owner: owner.map(str::to_owned), ..due(n, ms, name) };
    let all = [
        owned(1, 50, "a:x", Some("ann")),
        owned(2, 50, "a:y", Some("bob")),
        owned(3, 50, "b:x", Some("ann")),
        owned(4, 51, "a:x", None),
        owned(5, 52, "a", Some("ann")),
        owned(6, 53, "b:x", Some("bob")),
    ];
    t.commit(puts(all.clone())).await;
    let everything = DueQuery::all();
    let of = |owner: Option<&str>, name: Option<&str>, key: Option<&str>| DueQuery {
        owner: owner.map(str::to_owned),
        topic: name.map(topic),
        key: key.map(|k| Key::parse(k).expect("a valid key")),
        ..everything.clone()
    };
    for _ in 0..2 {
        for (query, expected) in [
            (of(None, None, None), &[1, 2, 3, 4, 5, 6][..]),
            (of(Some("ann"), None, None), &[1, 3, 5]),
            (of(None, Some("a"), None), &[1, 2, 4, 5]),
            (of(None, Some("a"), Some("x")), &[1, 4]),
            (of(None, None, Some("x")), &[1, 3, 4, 6]),
            (of(Some("bob"), Some("b"), Some("x")), &[6]),
            (of(Some("eve"), None, None), &[]),
            (DueQuery { until: at(51), ..of(None, Some("a"), None) }, &[1, 2, 4]),
        ] {
            for max in [1, 2, 9] {
                let mut query = query.clone();
                let mut found = Vec::new();
                loop {
                    let page = t.log.due(query.clone(), ReadMax { events: max, ..ALL }).await.unwrap();
                    assert!(page.dues.len() <= max);
                    found.extend(page.dues);
                    let Some(next) = page.next else { break };
                    query.after = Some(next);
                }
                let expected: Vec<Due> = expected.iter().map(|n| all[n - 1].clone()).collect();
                assert_eq!(found, expected, "{query:?}");
            }
        }
        let small = due_until(&*t.log, 99, ReadMax { events: 9, bytes: 1 }).await;
        assert_eq!((small.dues.len(), small.next.is_some()), (1, true), "one, however large");
        t.reopen().await;
    }
}
