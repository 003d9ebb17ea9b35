//! Cases about events that concern some users only.

use super::*;
use tidings_model::View;

pub async fn suite(maker: &mut dyn Maker) {
    a_user_finds_what_concerns_it_and_nothing_else(maker).await;
    what_is_not_routed_is_found_by_everybody(maker).await;
    state_of_a_user_follows_the_rows_it_sees(maker).await;
    a_truncated_topic_has_no_state(maker).await;
}

fn told(now: &[&str], before: Option<&[&str]>) -> Sight {
    let ids = |users: &[&str]| users.iter().map(|id| (*id).into()).collect();
    Sight { audience: Some(ids(now)), before: before.map(ids), is_routed: true, ..Sight::default() }
}

fn everyone() -> Sight {
    Sight { is_routed: true, ..Sight::default() }
}

impl Case<'_> {
    async fn tell(&self, address: &str, data: &str, sight: &Sight) {
        self.commit(Batch { appends: vec![append_for(address, data, sight)], ..Batch::default() }).await;
    }

    async fn audience(&self, name: &str, user: Option<&str>, after: u64, max: usize) -> (Vec<String>, u64) {
        let max = ReadMax { events: max, bytes: usize::MAX };
        let found = self.log.read_audience(&topic(name), user, Offset(after), max).await.expect("reads");
        (data(&found.events), found.up_to.0)
    }

    /// What a user sees in State.
    async fn seen(&self, name: &str, user: &str) -> Vec<String> {
        let state = self.log.state_audience(&topic(name), Some(user)).await.expect("reads State");
        let mut events = self.log.read_at(&topic(name), &state.offsets, ALL).await.expect("reads");
        events.retain(|e| e.view_of(Some(user)).is_some_and(|view| view != View::Moved));
        data(&events)
    }
}

async fn a_user_finds_what_concerns_it_and_nothing_else(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.tell("a:1", "1", &told(&["ann"], None)).await;
    t.tell("a:2", "2", &told(&["annabel"], None)).await;
    t.tell("a", "3", &everyone()).await;
    t.tell("a", "4", &told(&[], None)).await;
    t.tell("a:1", "5", &told(&["bob"], Some(&["ann"]))).await;
    t.tell("a:1", "6", &told(&["bob"], Some(&["bob"]))).await;
    for _ in 0..2 {
        assert_eq!(
            t.audience("a", Some("ann"), 0, 9).await,
            (vec!["1:1".into(), "3:3".into(), "5:5".into()], 6)
        );
        assert_eq!(t.audience("a", Some("ann"), 0, 1).await, (vec!["1:1".into()], 1));
        assert_eq!(t.audience("a", Some("ann"), 1, 1).await, (vec!["3:3".into()], 3));
        assert_eq!(t.audience("a", Some("ann"), 5, 9).await, (vec![], 6));
        assert_eq!(t.audience("a", Some("bob"), 3, 9).await, (vec!["5:5".into(), "6:6".into()], 6));
        for user in [None, Some(""), Some("carl"), Some("*")] {
            assert_eq!(t.audience("a", user, 0, 9).await, (vec!["3:3".into()], 6));
        }
        t.reopen().await;
    }
    t.commit(trim("a", 3, true)).await;
    let error = t.log.read_audience(&topic("a"), Some("ann"), Offset(1), ALL).await.expect_err("it is gone");
    assert!(matches!(error, Error::Trimmed { oldest: Offset(3), .. }), "{error}");
    assert_eq!(t.audience("a", Some("ann"), 2, 9).await, (vec!["3:3".into(), "5:5".into()], 6));
    assert_eq!(t.audience("none", Some("ann"), 0, 9).await, (vec![], 0));
}

async fn what_is_not_routed_is_found_by_everybody(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.append("a", "1").await;
    t.append("a:k", "2").await;
    t.tell("a", "3", &told(&["ann"], None)).await;
    t.append("a", "4").await;
    t.tell("a", "5", &told(&["bob"], None)).await;
    t.append("a", "6").await;
    for _ in 0..2 {
        let mut found = Vec::new();
        let mut after = 0;
        while after < 6 {
            let max = ReadMax { events: 2, bytes: usize::MAX };
            let page =
                t.log.read_audience(&topic("a"), Some("ann"), Offset(after), max).await.expect("reads");
            found.extend(
                page.events.iter().filter(|e| e.view_of(Some("ann")).is_some()).map(|e| e.offset().0),
            );
            assert!(page.up_to.0 > after);
            after = page.up_to.0;
        }
        assert_eq!(found, [1, 2, 3, 4, 6]);
        assert_eq!(t.seen("a", "ann").await, ["2:2"]);
        t.reopen().await;
    }
}

async fn state_of_a_user_follows_the_rows_it_sees(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.tell("a:1", "1", &told(&["ann"], None)).await;
    t.tell("a:2", "2", &told(&["ann", "bob"], None)).await;
    t.tell("a:3", "3", &everyone()).await;
    assert_eq!(t.seen("a", "ann").await, ["1:1", "2:2", "3:3"]);
    t.tell("a:1", "4", &told(&["bob"], Some(&["ann"]))).await;
    // That it was ann's is not known.
    t.tell("a:2", "5", &told(&["bob"], Some(&[]))).await;
    for _ in 0..2 {
        assert_eq!(t.seen("a", "ann").await, ["3:3"]);
        assert_eq!(t.seen("a", "bob").await, ["3:3", "4:4", "5:5"]);
        t.reopen().await;
    }
    t.commit(Batch { appends: vec![delete("a:3")], ..Batch::default() }).await;
    t.commit(trim("a", 7, true)).await;
    assert_eq!(t.seen("a", "bob").await, ["4:4", "5:5"]);
    t.commit(trim("a", 7, false)).await;
    assert!(t.seen("a", "bob").await.is_empty());
}

async fn a_truncated_topic_has_no_state(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    t.append("a:1", "1").await;
    t.tell("a:2", "2", &told(&["ann"], None)).await;
    let empties = Sight { truncates: true, ..everyone() };
    t.tell("a", "3", &empties).await;
    for _ in 0..2 {
        assert!(t.state("a").await.is_empty() && t.seen("a", "ann").await.is_empty());
        assert_eq!(t.log.state(&topic("a"), None).await.expect("reads").tail, Offset(3));
        t.reopen().await;
    }
    t.append("a:1", "4").await;
    assert_eq!(t.state("a").await, ["4:4"]);
    t.commit(trim("a", 5, true)).await;
    assert_eq!(t.state("a").await, ["4:4"]);
}
