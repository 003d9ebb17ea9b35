//! Whatever happens to an embedded log, it answers as the memory log does.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::collections::HashMap;
use std::sync::Arc;
use tidings_log::conformance::{ALL, ManualClock, append, append_for, delete, due, topic};
use tidings_log::embedded::Options;
use tidings_log::memory::{IdWindow, MemoryLog};
use tidings_log::{
    Batch, Due, DueQuery, EmbeddedLog, Error, Log, Mark, ReadMax, Receipt, RegistryChange, Trim,
};
use tidings_model::{Epoch, Event, Key, Offset, Sight, Timestamp, Uuid, View};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 3] = ["x", "xy", "z"];
/// One's id begins another's.
const USERS: [&str; 3] = ["ann", "anna", ""];
const START_MS: i64 = 1_700_000_000_000;
const WINDOW: IdWindow = IdWindow { age_ms: 5_000, events: 20 };

/// The pages a query is answered with, each read from where the one before says.
async fn due_pages(log: &dyn Log, mut query: DueQuery, max: ReadMax) -> Vec<Vec<Due>> {
    let mut pages = Vec::new();
    loop {
        let page = log.due(query.clone(), max).await.unwrap();
        pages.push(page.dues);
        query.after = match page.next {
            Some(next) => Some(next),
            None => return pages,
        };
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Advance(u16),
    Reopen,
    ReopenWithoutIndex,
    Settle,
}

#[derive(Debug, Clone)]
enum Change {
    Append {
        topic: usize,
        key: Option<usize>,
        id: Option<u128>,
        bytes: u16,
    },
    /// To whom, and who could see the row before.
    Tell {
        topic: usize,
        key: Option<usize>,
        now: Option<Vec<usize>>,
        before: Option<Vec<usize>>,
    },
    Truncate(usize),
    Delete {
        topic: usize,
        key: usize,
    },
    Drop(usize),
    DuePut {
        id: u128,
        at: u8,
        topic: usize,
    },
    DueTake(u128),
    Mark(u8, Option<u8>),
    Register(u8, Option<u8>),
    Trim {
        topic: usize,
        back: u64,
        keep_state: bool,
    },
}

fn users() -> impl Strategy<Value = Option<Vec<usize>>> {
    prop::option::weighted(0.8, prop::sample::subsequence((0..USERS.len()).collect::<Vec<_>>(), 0..3))
}

fn change(with_ids: bool) -> impl Strategy<Value = Change> {
    let id = if with_ids { prop::option::of(1..6u128).boxed() } else { Just(None).boxed() };
    let due_id = if with_ids { 1..6u128 } else { 6..9u128 };
    prop_oneof![
        12 => (0..3usize, prop::option::of(0..3usize), id, 0..400u16)
            .prop_map(|(topic, key, id, bytes)| Change::Append { topic, key, id, bytes }),
        8 => (0..3usize, prop::option::of(0..3usize), users(), users())
            .prop_map(|(topic, key, now, before)| Change::Tell { topic, key, before: before.filter(|_| now.is_some()), now }),
        1 => (0..3usize).prop_map(Change::Truncate),
        2 => (0..3usize, 0..3usize).prop_map(|(topic, key)| Change::Delete { topic, key }),
        1 => (0..3usize).prop_map(Change::Drop),
        2 => (due_id.clone(), any::<u8>(), 0..3usize).prop_map(|(id, at, topic)| Change::DuePut { id, at, topic }),
        1 => due_id.prop_map(Change::DueTake),
        1 => (0..2u8, any::<Option<u8>>()).prop_map(|(name, value)| Change::Mark(name, value)),
        1 => (0..2u8, any::<Option<u8>>()).prop_map(|(key, value)| Change::Register(key, value)),
        2 => (0..3usize, 0..12u64, any::<bool>())
            .prop_map(|(topic, back, keep_state)| Change::Trim { topic, back, keep_state }),
    ]
}

fn step(with_ids: bool) -> impl Strategy<Value = Step> {
    // An index that is built again has forgotten the ids of events that cleaning removed.
    let reopen = if with_ids { Step::Reopen } else { Step::ReopenWithoutIndex };
    prop_oneof![
        20 => prop::collection::vec(change(with_ids), 1..6).prop_map(Step::Commit),
        3 => (0..3_000u16).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
        1 => Just(reopen),
        1 => Just(Step::Settle),
    ]
}

struct Pair {
    dir: tempfile::TempDir,
    segment_bytes: u32,
    clock: ManualClock,
    model: MemoryLog,
    log: EmbeddedLog,
    epochs: HashMap<Epoch, Epoch>,
}

impl Pair {
    fn new(segment_bytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(START_MS);
        let model = MemoryLog::with_window(Arc::new(clock.clone()), Arc::new(()), WINDOW);
        let log = open(dir.path(), segment_bytes, &clock);
        Self { dir, segment_bytes, clock, model, log, epochs: HashMap::new() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => {
                let batch = self.batch(changes);
                let (expected, found) =
                    (self.model.commit(batch.clone()).await, self.log.commit(batch).await);
                self.compare_receipts(expected, found);
            }
            Step::Advance(ms) => self.clock.advance(ms.into()),
            Step::Reopen => {
                self.log.close().await.unwrap();
                self.log = open(self.dir.path(), self.segment_bytes, &self.clock);
                self.compare().await;
            }
            Step::ReopenWithoutIndex => {
                self.log.close().await.unwrap();
                std::fs::remove_dir_all(self.dir.path().join("index")).unwrap();
                self.log = open(self.dir.path(), self.segment_bytes, &self.clock);
                self.compare().await;
            }
            Step::Settle => {
                self.log.settled().await.unwrap();
                self.compare().await;
            }
        }
    }

    fn batch(&self, changes: Vec<Change>) -> Batch {
        let mut batch = Batch::default();
        for change in changes {
            match change {
                Change::Append { topic, key, id, bytes } => {
                    let address = match key {
                        Some(key) => format!("{}:{}", TOPICS[topic], KEYS[key]),
                        None => TOPICS[topic].to_owned(),
                    };
                    batch.appends.push(append(&address, id, &"7".repeat(usize::from(bytes) + 1)));
                }
                Change::Tell { topic, key, now, before } => {
                    let address = match key {
                        Some(key) => format!("{}:{}", TOPICS[topic], KEYS[key]),
                        None => TOPICS[topic].to_owned(),
                    };
                    let ids = |users: Vec<usize>| users.into_iter().map(|u| USERS[u].into()).collect();
                    let sight = Sight {
                        audience: now.map(ids),
                        before: before.map(ids),
                        is_routed: true,
                        ..Sight::default()
                    };
                    batch.appends.push(append_for(&address, "\"told\"", &sight));
                }
                Change::Truncate(at) => {
                    let sight = Sight { is_routed: at == 0, truncates: true, ..Sight::default() };
                    batch.appends.push(append_for(TOPICS[at], "\"empty\"", &sight));
                }
                Change::Delete { topic, key } => {
                    batch.appends.push(delete(&format!("{}:{}", TOPICS[topic], KEYS[key])));
                }
                Change::Drop(at) => batch.drops.push(topic(TOPICS[at])),
                Change::DuePut { id, at, topic } => {
                    batch.due_put.push(due(id, START_MS + i64::from(at), TOPICS[topic]).into());
                }
                Change::DueTake(id) => batch.due_take.push(Uuid::from_u128(id)),
                Change::Mark(name, value) => {
                    let value = value.map(|v| v.to_string().into());
                    batch.marks.push(Mark { name: name.to_string(), value });
                }
                Change::Register(key, value) => {
                    let value = value.map(|v| v.to_string().into());
                    batch.registry.push(RegistryChange { kind: "k".into(), key: key.to_string(), value });
                }
                Change::Trim { topic: at, back, keep_state } => {
                    let tail = self.model.bounds(&topic(TOPICS[at])).map_or(0, |b| b.tail.0);
                    let oldest = Offset((tail + 2).saturating_sub(back));
                    batch.trims.push(Trim { topic: topic(TOPICS[at]), oldest, keep_state });
                }
            }
        }
        batch
    }

    fn compare_receipts(&mut self, expected: Result<Receipt, Error>, found: Result<Receipt, Error>) {
        let (mut expected, found) = match (expected, found) {
            (Ok(expected), Ok(found)) => (expected, found),
            (Err(expected), Err(found)) => return assert_eq!(expected.to_string(), found.to_string()),
            (expected, found) => panic!("expected {expected:?}, found {found:?}"),
        };
        for (expected, found) in expected.appended.iter_mut().zip(&found.appended) {
            expected.epoch = *self.epochs.entry(expected.epoch).or_insert(found.epoch);
        }
        assert_eq!(expected, found);
    }

    async fn compare(&self) {
        let (model, log) = (&self.model, &self.log);
        for (topic_at, owner, events) in [(None, None, 99), (Some(0), Some("ann"), 1), (Some(1), None, 2)] {
            let mut query = DueQuery::until(Timestamp::from_millis(START_MS + 100).unwrap());
            query.topic = topic_at.map(|at: usize| topic(TOPICS[at]));
            query.owner = owner.map(str::to_owned);
            let max = ReadMax { events, bytes: usize::MAX };
            assert_eq!(due_pages(model, query.clone(), max).await, due_pages(log, query, max).await);
        }
        assert_eq!(model.due_next().await.unwrap(), log.due_next().await.unwrap());
        for id in 1..9 {
            let id = Uuid::from_u128(id);
            assert_eq!(model.due_by_id(id).await.unwrap(), log.due_by_id(id).await.unwrap());
        }
        for name in ["0", "1"] {
            assert_eq!(model.mark(name).await.unwrap(), log.mark(name).await.unwrap());
        }
        assert_eq!(model.registry("k").await.unwrap(), log.registry("k").await.unwrap());
        assert_eq!(model.topic_count(), log.topic_count());
        for name in TOPICS {
            self.compare_topic(name).await;
        }
    }

    async fn compare_topic(&self, name: &str) {
        let (model, log, topic) = (&self.model, &self.log, topic(name));
        let expected = model.bounds(&topic).map(|mut bounds| {
            bounds.epoch = self.epochs[&bounds.epoch];
            bounds
        });
        assert_eq!(expected, log.bounds(&topic), "bounds of {name}");
        let tail = expected.map_or(0, |b| b.tail.0);
        for after in 0..tail + 2 {
            for max in [ALL, ReadMax { events: 3, bytes: 500 }] {
                let after = Offset(after);
                same(model.read(&topic, after, max).await, log.read(&topic, after, max).await);
            }
        }
        let state = model.state(&topic, None).await.unwrap();
        assert_eq!(state, log.state(&topic, None).await.unwrap(), "State of {name}");
        let all: Vec<Offset> = (0..tail + 2).map(Offset).collect();
        for max in [ALL, ReadMax { events: 2, bytes: 900 }] {
            same(model.read_at(&topic, &all, max).await, log.read_at(&topic, &all, max).await);
            for key in KEYS {
                let key = Key::parse(key).unwrap();
                for after in [0, tail / 2] {
                    let expected = model.read_key(&topic, &key, Offset(after), max).await;
                    same(expected, log.read_key(&topic, &key, Offset(after), max).await);
                }
                let expected = model.state(&topic, Some(&key)).await.unwrap();
                assert_eq!(expected, log.state(&topic, Some(&key)).await.unwrap());
            }
        }
        for user in [None].into_iter().chain(USERS.map(Some)) {
            for after in [0, tail / 2, tail] {
                for max in [ALL, ReadMax { events: 2, bytes: 900 }] {
                    let expected = audience(model, &topic, user, after, max).await;
                    assert_eq!(
                        expected,
                        audience(log, &topic, user, after, max).await,
                        "{user:?} after {after}"
                    );
                }
            }
            let (expected, found) = (state_of(model, &topic, user).await, state_of(log, &topic, user).await);
            assert_eq!(expected, found, "State of {name} for {user:?}");
        }
        for ms in (0..20_000).step_by(977) {
            let at = Timestamp::from_millis(START_MS + ms).unwrap();
            assert_eq!(model.at_time(&topic, at).await.unwrap(), log.at_time(&topic, at).await.unwrap());
        }
        for bytes in [0, 100, 1_000, 5_000, u64::MAX] {
            let expected = model.at_size(&topic, bytes).await.unwrap();
            assert_eq!(expected, log.at_size(&topic, bytes).await.unwrap(), "{bytes} bytes of {name}");
        }
    }
}

/// The offsets that a user finds, page by page, and what the search ended with.
async fn audience(
    log: &dyn Log,
    topic: &tidings_model::TopicName,
    user: Option<&str>,
    after: u64,
    max: ReadMax,
) -> (Vec<u64>, Option<String>) {
    let (mut found, mut after) = (Vec::new(), Offset(after));
    let tail = log.bounds(topic).map_or(Offset::ZERO, |b| b.tail);
    while after < tail {
        let page = match log.read_audience(topic, user, after, max).await {
            Ok(page) => page,
            Err(error) => return (found, Some(error.to_string())),
        };
        assert!(
            page.up_to > after && page.events.iter().all(|e| e.offset() > after && e.offset() <= page.up_to)
        );
        found.extend(page.events.iter().filter(|e| e.view_of(user).is_some()).map(|e| e.offset().0));
        after = page.up_to;
    }
    (found, None)
}

/// The offsets of State that a user sees.
async fn state_of(log: &dyn Log, topic: &tidings_model::TopicName, user: Option<&str>) -> Vec<u64> {
    let state = log.state_audience(topic, user).await.unwrap();
    let events = log.read_at(topic, &state.offsets, ALL).await.unwrap();
    let is_seen = |e: &&Event| e.view_of(user).is_some_and(|view| view != View::Moved);
    events.iter().filter(is_seen).map(|e| e.offset().0).collect()
}

#[track_caller]
fn same(expected: Result<Vec<Event>, Error>, found: Result<Vec<Event>, Error>) {
    let bytes = |events: &[Event]| -> Vec<_> {
        events.iter().map(|e| (e.offset(), e.record().as_bytes().clone())).collect()
    };
    match (expected, found) {
        (Ok(expected), Ok(found)) => {
            let offsets = |events: &[Event]| events.iter().map(Event::offset).collect::<Vec<_>>();
            assert_eq!(offsets(&expected), offsets(&found));
            assert_eq!(bytes(&expected), bytes(&found));
        }
        (Err(expected), Err(found)) => assert_eq!(expected.to_string(), found.to_string()),
        (expected, found) => panic!("expected {expected:?}, found {found:?}"),
    }
}

fn open(dir: &std::path::Path, segment_bytes: u32, clock: &ManualClock) -> EmbeddedLog {
    let options = Options { segment_bytes, ids: WINDOW, ..Options::default() };
    EmbeddedLog::open(dir, options, Arc::new(clock.clone()), Arc::new(())).unwrap()
}

fn run(segment_bytes: u32, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pair = Pair::new(segment_bytes);
        for step in steps {
            pair.step(step).await;
        }
        pair.compare().await;
    });
}

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(7), max_shrink_iters: 300, ..Config::default() }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn an_embedded_log_is_a_memory_log(
        segment_bytes in prop_oneof![Just(1u32), Just(600), Just(4096)],
        steps in prop::collection::vec(step(true), 1..60),
    ) {
        run(segment_bytes, steps);
    }

    #[test]
    fn an_index_can_be_built_again_at_any_time(
        segment_bytes in prop_oneof![Just(1u32), Just(600), Just(4096)],
        steps in prop::collection::vec(step(false), 1..60),
    ) {
        run(segment_bytes, steps);
    }
}
