//! A destination against receivers that fail in any way, and a process that dies at any moment.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tidings_model::{NewEvent, Offset, RecordWriter, Topic};

const EPOCH: Epoch = Epoch(7);

/// An event whose key and id follow from its offset.
fn event(offset: u64, keys: u64) -> Event {
    let topic = Topic::parse(&format!("t:{}", offset % keys)).unwrap();
    let record = RecordWriter::encode(&NewEvent::new(topic.clone(), "1"), Uuid::from_u128(offset.into()));
    Event::new(topic.name, EPOCH, Offset(offset), record.into()).unwrap()
}

fn policy(order: Order, on_dead: OnDead, max_attempts: u32) -> Policy {
    Policy {
        order,
        on_dead,
        retry_base_ms: 10,
        retry_max_ms: 100,
        max_attempts,
        timeout_ms: 1,
        parallel: if order == Order::Topic { 1 } else { 4 },
        allow_private: false,
    }
}

fn attempt(now: Timestamp) -> Attempt {
    Attempt { at: now, duration_ms: 1, status: None, answer: None, error: None }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms as i64).unwrap()
}

/// What is durable: a mark and the records of deliveries, always of the same moment.
#[derive(Clone)]
struct Disk {
    mark: Mark,
    records: BTreeMap<u64, Delivery>,
}

/// A destination with everything around it simulated.
struct World {
    policy: Policy,
    keys: u64,
    tail: u64,
    runner: Runner,
    now: u64,
    /// Sent and not answered.
    flying: Vec<(LineKey, Event)>,
    disk: Disk,
    /// Not yet on disk.
    records: BTreeMap<u64, Delivery>,
    taken: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    sent: usize,
}

impl World {
    fn new(policy: Policy, keys: u64, tail: u64) -> Self {
        let disk = Disk { mark: Mark::at(EPOCH), records: BTreeMap::new() };
        let runner = Runner::new(Uuid::nil(), policy, disk.mark.clone(), Vec::new(), 200);
        let (flying, records) = (Vec::new(), BTreeMap::new());
        let (taken, dead) = (BTreeSet::new(), BTreeSet::new());
        let mut own =
            Self { policy, keys, tail, runner, now: 0, flying, disk, records, taken, dead, sent: 0 };
        own.runner.news(1, tail);
        own
    }

    /// Everything that can begin begins; reading takes no time.
    fn begin(&mut self) {
        while let Some(step) = self.runner.next(at(self.now), true) {
            match step {
                Step::Send { line, event } => {
                    self.check_order(event.offset().0);
                    self.sent += 1;
                    self.flying.push((line, event));
                    assert!(self.flying.len() <= self.policy.parallel);
                }
                Step::Load { line, offsets } => {
                    let events = offsets.iter().map(|offset| event(*offset, self.keys)).collect();
                    assert!(self.runner.loaded(line, &offsets, events, at(self.now), "t").is_empty());
                }
                Step::Read { after, max } => {
                    let up_to = self.tail.min(after + max as u64);
                    // Every seventh does not match.
                    let events =
                        (after + 1..=up_to).filter(|o| o % 7 != 0).map(|o| event(o, self.keys)).collect();
                    self.runner.took(events, up_to);
                }
                Step::ReadAgain { replay, max } => {
                    let dead: Vec<Delivery> = self
                        .records
                        .values()
                        .filter(|d| (replay.first..=replay.last).contains(&d.offset))
                        .cloned()
                        .collect();
                    let dead: Vec<Delivery> = dead.into_iter().take(max).collect();
                    let up_to = dead.last().filter(|_| dead.len() == max).map_or(replay.last, |d| d.offset);
                    let events = dead.iter().map(|d| event(d.offset, self.keys)).collect();
                    self.runner.took_again(events, dead, up_to);
                }
            }
        }
    }

    /// I7: everything before it in its line was taken or is dead.
    fn check_order(&self, offset: u64) {
        let is_before = |other: &u64| match self.policy.order {
            Order::Topic => true,
            Order::Key => other % self.keys == offset % self.keys,
            Order::None => false,
        };
        let is_done = |other: &u64| self.taken.contains(other) || self.dead.contains(other);
        if let Some(missing) = (1..offset).filter(|o| o % 7 != 0).filter(is_before).find(|o| !is_done(o)) {
            panic!("{offset} was sent before {missing}");
        }
    }

    fn land(&mut self, i: usize, landed: impl FnOnce(Attempt) -> Landed) {
        let (line, event) = self.flying.swap_remove(i % self.flying.len());
        let outcome = self.runner.landed(line, &event, landed(attempt(at(self.now))), at(self.now), 0.5);
        let offset = event.offset().0;
        assert!(outcome.delivery.tries <= self.policy.max_attempts);
        match outcome.delivery.status {
            Status::Delivered => {
                assert_eq!(outcome.is_recorded, self.records.remove(&offset).is_some());
                self.taken.insert(offset);
            }
            Status::Dead if self.policy.on_dead == OnDead::GoOn => {
                self.dead.insert(offset);
                self.records.insert(offset, outcome.delivery);
            }
            _ => drop(self.records.insert(offset, outcome.delivery)),
        }
    }

    fn put_down(&mut self) {
        self.disk = Disk { mark: self.runner.mark(), records: self.records.clone() };
    }

    /// What is on its way is lost, or was taken and nobody knows.
    fn die(&mut self, was_taken: bool) {
        for (_, event) in self.flying.drain(..) {
            if was_taken {
                self.taken.insert(event.offset().0);
            }
        }
        self.records = self.disk.records.clone();
        let bytes = self.disk.mark.stored(Uuid::nil()).value.unwrap();
        let mark = Mark::decode(&bytes).unwrap();
        let open = self.records.values();
        let open = open
            .filter(|d| d.status == Status::Waiting || !mark.settled.contains(d.offset))
            .cloned()
            .collect();
        self.runner = Runner::new(Uuid::nil(), self.policy, mark, open, 200);
        self.runner.news(1, self.tail);
    }

    /// Until nothing is left to do, with a receiver that takes everything.
    fn finish(&mut self) {
        for _ in 0..100_000 {
            self.begin();
            if !self.flying.is_empty() {
                self.land(0, Landed::Delivered);
            } else if let Some(due) = self.runner.due() {
                self.now = self.now.max(due.as_millis() as u64);
            } else {
                return;
            }
        }
        panic!("it does not come to an end");
    }

    fn all(&self) -> BTreeSet<u64> {
        (1..=self.tail).filter(|o| o % 7 != 0).collect()
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Delivered(usize),
    Failed(usize),
    Later(u64),
    PutDown,
    Die(bool),
    Published(u64),
    Replay,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => any::<usize>().prop_map(Happening::Delivered),
        6 => any::<usize>().prop_map(Happening::Failed),
        4 => (1u64..200).prop_map(Happening::Later),
        3 => Just(Happening::PutDown),
        1 => any::<bool>().prop_map(Happening::Die),
        2 => (1u64..30).prop_map(Happening::Published),
        1 => Just(Happening::Replay),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Topic), Just(Order::Key), Just(Order::None)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn lines_keep_their_order_and_nothing_is_left_out(
        order in order(),
        keys in 1u64..6,
        happenings in prop::collection::vec(happening(), 1..250),
    ) {
        let mut world = World::new(policy(order, OnDead::GoOn, 4), keys, 40);
        for happening in happenings {
            world.begin();
            match happening {
                Happening::Delivered(i) if !world.flying.is_empty() => world.land(i, Landed::Delivered),
                Happening::Failed(i) if !world.flying.is_empty() => world.land(i, |a| Landed::Failed(a, None)),
                Happening::Delivered(_) | Happening::Failed(_) => {}
                Happening::Later(ms) => world.now += ms,
                Happening::PutDown => world.put_down(),
                Happening::Die(was_taken) => world.die(was_taken),
                Happening::Published(count) => {
                    world.tail += count;
                    world.runner.news(1, world.tail);
                }
                Happening::Replay => {
                    world.runner.replay(Replay { first: 0, last: world.tail, only_dead: true }, 5);
                }
            }
        }
        world.finish();
        let done: BTreeSet<u64> = world.taken.union(&world.dead).copied().collect();
        prop_assert_eq!(done, world.all());
        prop_assert_eq!(world.runner.mark().settled, Settled::up_to(world.tail));
        // Whatever is dead can be sent again, and then nothing is left.
        world.runner.replay(Replay { first: 0, last: world.tail, only_dead: true }, 1000);
        world.finish();
        prop_assert!(world.records.is_empty(), "{:?}", world.records.keys());
        prop_assert!(world.runner.mark().replays.is_empty());
    }

    #[test]
    fn a_line_that_holds_goes_on_only_when_it_is_replayed(order in order(), keys in 1u64..4) {
        let mut world = World::new(policy(order, OnDead::Hold, 2), keys, 20);
        world.begin();
        let (held, line) = (world.flying[0].1.offset().0, world.flying[0].0.clone());
        for _ in 0..2 {
            let i = world.flying.iter().position(|(own, _)| *own == line).unwrap();
            world.land(i, |a| Landed::Failed(a, None));
            world.now += 1000;
            world.begin();
        }
        world.finish();
        let is_behind = |offset: &u64| match order {
            Order::Topic => *offset >= held,
            Order::Key => *offset >= held && offset % keys == held % keys,
            Order::None => *offset == held,
        };
        let expected: BTreeSet<u64> = world.all().into_iter().filter(|offset| !is_behind(offset)).collect();
        prop_assert_eq!(&world.taken, &expected);
        world.put_down();
        world.die(false);
        world.finish();
        prop_assert_eq!(&world.taken, &expected);
        world.runner.replay(Replay { first: 0, last: world.tail, only_dead: true }, 1);
        world.finish();
        prop_assert_eq!(&world.taken, &world.all());
        prop_assert!(world.records.is_empty());
    }
}

#[test]
fn a_failing_delivery_is_tried_so_often_and_its_waits_grow() {
    let mut world = World::new(policy(Order::Topic, OnDead::GoOn, 4), 1, 2);
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.begin();
        world.land(0, |a| Landed::Failed(a, None));
        let due = world.runner.due().unwrap().as_millis() as u64;
        waits.push(due - world.now);
        world.begin();
        assert!(world.flying.is_empty(), "nothing goes before it is due");
        world.now = due;
    }
    assert!(waits.is_sorted() && waits[0] >= 10 && waits[2] >= 40, "{waits:?}");
    world.begin();
    world.land(0, |a| Landed::Failed(a, Some(5000)));
    assert_eq!(
        (world.sent, world.dead.len(), world.runner.due()),
        (4, 1, None),
        "no wait that is asked for goes beyond"
    );
    world.finish();
    assert_eq!((world.sent, world.taken.len()), (5, 1));
}

#[test]
fn while_it_is_stopped_nothing_begins_and_then_it_goes_on() {
    let mut world = World::new(policy(Order::Topic, OnDead::GoOn, 4), 1, 3);
    world.begin();
    world.runner.set_stopped(true);
    world.land(0, Landed::Delivered);
    world.begin();
    assert!(world.flying.is_empty());
    world.runner.set_stopped(false);
    world.finish();
    assert_eq!(world.taken.len(), 3);
}

#[test]
fn another_order_begins_where_the_old_one_stood() {
    let mut world = World::new(policy(Order::Key, OnDead::GoOn, 4), 3, 12);
    world.begin();
    world.land(1, |a| Landed::Failed(a, None));
    while !world.flying.is_empty() {
        world.land(0, Landed::Delivered);
    }
    world.policy = policy(Order::Topic, OnDead::GoOn, 4);
    world.runner = world.runner.anew(world.policy);
    world.finish();
    assert_eq!(world.taken, world.all());
    assert!(world.records.is_empty());
}

#[test]
fn an_event_that_is_gone_when_its_turn_comes_is_dead() {
    let mut world = World::new(policy(Order::Topic, OnDead::GoOn, 4), 1, 3);
    world.begin();
    world.land(0, |a| Landed::Failed(a, None));
    world.now += 1000;
    let Some(Step::Load { line, offsets }) = world.runner.next(at(world.now), true) else {
        panic!("it reads again")
    };
    let kept = offsets[1..].iter().map(|offset| event(*offset, 1)).collect();
    let dead = world.runner.loaded(line, &offsets, kept, at(world.now), "t");
    assert_eq!((dead.len(), dead[0].delivery.offset, dead[0].delivery.attempts.len()), (1, offsets[0], 2));
    world.dead.insert(offsets[0]);
    world.finish();
    assert_eq!(world.taken.len(), 2);
}
