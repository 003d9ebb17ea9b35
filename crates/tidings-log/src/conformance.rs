//! What every [`Log`] must do, as one suite that each implementation runs in its tests.
//!
//! Owns: the promises of the contract that can be seen from outside. Never: looks into an implementation.

use crate::memory::IdWindow;
use crate::{
    Append, Batch, Bounds, Clock, Due, Error, Log, Mark, Observer, ReadMax, Receipt, RegistryChange, Trim,
};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tidings_model::{Event, Key, NewEvent, Offset, RecordWriter, Timestamp, Topic, TopicName, Uuid};

/// Makes the logs under test.
pub trait Maker {
    /// From now on [`Maker::open`] opens another, empty log.
    fn fresh(&mut self);

    /// Opens the log; what was committed before is there if it is durable.
    fn open(&mut self, clock: Arc<dyn Clock>, observer: Arc<dyn Observer>, window: IdWindow) -> Arc<dyn Log>;

    /// Whether the log survives being closed and opened again.
    fn is_durable(&self) -> bool;
}

/// A clock that stands still until it is told.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub fn at(ms: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ms)))
    }

    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst)).expect("in range")
    }
}

/// Writes down what it is told, one line each.
#[derive(Debug, Clone, Default)]
pub struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    /// What was heard since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic while holding the lock"))
    }

    fn note(&self, line: String) {
        self.0.lock().expect("no panic while holding the lock").push(line);
    }
}

impl Observer for Listener {
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) {
        let data: Vec<String> =
            events.map(|e| format!("{}={}", e.offset(), e.data().unwrap_or_default())).collect();
        self.note(format!("{topic} at {tail}: {}", data.join(" ")));
    }

    fn trimmed(&self, topic: &TopicName, oldest: Offset) {
        self.note(format!("{topic} from {oldest}"));
    }

    fn dropped(&self, topic: &TopicName) {
        self.note(format!("{topic} dropped"));
    }

    fn due_changed(&self) {
        self.note("due".to_owned());
    }
}

/// A topic's name.
pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name).expect("a valid name")
}

/// An event to append: to `topic` or `topic:key`, with a client-given id if there is one.
pub fn append(address: &str, id: Option<u128>, data: &str) -> Append {
    let topic = Topic::parse(address).expect("a valid address");
    let mut event = NewEvent::new(topic, data.to_owned());
    event.id = id.map(Uuid::from_u128);
    encode(event)
}

/// The deletion of a key.
pub fn delete(address: &str) -> Append {
    let mut event = NewEvent::new(Topic::parse(address).expect("a valid address"), "0");
    event.deleted = true;
    encode(event)
}

fn encode(event: NewEvent) -> Append {
    let record = RecordWriter::encode(&event, event.id.unwrap_or(Uuid::from_u128(77)));
    Append { topic: event.topic.name, record }
}

/// An event for later.
pub fn due(id: u128, at_ms: i64, name: &str) -> Due {
    let at = Timestamp::from_millis(at_ms).expect("in range");
    let Append { topic, record } = append(name, Some(id), "\"later\"");
    Due { id: Uuid::from_u128(id), at, topic, owner: Some("ann".to_owned()), record }
}

/// No bound.
pub const ALL: ReadMax = ReadMax { events: usize::MAX, bytes: usize::MAX };

struct Case<'a> {
    maker: &'a mut dyn Maker,
    clock: ManualClock,
    heard: Listener,
    window: IdWindow,
    log: Arc<dyn Log>,
}

impl<'a> Case<'a> {
    fn new(maker: &'a mut dyn Maker, window: IdWindow) -> Self {
        maker.fresh();
        let (clock, heard) = (ManualClock::at(1_000_000), Listener::default());
        let log = maker.open(Arc::new(clock.clone()), Arc::new(heard.clone()), window);
        Self { maker, clock, heard, window, log }
    }

    async fn reopen(&mut self) {
        if self.maker.is_durable() {
            self.log.close().await.expect("closes");
            self.log =
                self.maker.open(Arc::new(self.clock.clone()), Arc::new(self.heard.clone()), self.window);
        }
    }

    async fn commit(&self, batch: Batch) -> Receipt {
        self.log.commit(batch).await.expect("commits")
    }

    async fn append(&self, address: &str, data: &str) -> u64 {
        let appends = vec![append(address, None, data)];
        self.commit(Batch { appends, ..Batch::default() }).await.appended[0].offset.0
    }

    async fn read(&self, name: &str, after: u64) -> Vec<String> {
        data(&self.log.read(&topic(name), Offset(after), ALL).await.expect("reads"))
    }

    async fn state(&self, name: &str) -> Vec<String> {
        let state = self.log.state(&topic(name), None).await.expect("reads State");
        data(&self.log.read_at(&topic(name), &state.offsets, ALL).await.expect("reads State's events"))
    }

    fn bounds(&self, name: &str) -> Option<(u64, u64)> {
        self.log.bounds(&topic(name)).map(|Bounds { oldest, tail, .. }| (oldest.0, tail.0))
    }
}

fn data(events: &[Event]) -> Vec<String> {
    events.iter().map(|e| format!("{}:{}", e.offset(), e.data().unwrap_or_default())).collect()
}

fn trim(name: &str, oldest: u64, keep_state: bool) -> Batch {
    let trims = vec![Trim { topic: topic(name), oldest: Offset(oldest), keep_state }];
    Batch { trims, ..Batch::default() }
}

/// Runs every case. Panics with the broken promise.
pub async fn suite(maker: &mut dyn Maker) {
    offsets_are_consecutive_and_reads_are_bounded(maker).await;
    the_observer_hears_what_was_committed(maker).await;
    a_batch_is_applied_whole_or_not_at_all(maker).await;
    ids_are_remembered_within_the_window(maker).await;
    scheduled_events_leave_once_and_in_order(maker).await;
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
    t.commit(Batch { appends, due_put: vec![due(1, 5, "a")], ..Batch::default() }).await;
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

async fn scheduled_events_leave_once_and_in_order(maker: &mut dyn Maker) {
    let mut t = Case::new(maker, IdWindow::default());
    assert_eq!(t.log.due_next().await.unwrap(), None);
    let due_put = vec![due(1, 50, "a"), due(2, 40, "a"), due(3, 50, "b"), due(1, 10, "a")];
    let receipt = t.commit(Batch { due_put, ..Batch::default() }).await;
    assert_eq!(receipt.due_duplicate, [false, false, false, true]);
    t.commit(Batch { appends: vec![append("a", Some(5), "1")], ..Batch::default() }).await;
    let published = Batch { due_put: vec![due(5, 60, "a"), due(5, 60, "b")], ..Batch::default() };
    assert_eq!(t.commit(published).await.due_duplicate, [true, false]);
    let at = |ms| Timestamp::from_millis(ms).unwrap();
    for round in 0..2 {
        let found = t.log.due(at(50), 9).await.unwrap();
        assert_eq!(found, [due(2, 40, "a"), due(1, 50, "a"), due(3, 50, "b")], "round {round}");
        assert_eq!(t.log.due(at(50), 1).await.unwrap().len(), 1);
        assert_eq!(t.log.due(at(39), 9).await.unwrap(), []);
        assert_eq!(t.log.due_next().await.unwrap(), Some(at(40)));
        assert_eq!(t.log.due_by_id(Uuid::from_u128(3)).await.unwrap(), Some(due(3, 50, "b")));
        t.reopen().await;
    }
    let fire = || Batch {
        due_take: vec![Uuid::from_u128(2)],
        appends: vec![append("a", Some(2), "\"later\"")],
        ..Batch::default()
    };
    assert_eq!(t.commit(fire()).await.appended[0].offset, Offset(2));
    for _ in 0..2 {
        assert!(matches!(t.log.commit(fire()).await, Err(Error::DueUnknown(_))), "fires once");
        assert_eq!(t.log.due_by_id(Uuid::from_u128(2)).await.unwrap(), None);
        assert_eq!(t.log.due_next().await.unwrap(), Some(at(50)));
        t.reopen().await;
    }
    let twice = Batch { due_take: vec![Uuid::from_u128(1); 2], ..Batch::default() };
    assert!(matches!(t.log.commit(twice).await, Err(Error::DueUnknown(_))));
    let again =
        Batch { due_take: vec![Uuid::from_u128(1)], due_put: vec![due(1, 70, "c")], ..Batch::default() };
    assert_eq!(t.commit(again).await.due_duplicate, [false]);
    assert_eq!(t.log.due_by_id(Uuid::from_u128(1)).await.unwrap(), Some(due(1, 70, "c")));
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
