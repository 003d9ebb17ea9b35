//! What a source captures: in one commit with its position, to topics that nobody else publishes to.

use std::sync::Arc;
use tidings_engine::{Capture, Hub, Item, Step, Subscription, Tidings};
use tidings_log::memory::MemoryLog;
use tidings_log::{Mark, SystemClock};
use tidings_model::{Code, Filter, From, Key, Limits, NewEvent, Offset, Principal, Topic, TopicName};

fn world() -> (Arc<MemoryLog>, Tidings) {
    let hub = Arc::new(Hub::new(&Limits::default()));
    let log = Arc::new(MemoryLog::new(Arc::new(SystemClock), hub.clone()));
    (log.clone(), engine(log, hub))
}

fn engine(log: Arc<MemoryLog>, hub: Arc<Hub>) -> Tidings {
    Tidings::new(log, hub, Arc::new(SystemClock), Limits::default())
}

fn orders() -> TopicName {
    TopicName::captured(Some("sales"), "orders", "").unwrap()
}

fn row(name: &str, key: &str, data: &str) -> NewEvent {
    let topic = Topic { name: orders(), key: Some(Key::of_columns([key]).0) };
    let mut event = NewEvent::new(topic, data.to_owned());
    event.name = Some(name.into());
    event.deleted = name == "delete";
    event
}

fn at(position: &'static str) -> Vec<Mark> {
    vec![Mark { name: "source:crm".into(), value: Some(position.into()) }]
}

fn piece(events: Vec<NewEvent>, position: &'static str) -> Capture {
    Capture { source: "crm".into(), events, marks: at(position), ..Capture::default() }
}

#[tokio::test]
async fn rows_and_the_position_behind_them_are_one_commit() {
    let (_, tidings) = world();
    let position = || tidings.position("source:crm");
    // A source that has not said what it owns may not put anything anywhere.
    let refused = tidings.capture(piece(vec![row("insert", "1", "{}")], "0/1")).await.unwrap_err();
    assert_eq!((refused.code(), position().await.unwrap()), (Code::Internal, None));
    tidings.captured("crm", &[orders()]).await.unwrap();
    let rows =
        vec![row("insert", "1", "{\"a\":1}"), row("update", "1", "{\"a\":2}"), row("delete", "1", "{}")];
    assert_eq!(tidings.capture(piece(rows, "0/2")).await.unwrap().events.len(), 3);
    assert_eq!(position().await.unwrap().as_deref(), Some(&b"0/2"[..]));
    // Nothing but a position: a heartbeat.
    tidings.capture(piece(Vec::new(), "0/3")).await.unwrap();
    assert_eq!(position().await.unwrap().as_deref(), Some(&b"0/3"[..]));
    let (admin, all) = (Principal::admin(), Filter::default());
    let page = tidings.read(&admin, &Topic::whole(orders()), Offset::ZERO, 9, &all).await.unwrap();
    let names: Vec<_> = page.events.iter().map(|e| e.name().unwrap()).collect();
    assert_eq!(names, ["insert", "update", "delete"]);
    let state = tidings.state(&admin, &Topic::whole(orders()), Offset::ZERO, 9).await.unwrap();
    assert!(state.events.is_empty(), "a deleted row left State");
}

#[tokio::test]
async fn a_captured_topic_has_one_publisher_also_after_a_restart() {
    let (log, tidings) = world();
    tidings.captured("crm", &[orders()]).await.unwrap();
    let hub = Arc::new(Hub::new(&Limits::default()));
    let again = engine(log, hub);
    again.load_captured().await.unwrap();
    for tidings in [&tidings, &again] {
        assert_eq!(tidings.captured_by(&orders()).as_deref(), Some("crm"));
        let refused = tidings.publish(&Principal::admin(), vec![row("insert", "1", "{}")]).await;
        assert_eq!(refused.unwrap_err().code(), Code::TopicCaptured);
        assert_eq!(tidings.captured("other", &[orders()]).await.unwrap_err().code(), Code::TopicCaptured);
        let foreign = Capture { source: "other".into(), ..piece(vec![row("insert", "1", "{}")], "1") };
        assert!(tidings.capture(foreign).await.is_err());
        // What the application says itself goes to topics that no source owns.
        let message = |topic: &str| NewEvent::new(Topic::parse(topic).unwrap(), "1");
        let said = Capture { messages: vec![message("news")], ..piece(Vec::new(), "2") };
        assert_eq!(tidings.capture(said).await.unwrap().events.len(), 1);
        assert_eq!(tidings.check_message(&message("sales.orders")).unwrap_err().code(), Code::TopicCaptured);
        assert!(tidings.check_message(&message("$schedule")).is_err());
    }
    again.captured("crm", &[]).await.unwrap();
    assert!(again.publish(&Principal::admin(), vec![row("insert", "1", "{}")]).await.is_ok());
}

#[tokio::test]
async fn only_a_source_makes_topics_with_long_names() {
    let (_, tidings) = world();
    let long = TopicName::captured(Some(&"s".repeat(60)), &"t".repeat(60), "").unwrap();
    let event = || NewEvent::new(Topic::whole(long.clone()), "1");
    let admin = Principal::admin();
    assert_eq!(tidings.publish(&admin, vec![event()]).await.unwrap_err().code(), Code::TopicInvalid);
    let settings = tidings.topic_settings(&long).await.unwrap();
    assert_eq!(tidings.set_topic(&admin, &long, &settings).await.unwrap_err().code(), Code::TopicInvalid);
    tidings.captured("crm", std::slice::from_ref(&long)).await.unwrap();
    tidings.set_topic(&admin, &long, &settings).await.unwrap();
    tidings.capture(piece(vec![event()], "1")).await.unwrap();
    let address = Topic::parse(long.as_str()).unwrap();
    let page = tidings.read(&admin, &address, Offset::ZERO, 9, &Filter::default()).await.unwrap();
    assert_eq!(page.events.len(), 1);
}

async fn live(tidings: &Tidings, from: &From) -> Subscription {
    let who = Arc::new(Principal::admin());
    tidings.subscribe(who, vec![Topic::whole(orders())], from, &Filter::default()).await.unwrap()
}

/// The offsets of everything at hand.
fn at_hand(subscription: &mut Subscription) -> Vec<u64> {
    let mut all = Vec::new();
    while let Step::Item(item) = subscription.step() {
        if let Item::Events(batch) = item {
            all.extend(batch.entries.iter().map(|entry| entry.event.offset().0));
        }
    }
    all
}

#[tokio::test]
async fn a_topic_that_is_held_is_told_of_later_in_its_order_and_read_at_once() {
    let (_, tidings) = world();
    tidings.captured("crm", &[orders()]).await.unwrap();
    let insert = async |position| {
        tidings.capture(piece(vec![row("insert", "1", "{}")], position)).await.unwrap();
    };
    insert("1").await;
    let (mut early, mut other) = (live(&tidings, &From::Latest).await, live(&tidings, &From::Latest).await);
    let held = tidings.hold([orders(), orders()]);
    insert("2").await;
    insert("3").await;
    tidings.publish(&Principal::admin(), vec![NewEvent::new(Topic::parse("t").unwrap(), "1")]).await.unwrap();
    assert!(at_hand(&mut early).is_empty());
    // The log hides nothing, and who has read it there is not told again.
    let (admin, all) = (Principal::admin(), Filter::default());
    let page = tidings.read(&admin, &Topic::whole(orders()), Offset::ZERO, 9, &all).await.unwrap();
    assert_eq!(page.events.len(), 3);
    let mut late = live(&tidings, &From::Earliest).await;
    let mut read = Vec::new();
    while read.len() < 3 {
        let Item::Events(batch) = late.next().await.unwrap() else { continue };
        read.extend(batch.entries.iter().map(|entry| entry.event.offset().0));
    }
    assert_eq!(read, [1, 2, 3]);
    drop(held);
    insert("4").await;
    assert_eq!(at_hand(&mut early), [2, 3, 4]);
    assert_eq!(at_hand(&mut other), [2, 3, 4]);
    while let Step::Item(item) = late.step() {
        assert!(!matches!(item, Item::Events(batch) if batch.entries[0].event.offset().0 < 4));
    }
    // Nothing is held any more, nor when what was held is gone.
    let held = tidings.hold([orders()]);
    insert("5").await;
    tidings.drop_topic(&Principal::admin(), &orders()).await.unwrap();
    drop(held);
    insert("6").await;
    let again = loop {
        if let Item::Events(batch) = early.next().await.unwrap() {
            break batch.entries[0].event.offset();
        }
    };
    assert_eq!(again, Offset(1));
}

/// What is committed while the held events are told comes behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_held_events_are_told_keeps_its_place() {
    const EACH: u64 = 20;
    let (_, tidings) = world();
    tidings.captured("crm", &[orders()]).await.unwrap();
    for round in 0..200 {
        let mut early = live(&tidings, &From::Latest).await;
        let held = tidings.hold([orders()]);
        tidings.capture(piece(vec![row("insert", "1", "{}")], "1")).await.unwrap();
        let other = tidings.clone();
        let more = tokio::spawn(async move {
            for _ in 1..EACH {
                other.capture(piece(vec![row("insert", "1", "{}")], "2")).await.unwrap();
            }
        });
        tokio::task::yield_now().await;
        drop(held);
        more.await.unwrap();
        let expected: Vec<u64> = (1..=EACH).map(|n| round * EACH + n).collect();
        assert_eq!(at_hand(&mut early), expected);
    }
}
