//! Hub and subscriptions on one thread, with a simulated clock and a seeded order of everything.
//!
//! Commits reach the hub late or never; readers join at every moment, from every position, read in bursts or
//! hardly at all, leave and come back with their cursor; topics are trimmed and dropped. Every reader must
//! get exactly what the history says it should, in order, with a gap said aloud where something is gone.
//! Events that only pass come between and must not disturb any of it.
//! `TIDINGS_SEEDS=N` runs more seeds.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tidings_engine::{Hub, Item, Step, Subscription, Tidings};
use tidings_log::memory::MemoryLog;
use tidings_log::{Batch, Clock, Log, Observer, Trim};
use tidings_model::{
    Event, Filter, From, Limits, NewEvent, Offset, Principal, RowRule, Timestamp, Topic, TopicName,
};

/// Users beside admins; rows may be of one who is not there.
const USERS: u64 = 3;

fn principal(user: Option<u64>) -> Arc<Principal> {
    let id = user.map(|n| n.to_string().into());
    Arc::new(Principal { is_admin: user.is_none(), id, ..Principal::admin() })
}

#[derive(serde::Deserialize)]
struct Passed {
    n: usize,
}

/// A small generator with a good spread (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Default)]
struct SimClock(AtomicI64);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed)).expect("within range")
    }
}

enum Call {
    Advanced(TopicName, Offset, Vec<Event>),
    Dropped(TopicName),
}

/// Stands between log and hub: calls wait here until the simulation lets them through, or loses them.
struct Late {
    hub: Arc<Hub>,
    calls: Mutex<VecDeque<Call>>,
}

impl Late {
    fn pass(&self, n: usize) {
        for _ in 0..n {
            let call = self.calls.lock().unwrap().pop_front();
            match call {
                None => return,
                Some(Call::Advanced(topic, tail, events)) => {
                    self.hub.advanced(&topic, tail, &mut events.into_iter());
                }
                Some(Call::Dropped(topic)) => self.hub.dropped(&topic),
            }
        }
    }

    /// Loses a wake-up. That a topic was dropped is never lost: both happen in one process.
    fn lose(&self) {
        let mut calls = self.calls.lock().unwrap();
        if matches!(calls.front(), Some(Call::Advanced(..))) {
            calls.pop_front();
        }
    }
}

impl Observer for Late {
    fn advanced(&self, topic: &TopicName, tail: Offset, events: &mut dyn Iterator<Item = Event>) {
        self.calls.lock().unwrap().push_back(Call::Advanced(topic.clone(), tail, events.collect()));
    }

    fn dropped(&self, topic: &TopicName) {
        self.calls.lock().unwrap().push_back(Call::Dropped(topic.clone()));
    }
}

/// One event as it was published.
#[derive(Clone)]
struct Told {
    key: Option<String>,
    name: String,
    at: i64,
    /// While there was a rule: whose the row is, and whose it was.
    owners: Option<(u64, Option<u64>)>,
}

/// How a reader must be shown an event.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    AsItIs,
    WithoutBefore,
    Gone,
}

impl Told {
    /// What the user of this number is shown; `None` is an admin.
    fn shown_to(&self, user: Option<u64>) -> Option<Shown> {
        match (user, self.owners) {
            (None, _) | (_, None) => Some(Shown::AsItIs),
            (Some(user), Some((now, before))) if user == now => match before {
                Some(before) if before != user => Some(Shown::WithoutBefore),
                _ => Some(Shown::AsItIs),
            },
            (Some(user), Some((_, before))) => (before == Some(user)).then_some(Shown::Gone),
        }
    }
}

/// What was published, by life of the topic.
#[derive(Default)]
struct History {
    lives: Vec<Vec<Told>>,
    oldest: u64,
    /// What only passed.
    passed: Vec<Told>,
}

impl History {
    fn live(&self) -> &[Told] {
        self.lives.last().map_or(&[], Vec::as_slice)
    }
}

struct Reader {
    subscription: Subscription,
    topics: Vec<Topic>,
    filter: Filter,
    /// `None` reads as an admin.
    user: Option<u64>,
    /// Everything that it should get up to here it got, in this life of the topic.
    at: u64,
    life: usize,
    in_state: bool,
    /// Reads rarely.
    is_slow: bool,
    received: u64,
    /// Of what only passes, how much came before this reader or was seen by it.
    passed: usize,
    /// With several addresses order holds only within each: what came in this life, and whether all should.
    seen: std::collections::BTreeSet<u64>,
    is_gapless: bool,
}

impl Reader {
    fn is_single(&self) -> bool {
        self.topics.len() == 1
    }

    fn wants(&self, event: &Told) -> bool {
        let Some(shown) = event.shown_to(self.user) else { return false };
        let name = if shown == Shown::Gone { "delete" } else { &event.name };
        let (key, name) = (event.key.as_deref(), Some(name));
        self.topics.iter().any(|t| t.key.as_ref().is_none_or(|k| key == Some(k.as_str())))
            && self.filter.matches_parts(key, name)
    }

    fn first_missed(&self, history: &History, below: u64) -> Option<u64> {
        let life = &history.lives[self.life];
        let is_missed =
            |o: &u64| !self.seen.contains(o) && life.get(*o as usize - 1).is_some_and(|e| self.wants(e));
        (self.at + 1..below).find(is_missed)
    }
}

struct World {
    dice: Dice,
    clock: Arc<SimClock>,
    late: Arc<Late>,
    log: Arc<MemoryLog>,
    tidings: Tidings,
    name: TopicName,
    /// Whether events have owners now.
    is_ruled: bool,
    history: History,
    readers: Vec<Reader>,
    trace: String,
    gaps: u64,
    passed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        // A small ring, so that readers fall behind all the time.
        let limits = Limits { ring_events: 8, read_batch_events: 5, passing_events: 6, ..Limits::default() };
        let hub = Arc::new(Hub::new(&limits));
        let clock = Arc::new(SimClock::default());
        let late = Arc::new(Late { hub: Arc::clone(&hub), calls: Mutex::default() });
        let log = Arc::new(MemoryLog::new(clock.clone(), late.clone()));
        let tidings = Tidings::new(log.clone(), hub, clock.clone(), limits);
        Self {
            dice: Dice::new(seed),
            clock,
            late,
            log,
            tidings,
            name: TopicName::parse("t").unwrap(),
            is_ruled: false,
            history: History { lives: vec![Vec::new()], oldest: 1, passed: Vec::new() },
            readers: Vec::new(),
            trace: String::new(),
            gaps: 0,
            passed: 0,
        }
    }

    async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.clock.0.fetch_add(self.dice.below(3) as i64, Ordering::Relaxed);
            match self.dice.below(22) {
                0..=6 => self.publish().await,
                7..=9 => {
                    let n = self.dice.below(4) as usize + 1;
                    self.late.pass(n);
                }
                10 if self.dice.one_in(4) => self.late.lose(),
                11 if self.readers.len() < 12 => self.join().await,
                12 if self.dice.one_in(3) => self.trim().await,
                13 if self.dice.one_in(40) => self.end_topic().await,
                14 if self.dice.one_in(3) => self.come_back().await,
                13 if self.dice.one_in(6) => self.change_rule(),
                14 if self.dice.one_in(8) => self.change_hands(),
                15 => self.beat(),
                16 | 17 => self.pass_on().await,
                _ => self.read_some().await,
            }
        }
        // Everything settles: what was lost shows to the heartbeat, and all read to the end.
        self.late.pass(usize::MAX);
        for i in 0..self.readers.len() {
            self.readers[i].subscription.heartbeat();
            while self.read_one(i).await {}
            let reader = &self.readers[i];
            let end = self.history.live().len() as u64 + 1;
            let is_waiting = reader.at == 0 && self.history.live().is_empty();
            assert!(
                is_waiting || reader.life == self.history.lives.len() - 1,
                "reader {i} lives in the past"
            );
            if is_waiting {
                continue;
            }
            if reader.is_single() || reader.is_gapless {
                let missed = reader.first_missed(&self.history, end);
                assert_eq!(missed, None, "reader {i} stopped at {}", reader.at);
            }
        }
    }

    /// Most of the time there is a rule; it comes and goes.
    fn change_rule(&mut self) {
        self.is_ruled = !self.is_ruled || self.dice.one_in(2);
        let rule = self.is_ruled.then(|| RowRule::columns(vec!["owner".into()]).unwrap());
        self.tidings.set_rule(&self.name, rule, Vec::new()).unwrap();
    }

    /// A connection is another user's from now on.
    fn change_hands(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let i = self.dice.below(self.readers.len() as u64) as usize;
        let user = self.dice.below(USERS + 1).checked_sub(1);
        let reader = &mut self.readers[i];
        let positions = reader.subscription.cursor().positions;
        if reader.in_state || !reader.is_single() || reader.life + 1 != self.history.lives.len() {
            return;
        }
        assert!(reader.subscription.renew(principal(user)).is_empty());
        reader.user = user;
        // What went by unseen was the one's before.
        reader.at = reader.at.max(positions[0].offset.0);
        writeln!(self.trace, "{i}:becomes {user:?}").unwrap();
    }

    fn some_events(&mut self) -> Vec<(NewEvent, Told)> {
        let (at, is_ruled) = (self.clock.now().as_millis(), self.is_ruled);
        let one = |dice: &mut Dice| {
            let key = (!dice.one_in(4)).then(|| format!("k{}", dice.below(4)));
            let name = format!("n{}", dice.below(3));
            let text = key.as_ref().map_or("t".into(), |k| format!("t:{k}"));
            let owners = (dice.below(USERS + 1), dice.one_in(2).then(|| dice.below(USERS + 1)));
            let data = format!("{{\"owner\":{}}}", owners.0);
            let mut event = NewEvent::new(Topic::parse(&text).unwrap(), data);
            event.name = Some(name.as_str().into());
            event.context = owners.1.map(|before| format!("{{\"before\":{{\"owner\":{before}}}}}").into());
            (event, Told { key, name, at, owners: is_ruled.then_some(owners) })
        };
        (0..self.dice.below(4) + 1).map(|_| one(&mut self.dice)).collect()
    }

    async fn publish(&mut self) {
        let (events, told): (Vec<_>, Vec<_>) = self.some_events().into_iter().unzip();
        self.history.lives.last_mut().unwrap().extend(told);
        self.tidings.publish(&Principal::admin(), events).await.unwrap();
    }

    async fn pass_on(&mut self) {
        let (mut events, told): (Vec<_>, Vec<_>) = self.some_events().into_iter().unzip();
        for (i, event) in events.iter_mut().enumerate() {
            // As it is, and with its number.
            let mut data = event.data.take().unwrap().to_vec();
            data.truncate(data.len() - 1);
            data.extend(format!(",\"n\":{}}}", self.history.passed.len() + i).bytes());
            event.data = Some(data.into());
            event.context = None;
        }
        self.history.passed.extend(
            told.into_iter()
                .map(|told: Told| Told { owners: told.owners.map(|(now, _)| (now, None)), ..told }),
        );
        self.tidings.pass_on(&Principal::admin(), events).await.unwrap();
    }

    async fn join(&mut self) {
        let from = match self.dice.below(4) {
            0 => From::Latest,
            1 => From::Earliest,
            2 => From::State,
            _ => From::Time(Timestamp::from_millis(self.clock.now().as_millis() - 20).unwrap_or_default()),
        };
        let topics = match self.dice.below(4) {
            0 => vec!["t:k1"],
            1 => vec!["t", "t:k2"],
            2 => vec!["t:k0", "t:k3"],
            _ => vec!["t"],
        };
        // One position for all addresses: State of two addresses is two snapshots.
        let topics = if from == From::State { vec!["t"] } else { topics };
        let topics: Vec<Topic> = topics.into_iter().map(|t| Topic::parse(t).unwrap()).collect();
        let names = if self.dice.one_in(3) && from != From::State { "n1" } else { "" };
        let user = self.dice.below(USERS + 1).checked_sub(1);
        self.enter(topics, &from, Filter::parse_names(names).unwrap(), user).await;
    }

    async fn enter(&mut self, topics: Vec<Topic>, from: &From, filter: Filter, user: Option<u64>) {
        let who = principal(user);
        let subscription = self.tidings.subscribe(who, topics.clone(), from, &filter).await.unwrap();
        let life = self.history.live();
        let first = self.history.oldest - 1;
        let (at, in_state) = match from {
            From::Latest => (life.len() as u64, false),
            From::Earliest => (first, false),
            // A topic without events has no State: what comes is live at once.
            From::State => (0, !life.is_empty()),
            From::Time(at) => {
                (first.max(life.iter().filter(|e| e.at < at.as_millis()).count() as u64), false)
            }
            From::Cursor(cursor) => {
                (cursor.positions.first().map_or(life.len() as u64, |p| p.offset.0), false)
            }
        };
        let is_slow = self.dice.one_in(3);
        let life = self.history.lives.len() - 1;
        writeln!(self.trace, "{}:enter {from:?} at {at}", self.readers.len()).unwrap();
        self.readers.push(Reader {
            subscription,
            topics,
            filter,
            user,
            at,
            life,
            in_state,
            is_slow,
            received: 0,
            passed: self.history.passed.len(),
            seen: Default::default(),
            is_gapless: true,
        });
    }

    /// A reader breaks off and resumes with the cursor it had.
    async fn come_back(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let i = self.dice.below(self.readers.len() as u64) as usize;
        let reader = &self.readers[i];
        let cursor = reader.subscription.cursor();
        // Within State the cursor leads back into State, and of several addresses each has its own place:
        // those have tests of their own.
        let is_plain = !reader.in_state && reader.topics.len() == 1 && cursor.positions.len() == 1;
        if !is_plain || reader.life + 1 != self.history.lives.len() {
            return;
        }
        let reader = self.readers.swap_remove(i);
        self.enter(reader.topics.clone(), &From::Cursor(cursor), reader.filter.clone(), reader.user).await;
        let back = self.readers.last_mut().unwrap();
        assert!(back.at >= reader.at, "a cursor led back before what was read");
        assert_eq!(reader.first_missed(&self.history, back.at + 1), None, "a cursor led past an event");
    }

    async fn trim(&mut self) {
        let tail = self.history.live().len() as u64;
        let oldest = self.history.oldest + self.dice.below(tail + 2 - self.history.oldest);
        let trim = Trim { topic: self.name.clone(), oldest: Offset(oldest), keep_state: true };
        self.log.commit(Batch { trims: vec![trim], ..Batch::default() }).await.unwrap();
        self.history.oldest = oldest;
    }

    async fn end_topic(&mut self) {
        if self.history.live().is_empty() {
            return;
        }
        self.tidings.drop_topic(&Principal::admin(), &self.name).await.unwrap();
        self.history.lives.push(Vec::new());
        self.history.oldest = 1;
        writeln!(self.trace, "drop").unwrap();
    }

    fn beat(&mut self) {
        for reader in &mut self.readers {
            reader.subscription.heartbeat();
        }
    }

    async fn read_some(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let i = self.dice.below(self.readers.len() as u64) as usize;
        if self.readers[i].is_slow && !self.dice.one_in(10) {
            return;
        }
        for _ in 0..self.dice.below(6) {
            if !self.read_one(i).await {
                return;
            }
        }
    }

    /// Takes one item and holds it against the history; `false` if there was none.
    async fn read_one(&mut self, i: usize) -> bool {
        let reader = &mut self.readers[i];
        let item = match reader.subscription.step() {
            Step::Idle => return false,
            Step::Item(item) => item,
            Step::Behind => match reader.subscription.next_read().await.unwrap() {
                None => return true,
                Some(item) => item,
            },
        };
        match item {
            Item::Events(batch) => {
                for entry in &batch.entries {
                    let event = &entry.event;
                    let offset = event.offset().0;
                    let life = event.epoch().0 as usize - 1;
                    if !reader.is_single() && life < reader.life {
                        continue; // Each address says its own gap; the other has not come to its yet.
                    }
                    if life > reader.life && (reader.at == 0 || !reader.is_single()) {
                        // An address waited for the topic: a life that came and went meanwhile is no loss.
                        reader.life = life;
                        reader.seen.clear();
                    }
                    assert_eq!(life, reader.life, "an event of another life without a gap");
                    let real = &self.history.lives[life][offset as usize - 1];
                    assert!(reader.wants(real), "an event that was not asked for");
                    let shown = real.shown_to(reader.user).unwrap();
                    let name = if shown == Shown::Gone { "delete" } else { &real.name };
                    assert_eq!(
                        (event.key(), event.name()),
                        (real.key.as_deref(), Some(name)),
                        "another event"
                    );
                    let has_before = event.record().context().is_some_and(|c| c.contains("before"));
                    assert!(!has_before || shown == Shown::AsItIs, "the old row was not this reader's");
                    assert!(!reader.in_state || shown != Shown::Gone, "State holds what is gone");
                    assert!(offset > reader.at, "reader {i} got {offset} after {}", reader.at);
                    assert_eq!(batch.in_state, reader.in_state);
                    if !reader.is_single() {
                        assert!(reader.seen.insert(offset), "reader {i} got {offset} twice");
                    } else {
                        if !reader.in_state {
                            let missed = reader.first_missed(&self.history, offset);
                            assert_eq!(missed, None, "reader {i} got {offset} before");
                        }
                        reader.at = offset;
                    }
                    reader.received += 1;
                    writeln!(self.trace, "{i}:{offset}").unwrap();
                }
            }
            Item::Passing(entries) => {
                let cursor = reader.subscription.cursor();
                for entry in entries {
                    let data: Passed = serde_json::from_str(entry.event.data().unwrap()).unwrap();
                    let number = data.n;
                    assert!(entry.event.is_passing() && number >= reader.passed, "not live, or twice");
                    assert!(reader.wants(&self.history.passed[number]), "an event that was not asked for");
                    assert!(!reader.in_state, "State comes before what is live");
                    // With several addresses order holds only within each.
                    if reader.is_single() {
                        reader.passed = number + 1;
                    }
                    self.passed += 1;
                    writeln!(self.trace, "{i}:passing {number}").unwrap();
                }
                assert_eq!(cursor, reader.subscription.cursor());
            }
            Item::Rows(_) | Item::Trouble(_) => panic!("no entity is watched"),
            Item::Live(_) => {
                assert!(reader.in_state, "live was said twice");
                reader.in_state = false;
                // State was taken at some moment since joining; every event after the cursor follows.
                reader.at = reader.subscription.cursor().positions[0].offset.0;
                writeln!(self.trace, "{i}:live").unwrap();
            }
            Item::Gap(gap) => {
                self.gaps += 1;
                writeln!(self.trace, "{i}:gap {} {}", gap.reason.as_str(), gap.oldest).unwrap();
                match gap.reason.as_str() {
                    "trimmed" if reader.is_single() => {
                        assert!(gap.oldest.0 > reader.at + 1, "a gap where nothing is missing");
                        if reader.at == 0 {
                            reader.life = self.history.lives.len() - 1; // It waited for the topic.
                        }
                        reader.at = gap.oldest.0 - 1;
                    }
                    "trimmed" => reader.is_gapless = false,
                    _ => {
                        if reader.life != self.history.lives.len() - 1 {
                            reader.seen.clear();
                            reader.at = 0;
                        }
                        reader.life = self.history.lives.len() - 1;
                        reader.in_state = false;
                        if reader.is_single() {
                            reader.at = gap.oldest.0 - 1;
                        }
                        reader.is_gapless &= gap.oldest.0 == 1;
                    }
                }
            }
        }
        true
    }
}

fn simulate(seed: u64, steps: usize) -> (String, u64, u64, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed);
        world.run(steps).await;
        let received = world.readers.iter().map(|r| r.received).sum();
        (world.trace, world.gaps, received, world.passed)
    })
}

#[test]
fn every_reader_gets_its_events_once_in_order_whatever_the_timing() {
    let seeds = std::env::var("TIDINGS_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let (mut gaps, mut received, mut passed) = (0, 0, 0);
    for seed in 1..=seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed, 600));
        let (_, some_gaps, some, some_passed) = outcome.unwrap_or_else(|_| panic!("seed {seed} failed"));
        gaps += some_gaps;
        received += some;
        passed += some_passed;
    }
    let is_much = gaps > seeds && received > 100 * seeds && passed > 100 * seeds;
    assert!(is_much, "the simulation hardly did anything: {gaps} {received} {passed}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(simulate(7, 2000).0, simulate(7, 2000).0);
    assert_ne!(simulate(7, 2000).0, simulate(8, 2000).0);
}
