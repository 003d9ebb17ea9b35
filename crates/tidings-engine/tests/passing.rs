//! Events that are not stored: who gets them, and what they leave behind.

use std::sync::Arc;
use tidings_engine::{Error, Hub, Item, Step, Subscription, Tidings};
use tidings_log::Clock;
use tidings_log::memory::MemoryLog;
use tidings_model::{
    Event, Filter, From, Grant, Grants, Limits, NewEvent, Offset, Principal, Timestamp, Topic, TopicName,
};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(43_200_000).unwrap()
    }
}

fn tidings() -> Tidings {
    let limits = Limits { passing_events: 3, ..Limits::default() };
    let hub = Arc::new(Hub::new(&limits));
    let log = Arc::new(MemoryLog::new(Arc::new(Noon), hub.clone()));
    Tidings::new(log, hub, Arc::new(Noon), limits)
}

fn who(topics: &[&str]) -> Principal {
    let grants: Grants = topics.iter().map(|t| Grant::parse(t).unwrap()).collect();
    Principal { publish: grants.clone(), subscribe: grants, ..Principal::nobody() }
}

fn event(topic: &str, data: &str) -> NewEvent {
    NewEvent::new(Topic::parse(topic).unwrap(), data.to_owned())
}

async fn subscribe(t: &Tidings, who: &Principal, topics: &[&str], filter: &str) -> Subscription {
    let topics = topics.iter().map(|t| Topic::parse(t).unwrap()).collect();
    let filter = if filter.is_empty() { Filter::default() } else { Filter::parse(filter).unwrap() };
    t.subscribe(Arc::new(who.clone()), topics, &From::Latest, &filter).await.unwrap()
}

/// The data of everything at hand; what is stored with its offset.
fn at_hand(subscription: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    let print = |event: &Event| match event.is_passing() {
        true => event.data().unwrap().to_owned(),
        false => format!("{}@{}", event.data().unwrap(), event.offset()),
    };
    while let Step::Item(item) = subscription.step() {
        match item {
            Item::Passing(entries) => all.extend(entries.iter().map(|e| print(&e.event))),
            Item::Events(batch) => all.extend(batch.entries.iter().map(|e| print(&e.event))),
            _ => panic!("neither gap nor State was asked for"),
        }
    }
    all
}

#[tokio::test]
async fn it_reaches_those_who_read_live_once_and_leaves_nothing_behind() {
    let t = tidings();
    let admin = Principal::admin();
    let mut early = subscribe(&t, &admin, &["t"], "").await;
    let mut both = subscribe(&t, &admin, &["t:1", "t"], "").await;
    let mut other = subscribe(&t, &admin, &["t:2", "u"], "").await;
    let passed = t.pass_on(&admin, vec![event("t:1", "{\"n\":1}")]).await.unwrap();
    assert_eq!((passed.len(), passed[0].published_at()), (1, Noon.now()));
    let mut late = subscribe(&t, &admin, &["t"], "").await;
    assert_eq!(at_hand(&mut early), ["{\"n\":1}"]);
    assert_eq!(at_hand(&mut both), ["{\"n\":1}"]);
    assert!(at_hand(&mut other).is_empty() && at_hand(&mut late).is_empty());
    assert!(t.log().bounds(&TopicName::parse("t").unwrap()).is_none(), "a topic came into being");
    // What is stored afterwards has the first offset, and a cursor from before leads to it.
    let cursor = early.cursor();
    t.publish(&admin, vec![event("t:1", "2")]).await.unwrap();
    t.pass_on(&admin, vec![event("t:1", "3")]).await.unwrap();
    assert_eq!(at_hand(&mut early), ["2@1", "3"]);
    let topics = vec![Topic::parse("t").unwrap()];
    let mut back =
        t.subscribe(Arc::new(admin), topics, &From::Cursor(cursor), &Filter::default()).await.unwrap();
    let Item::Events(batch) = back.next().await.unwrap() else { panic!("an event was expected") };
    assert_eq!(batch.entries[0].event.offset(), Offset(1));
    assert!(at_hand(&mut back).is_empty());
}

#[tokio::test]
async fn it_passes_under_grant_and_filter_only() {
    let t = tidings();
    let ann = who(&["t:1"]);
    let mut own = subscribe(&t, &ann, &["t:1"], "data.n > 1").await;
    let events = [1, 2].map(|n| event("t:1", &format!("{{\"n\":{n}}}")));
    t.pass_on(&ann, events.into()).await.unwrap();
    assert_eq!(at_hand(&mut own), ["{\"n\":2}"]);
    let refused = t.pass_on(&ann, vec![event("t:1", "{\"n\":9}"), event("t:2", "1")]).await;
    assert!(matches!(refused, Err(Error::MayNotPublish(topic)) if topic.to_string() == "t:2"));
    let system = t.pass_on(&Principal::admin(), vec![event("$schedule", "1")]).await;
    assert!(matches!(system, Err(Error::SystemTopic(_))));
    let mut bad = event("t:1", "1");
    bad.name = Some("$gap".into());
    assert!(matches!(t.pass_on(&ann, vec![bad]).await, Err(Error::Event { index: 0, .. })));
    assert!(at_hand(&mut own).is_empty(), "of a refused call nothing passes");
    // An event of no place is not before or after any offset.
    let mut placed = subscribe(&t, &ann, &["t:1"], "offset >= 0").await;
    t.pass_on(&ann, vec![event("t:1", "1")]).await.unwrap();
    assert!(at_hand(&mut placed).is_empty());
}

#[tokio::test]
async fn a_reader_that_lags_finds_the_newest_and_a_waiting_one_is_woken() {
    let t = tidings();
    let admin = Principal::admin();
    let mut slow = subscribe(&t, &admin, &["t"], "").await;
    for n in 0..5 {
        t.pass_on(&admin, vec![event("t", &n.to_string())]).await.unwrap();
    }
    assert_eq!(at_hand(&mut slow), ["2", "3", "4"]);
    let waits = tokio::spawn(async move { slow.next().await.map(|item| matches!(item, Item::Passing(_))) });
    tokio::task::yield_now().await;
    t.pass_on(&admin, vec![event("t", "5")]).await.unwrap();
    assert!(waits.await.unwrap().unwrap());
}
