//! Who sees which row: live, replayed, in pages and in State, over the memory log and the embedded one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidings_engine::{Addressee, Capture, Hub, Item, Listener, Place, Step, Subscription, Tidings};
use tidings_log::embedded::Options;
use tidings_log::memory::MemoryLog;
use tidings_log::{EmbeddedLog, Log, SystemClock};
use tidings_model::{
    Code, Event, Filter, From, Grants, Key, Limits, NewEvent, Offset, Principal, RowRule, Topic, TopicName,
};

struct World {
    tidings: Tidings,
    topic: TopicName,
    _dir: tempfile::TempDir,
}

impl World {
    /// Both kinds of log.
    fn all() -> [Self; 2] {
        [false, true].map(Self::new)
    }

    fn new(is_embedded: bool) -> Self {
        let hub = Arc::new(Hub::new(&Limits::default()));
        let (clock, dir) = (Arc::new(SystemClock), tempfile::tempdir().unwrap());
        let log: Arc<dyn Log> = if is_embedded {
            Arc::new(EmbeddedLog::open(dir.path(), Options::default(), clock.clone(), hub.clone()).unwrap())
        } else {
            Arc::new(MemoryLog::new(clock.clone(), hub.clone()))
        };
        let tidings = Tidings::new(log, hub, clock, Limits::default());
        Self { tidings, topic: TopicName::parse("orders").unwrap(), _dir: dir }
    }

    async fn captured(self, rule: &str, filter: &[&str]) -> Self {
        self.tidings.captured("crm", std::slice::from_ref(&self.topic)).await.unwrap();
        let rule: Option<RowRule> = serde_json::from_str(rule).unwrap();
        let filter = filter.iter().map(|c| (*c).into()).collect();
        self.tidings.set_rule(&self.topic, rule, filter).unwrap();
        self
    }

    async fn capture(&self, rows: &[(&str, &str, &str, &str)]) {
        let event = |(name, key, data, before): &(&str, &str, &str, &str)| {
            let key = (!key.is_empty()).then(|| Key::of_columns([*key]).0);
            let mut event = NewEvent::new(Topic { name: self.topic.clone(), key }, data.to_string());
            event.name = Some((*name).into());
            event.deleted = *name == "delete";
            event.context = (!before.is_empty()).then(|| format!("{{\"tx\":1,\"before\":{before}}}").into());
            event
        };
        let events = rows.iter().map(event).collect();
        self.tidings.capture(Capture { source: "crm".into(), events, ..Capture::default() }).await.unwrap();
    }

    fn whole(&self) -> Topic {
        Topic::whole(self.topic.clone())
    }

    async fn page(&self, who: &Principal, topic: &Topic) -> Vec<String> {
        let mut found = Vec::new();
        let mut after = Offset::ZERO;
        loop {
            // Few at a time, so that pages end in the middle.
            let page = self.tidings.read(who, topic, after, 2, &Filter::default()).await.unwrap();
            found.extend(page.events.iter().map(brief));
            after = page.after;
            if after >= page.bounds.tail {
                return found;
            }
        }
    }

    async fn state(&self, who: &Principal) -> Vec<String> {
        let page = self.tidings.state(who, &self.whole(), Offset::ZERO, 100).await.unwrap();
        page.events.iter().map(brief).collect()
    }

    async fn follow(&self, who: &Principal, from: &From) -> Subscription {
        let topics = vec![self.whole()];
        self.tidings.subscribe(Arc::new(who.clone()), topics, from, &Filter::default()).await.unwrap()
    }
}

fn user(id: &str) -> Principal {
    let subscribe = Grants::all();
    Principal { id: Some(id.into()), subscribe, is_admin: false, ..Principal::admin() }
}

fn anonymous() -> Principal {
    Principal { id: None, ..user("") }
}

fn brief(event: &Event) -> String {
    let context = event.record().context().map_or(String::new(), |c| format!(" {c}"));
    format!("{} {} {}{context}", event.offset(), event.name().unwrap_or("-"), event.data().unwrap_or("-"))
}

/// Everything that is at hand.
async fn drain(subscription: &mut Subscription) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let item = match subscription.step() {
            Step::Idle => return found,
            Step::Item(item) => Some(item),
            Step::Behind => subscription.next_read().await.unwrap(),
        };
        match item {
            Some(Item::Events(batch)) => found.extend(batch.entries.iter().map(|e| brief(&e.event))),
            Some(Item::Live(_)) => found.push("live".into()),
            Some(Item::Gap(gap)) => panic!("a gap: {gap:?}"),
            _ => {}
        }
    }
}

const ROWS: [(&str, &str, &str, &str); 6] = [
    ("insert", "1", r#"{"owner":"ann","n":1}"#, ""),
    ("insert", "2", r#"{"owner":"bob","n":2}"#, ""),
    ("update", "1", r#"{"owner":"ann","n":3}"#, r#"{"owner":"ann","n":1}"#),
    ("update", "1", r#"{"owner":"bob","n":4}"#, r#"{"owner":"ann","n":3}"#),
    ("insert", "3", r#"{"owner":"*","n":5}"#, ""),
    ("delete", "2", r#"{"owner":"bob","n":2}"#, ""),
];

fn anns() -> Vec<&'static str> {
    vec![
        r#"1 insert {"owner":"ann","n":1}"#,
        r#"3 update {"owner":"ann","n":3} {"tx":1,"before":{"owner":"ann","n":1}}"#,
        r#"4 delete {"owner":"ann","n":3} {"tx":1,"reason":"moved"}"#,
    ]
}

fn bobs() -> Vec<&'static str> {
    vec![
        r#"2 insert {"owner":"bob","n":2}"#,
        r#"4 update {"owner":"bob","n":4} {"tx":1}"#,
        r#"6 delete {"owner":"bob","n":2}"#,
    ]
}

#[tokio::test]
async fn each_user_sees_its_own_rows_live_replayed_in_pages_and_in_state() {
    for world in World::all() {
        let world = world.captured(r#""owner""#, &[]).await;
        let (ann, bob, admin) = (user("ann"), user("bob"), Principal::admin());
        let others = [anonymous(), user("carl"), user(""), user("constructor")];
        let mut live_ann = world.follow(&ann, &From::Latest).await;
        let mut live_bob = world.follow(&bob, &From::Latest).await;
        for row in ROWS {
            world.capture(&[row]).await;
        }
        assert_eq!(drain(&mut live_ann).await, anns());
        assert_eq!(drain(&mut live_bob).await, bobs());
        assert_eq!(drain(&mut world.follow(&ann, &From::Earliest).await).await, anns());
        assert_eq!(drain(&mut world.follow(&bob, &From::Earliest).await).await, bobs());
        assert_eq!(world.page(&ann, &world.whole()).await, anns());
        assert_eq!(world.page(&bob, &world.whole()).await, bobs());
        let one = Topic::parse("orders:1").unwrap();
        assert_eq!(world.page(&ann, &one).await, anns());
        assert_eq!(world.page(&bob, &one).await, &bobs()[1..2]);
        assert!(world.state(&ann).await.is_empty());
        assert_eq!(world.state(&bob).await, &bobs()[1..2]);
        assert_eq!(drain(&mut world.follow(&bob, &From::State).await).await, [bobs()[1], "live"]);
        for who in &others {
            assert!(world.page(who, &world.whole()).await.is_empty() && world.state(who).await.is_empty());
            assert!(drain(&mut world.follow(who, &From::Earliest).await).await.is_empty());
        }
        // Its value is a value: whoever has this very id sees it, and nobody else.
        assert_eq!(world.page(&user("*"), &world.whole()).await, [r#"5 insert {"owner":"*","n":5}"#]);
        assert_eq!(world.page(&admin, &world.whole()).await.len(), 6);
        let last = r#"4 update {"owner":"bob","n":4} {"tx":1,"before":{"owner":"ann","n":3}}"#;
        assert_eq!(world.page(&admin, &world.whole()).await[3], last);
        // A cursor goes on where it was, past what is not one's own.
        let cursor = live_ann.cursor();
        world.capture(&[("insert", "9", r#"{"owner":"ann"}"#, "")]).await;
        let mut back = world.follow(&ann, &From::Cursor(cursor)).await;
        assert_eq!(drain(&mut back).await, [r#"7 insert {"owner":"ann"}"#]);
    }
}

#[tokio::test]
async fn who_had_a_row_hears_that_it_is_gone_also_where_the_database_does_not_say() {
    for world in World::all() {
        let world = world.captured(r#""owner""#, &["pin"]).await;
        world.capture(&[("insert", "1", r#"{"id":1,"owner":"ann","pin":1}"#, "")]).await;
        world.capture(&[("insert", "2", r#"{"id":2,"owner":"ann"}"#, "")]).await;
        world.capture(&[("update", "1", r#"{"id":1,"owner":"bob","pin":2}"#, "")]).await;
        // Within one delivery, too; and what was emptied is nobody's any more.
        let rows = [
            ("update", "2", r#"{"id":2,"owner":"carl"}"#, ""),
            ("delete", "2", r#"{"id":2}"#, ""),
            ("truncate", "", "null", ""),
            ("update", "1", r#"{"id":1,"owner":"carl"}"#, ""),
        ];
        world.capture(&rows).await;
        let moved = r#"3 delete {"id":1,"owner":"ann"} {"reason":"moved"}"#;
        let (ann, carl) = (user("ann"), user("carl"));
        let anns = world.page(&ann, &world.whole()).await;
        assert_eq!(
            anns[2..],
            [moved, r#"4 delete {"id":2,"owner":"ann"} {"reason":"moved"}"#, "6 truncate null"]
        );
        assert!(world.state(&ann).await.is_empty());
        let carls = [
            r#"4 update {"id":2,"owner":"carl"} {}"#,
            r#"5 delete {"id":2,"owner":"carl"}"#,
            "6 truncate null",
            r#"7 update {"id":1,"owner":"carl"}"#,
        ];
        assert_eq!(world.page(&carl, &world.whole()).await, carls);
        let bobs = world.page(&user("bob"), &world.whole()).await;
        assert_eq!(bobs, [r#"3 update {"id":1,"owner":"bob"} {}"#, "6 truncate null"]);
    }
}

#[tokio::test]
async fn without_a_rule_nobody_sees_captured_rows_and_everyone_with_a_star() {
    for world in World::all() {
        let world = world.captured("null", &[]).await;
        world.capture(&ROWS[..1]).await;
        world.tidings.set_rule(&world.topic, Some(RowRule::Everyone), Vec::new()).unwrap();
        world.capture(&ROWS[1..2]).await;
        let second = [bobs()[0]];
        for who in [user("ann"), anonymous()] {
            assert_eq!(world.page(&who, &world.whole()).await, second, "a rule counts for what comes later");
            assert_eq!(world.state(&who).await, second);
        }
        assert_eq!(world.page(&Principal::admin(), &world.whole()).await.len(), 2);
    }
}

#[tokio::test]
async fn a_topic_that_gets_a_rule_keeps_showing_what_was_there_before() {
    for world in World::all() {
        let topic = Topic::parse("orders:1").unwrap();
        let publish = |data: &'static str| {
            let (tidings, topic) = (world.tidings.clone(), topic.clone());
            async move { tidings.publish(&Principal::admin(), vec![NewEvent::new(topic, data)]).await.unwrap() }
        };
        publish(r#"{"a":1}"#).await;
        world
            .tidings
            .set_rule(&world.topic, serde_json::from_str(r#""owner""#).unwrap(), vec!["pin".into()])
            .unwrap();
        let mut live = world.follow(&user("ann"), &From::Latest).await;
        publish(r#"{"owner":"bob"}"#).await;
        publish(r#"{"owner":"ann","pin":7}"#).await;
        world.tidings.set_rule(&world.topic, None, Vec::new()).unwrap();
        publish(r#"{"a":2}"#).await;
        let expected = [r#"1 - {"a":1}"#, r#"3 - {"owner":"ann"}"#, r#"4 - {"a":2}"#];
        assert_eq!(world.page(&user("ann"), &world.whole()).await, expected);
        assert_eq!(drain(&mut live).await, expected[1..]);
        assert_eq!(world.page(&anonymous(), &world.whole()).await, [expected[0], expected[2]]);
    }
}

#[tokio::test]
async fn a_truncated_table_has_no_state_and_its_readers_hear_of_it() {
    for world in World::all() {
        let world = world.captured(r#""owner""#, &[]).await;
        world.capture(&ROWS[..2]).await;
        let mut live = world.follow(&user("ann"), &From::State).await;
        world.capture(&[("truncate", "", "null", "")]).await;
        world.capture(&[("insert", "8", r#"{"owner":"ann"}"#, "")]).await;
        let after = r#"4 insert {"owner":"ann"}"#;
        assert_eq!(drain(&mut live).await, [anns()[0], "live", "3 truncate null", after]);
        assert_eq!(world.state(&user("ann")).await, [after]);
        assert_eq!(world.state(&Principal::admin()).await, [after]);
        assert!(world.state(&user("bob")).await.is_empty());
    }
}

#[tokio::test]
async fn what_is_added_to_a_captured_topic_reaches_whom_it_names_outside_state() {
    for world in World::all() {
        let world = world.captured(r#""owner""#, &["password"]).await;
        let event = || {
            let mut event = NewEvent::new(Topic::parse("orders:1").unwrap(), r#"{"a":1,"password":2}"#);
            event.name = Some("truncate".into());
            event
        };
        world.capture(&ROWS[..1]).await;
        let (admin, bob) = (Principal::admin(), user("bob"));
        let to = |who, addressee| world.tidings.publish_to_captured(who, event(), addressee);
        to(&admin, Addressee::User("ann")).await.unwrap();
        to(&admin, Addressee::Everyone).await.unwrap();
        to(&bob, Addressee::User("bob")).await.unwrap();
        for addressee in [Addressee::Everyone, Addressee::User("ann")] {
            assert_eq!(to(&bob, addressee).await.unwrap_err().code(), Code::Forbidden);
        }
        let told = |n: u64| format!("{n} truncate {{\"a\":1}}");
        assert_eq!(world.page(&user("ann"), &world.whole()).await[1..], [told(2), told(3)]);
        assert_eq!(world.page(&bob, &world.whole()).await, [told(3), told(4)]);
        assert_eq!(world.page(&user("*"), &world.whole()).await, [told(3)]);
        assert_eq!(
            world.state(&user("ann")).await,
            [anns()[0]],
            "what is added is no row and empties nothing"
        );
    }
}

#[tokio::test]
async fn a_subscription_that_changes_hands_goes_on_with_the_rows_of_its_new_reader() {
    for world in World::all() {
        let world = world.captured(r#""owner""#, &[]).await;
        world.capture(&ROWS[..2]).await;
        let mut live = world.follow(&user("ann"), &From::Earliest).await;
        let mut in_state = world.follow(&user("ann"), &From::State).await;
        assert_eq!(drain(&mut live).await, anns()[..1]);
        for subscription in [&mut live, &mut in_state] {
            assert!(subscription.renew(Arc::new(user("bob"))).is_empty());
        }
        assert_eq!(drain(&mut in_state).await, [bobs()[0], "live"]);
        for row in &ROWS[2..] {
            world.capture(&[*row]).await;
        }
        assert_eq!(drain(&mut live).await, bobs()[1..]);
        live.renew(Arc::new(Principal::admin()));
        world.capture(&ROWS[..2]).await;
        assert_eq!(drain(&mut live).await.len(), 2);
    }
}

struct Count(AtomicUsize);

impl Listener for Count {
    fn wake(&self, _: Place) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_event_wakes_those_whom_it_concerns_and_nobody_else() {
    let world = World::new(false).captured(r#"["owner","buyer"]"#, &[]).await;
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let listener: Arc<dyn Listener> = count.clone();
    let mut all = Vec::new();
    for n in 0..2000 {
        let subscription = world.follow(&user(&n.to_string()), &From::Latest).await;
        subscription.listen_with(&listener);
        all.push(subscription);
    }
    let woken = || count.0.swap(0, Ordering::Relaxed);
    world.capture(&[("insert", "1", r#"{"owner":7,"buyer":7}"#, "")]).await;
    assert_eq!(woken(), 1);
    world.capture(&[("update", "1", r#"{"owner":8,"buyer":7}"#, r#"{"owner":9,"buyer":7}"#)]).await;
    assert_eq!(woken(), 3, "the new owner, the old owner and the buyer");
    world.capture(&[("insert", "2", r#"{"owner":"nobody"}"#, "")]).await;
    assert_eq!(woken(), 0);
    let mut received = 0;
    for subscription in &mut all {
        received += drain(subscription).await.len();
    }
    assert_eq!(received, 4);
    all.iter().for_each(|s| s.unlisten_with(&listener));
}
