//! What a source captures: in one commit with its position, to topics that nobody else publishes to.

use std::sync::Arc;
use tidings_engine::{Capture, Hub, Tidings};
use tidings_log::memory::MemoryLog;
use tidings_log::{Mark, SystemClock};
use tidings_model::{Code, Filter, Key, Limits, NewEvent, Offset, Principal, Topic, TopicName};

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
