//! One webhook destination as a state machine: what is sent next, and what follows from its outcome (I7).
//!
//! Owns: the order lines and their heads, what is settled, when a failed delivery is due, replays. An event is
//! settled when it was delivered, is dead, or does not match; of each line at most the head is on its way. Never:
//! reads a clock, draws randomness, or does I/O: those who do tell it what came of it. `again` what is sent again.

mod again;

use crate::delivery::attempt::{Attempt, Delivery, Status};
use crate::delivery::backoff::wait_ms;
use crate::delivery::destination::Policy;
use crate::delivery::line::{Head, Item, Line, LineKey};
use crate::delivery::mark::{Mark, Replay};
use crate::delivery::settings::{OnDead, Order};
use crate::delivery::settled::Settled;
use std::collections::{BTreeSet, HashMap, VecDeque};
use tidings_model::{Epoch, Event, Timestamp, Uuid};

/// Events of one line that are read again at once.
const LOAD_MAX: usize = 32;
/// Events of a replay that are read at once.
const AGAIN_MAX: usize = 64;
/// Events read ahead for each attempt that may be on its way.
const AHEAD: usize = 8;
const AHEAD_MIN: usize = 64;

pub struct Runner {
    id: Uuid,
    policy: Policy,
    epoch: Epoch,
    settled: Settled,
    replays: VecDeque<Replay>,
    /// Up to here the topic was handed to the lines.
    read: u64,
    /// The newest offset known.
    tail: u64,
    lines: HashMap<LineKey, Line>,
    /// Lines whose head may go now.
    ready: VecDeque<LineKey>,
    /// Lines whose head has failed, by when it is due.
    due: BTreeSet<(Timestamp, LineKey)>,
    /// Deliveries that have failed and are not settled, and those being replayed.
    troubled: HashMap<u64, Delivery>,
    /// Attempts and re-readings under way.
    flying: usize,
    /// Events in lines, and those of them in memory that may go soon.
    open: usize,
    fresh: usize,
    open_max: usize,
    open_limit: usize,
    is_reading: bool,
    /// Up to here the first of `replays` was handed to its line.
    again_read: u64,
    is_reading_again: bool,
    is_stopped: bool,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send the event; [`Runner::landed`] says how it went.
    Send { line: LineKey, event: Event },
    /// Read these events; [`Runner::loaded`].
    Load { line: LineKey, offsets: Vec<u64> },
    /// Read on; [`Runner::took`].
    Read { after: u64, max: usize },
    /// Read what is to be replayed; [`Runner::took_again`].
    ReadAgain { replay: Replay, max: usize },
}

/// How an attempt went.
#[derive(Debug)]
pub enum Landed {
    Delivered(Attempt),
    /// With the wait that the receiver asks for.
    Failed(Attempt, Option<u64>),
    /// The receiver wants no more.
    Gone(Attempt),
}

/// What an attempt made of its delivery.
#[derive(Debug)]
pub struct Outcome {
    pub delivery: Delivery,
    /// It had failed before, so there is a record of it.
    pub is_recorded: bool,
}

impl Runner {
    /// Goes on from a mark, with the deliveries that had failed and are not through.
    pub fn new(id: Uuid, policy: Policy, mark: Mark, troubled: Vec<Delivery>, open_max: usize) -> Self {
        let Mark { epoch, settled, replays, .. } = mark;
        let again_read = replays.front().map_or(0, |replay| replay.first.saturating_sub(1));
        Self {
            id,
            policy,
            epoch,
            read: settled.floor(),
            settled,
            replays,
            tail: 0,
            lines: HashMap::new(),
            ready: VecDeque::new(),
            due: BTreeSet::new(),
            // One that is dead and not settled holds its line, or else it was put down before its mark was.
            troubled: troubled
                .into_iter()
                .filter(|delivery| delivery.status == Status::Waiting || policy.on_dead == OnDead::Hold)
                .map(|delivery| (delivery.offset, delivery))
                .collect(),
            flying: 0,
            open: 0,
            fresh: 0,
            open_limit: open_max,
            open_max: if policy.order == Order::Topic { AHEAD_MIN } else { open_max.max(AHEAD_MIN) },
            is_reading: false,
            again_read,
            is_reading_again: false,
            is_stopped: false,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The topic has begun.
    pub fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Deliveries that have failed and wait for their next attempt.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// Whether something could be sent if there were room.
    pub fn is_ready(&self) -> bool {
        !self.is_stopped && !self.ready.is_empty() && self.flying < self.policy.parallel
    }

    /// Whether anything is under way.
    pub fn is_quiet(&self) -> bool {
        self.flying == 0 && !self.is_reading && !self.is_reading_again
    }

    /// Where it stands, if nothing is under way, waits, or is to be sent again.
    pub fn rests_at(&self) -> Option<(Epoch, u64)> {
        let is_level = self.settled.floor() >= self.tail && self.settled.floor() == self.settled.top();
        let is_idle = self.lines.is_empty() && self.troubled.is_empty() && self.replays.is_empty();
        (self.is_quiet() && is_level && is_idle).then_some((self.epoch, self.settled.floor()))
    }

    /// Begins anew from where it stands, under another order; nothing is under way. What held its line is passed
    /// over where nothing is to be held any more.
    pub fn anew(&mut self, policy: Policy) -> Self {
        let mut open: Vec<Delivery> = self.troubled.drain().map(|(_, delivery)| delivery).collect();
        let mut mark = self.mark();
        if policy.on_dead == OnDead::GoOn {
            open.retain(|delivery| {
                let is_dead = delivery.status == Status::Dead;
                if is_dead {
                    mark.settled.add(delivery.offset, delivery.offset);
                }
                !is_dead
            });
        }
        let mut next = Self::new(self.id, policy, mark, open, self.open_limit);
        next.tail = self.tail;
        next
    }

    /// Other settings under the same order.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Nothing new is begun while it is stopped.
    pub fn set_stopped(&mut self, is_stopped: bool) {
        self.is_stopped = is_stopped;
    }

    /// The topic is now at `tail` and begins with `oldest`.
    pub fn news(&mut self, oldest: u64, tail: u64) {
        self.tail = self.tail.max(tail);
        self.settled.add(1, oldest.saturating_sub(1));
        self.read = self.read.max(oldest.saturating_sub(1));
    }

    /// Whether events went before they were read, and how many at most.
    pub fn lost(&self, oldest: u64) -> u64 {
        oldest.saturating_sub(1).saturating_sub(self.read)
    }

    /// What is to be put down.
    pub fn mark(&self) -> Mark {
        let (settled, replays) = (self.settled.clone(), self.replays.clone());
        Mark { settled, replays, ..Mark::at(self.epoch) }
    }

    /// When something becomes due by itself.
    pub fn due(&self) -> Option<Timestamp> {
        self.due.first().filter(|_| !self.is_stopped).map(|(at, _)| *at)
    }

    /// What is to be done next; attempts only where `may_send`.
    pub fn next(&mut self, now: Timestamp, may_send: bool) -> Option<Step> {
        if self.is_stopped {
            return None;
        }
        while let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let (_, key) = self.due.pop_first().expect("looked at");
            self.line(&key).head = Head::Ready;
            self.ready.push_front(key);
        }
        if may_send
            && self.flying < self.policy.parallel
            && let Some(key) = self.ready.pop_front()
        {
            return Some(self.begin(key));
        }
        let ahead = AHEAD_MIN.max(AHEAD * self.policy.parallel);
        if !self.is_reading && self.read < self.tail && self.open < self.open_max && 2 * self.fresh < ahead {
            self.is_reading = true;
            let max = (ahead - self.fresh).min(self.open_max - self.open);
            return Some(Step::Read { after: self.read, max });
        }
        let replay = *self.replays.front()?;
        if !self.is_reading_again && !self.lines.contains_key(&LineKey::Again) {
            self.is_reading_again = true;
            let first = replay.first.max(self.again_read + 1);
            return Some(Step::ReadAgain { replay: Replay { first, ..replay }, max: AGAIN_MAX });
        }
        None
    }

    /// Begins with the head of a ready line.
    fn begin(&mut self, key: LineKey) -> Step {
        self.flying += 1;
        let line = self.lines.get_mut(&key).expect("I7: a ready line has a head");
        match line.items.front_mut().and_then(|item| item.event.take()) {
            Some(event) => {
                line.head = Head::Flying;
                self.fresh -= 1;
                Step::Send { line: key, event }
            }
            None => {
                line.head = Head::Loading;
                let offsets = line.items.iter().take(LOAD_MAX).map(|item| item.offset).collect();
                Step::Load { line: key, offsets }
            }
        }
    }

    fn line(&mut self, key: &LineKey) -> &mut Line {
        self.lines.get_mut(key).expect("I7: a line stays while it has a head")
    }

    /// Events after the last reading, ascending, and the offset up to which there are no others.
    pub fn took(&mut self, events: Vec<Event>, up_to: u64) {
        self.is_reading = false;
        let mut next = self.read + 1;
        for event in events {
            let offset = event.offset().0;
            if offset < next {
                continue; // Trimmed in the meantime.
            }
            self.settled.add(next, offset - 1);
            next = offset + 1;
            if !self.settled.contains(offset) {
                self.push(LineKey::of(self.policy.order, &event), event);
            }
        }
        self.settled.add(next, up_to);
        self.read = self.read.max(up_to).max(next - 1);
    }

    /// The reading failed; it will be wanted again.
    pub fn not_read(&mut self) {
        self.is_reading = false;
        self.is_reading_again = false;
    }

    /// Puts an event at the end of a line.
    fn push(&mut self, key: LineKey, event: Event) {
        self.open += 1;
        let offset = event.offset().0;
        let is_new = !self.lines.contains_key(&key);
        let line = self.lines.entry(key.clone()).or_default();
        let keeps = is_new || matches!(line.head, Head::Ready | Head::Flying);
        self.fresh += usize::from(keeps);
        line.items.push_back(Item { offset, event: keeps.then_some(event) });
        if is_new {
            self.promote(key);
        }
    }

    /// Says how the first of a line's items stands, or removes the line.
    fn promote(&mut self, key: LineKey) {
        let line = self.lines.get_mut(&key).expect("I7: a line stays while it has a head");
        let Some(item) = line.items.front() else {
            self.lines.remove(&key);
            return;
        };
        match self.troubled.get(&item.offset) {
            Some(Delivery { status: Status::Waiting, next_at: Some(at), .. }) => {
                let at = *at;
                self.wait(key, at);
            }
            Some(Delivery { status: Status::Dead, .. }) if key != LineKey::Again => {
                line.head = Head::Held;
                self.fresh -= line.forget();
            }
            _ => {
                line.head = Head::Ready;
                self.ready.push_back(key);
            }
        }
    }

    /// The head of a line is due at `at`; the events behind it need not stay in memory.
    fn wait(&mut self, key: LineKey, at: Timestamp) {
        let line = self.lines.get_mut(&key).expect("I7: a line stays while it has a head");
        line.head = Head::Waiting;
        self.fresh -= line.forget();
        self.due.insert((at, key));
    }

    /// The first events of a line that were read again; those that are not there are no longer kept. Answers with
    /// the deliveries that are dead because of that.
    pub fn loaded(
        &mut self,
        key: LineKey,
        asked: &[u64],
        events: Vec<Event>,
        now: Timestamp,
        topic: &str,
    ) -> Vec<Outcome> {
        self.flying -= 1;
        let mut events: HashMap<u64, Event> =
            events.into_iter().map(|event| (event.offset().0, event)).collect();
        let (mut dead, mut kept, mut fresh) = (Vec::new(), VecDeque::new(), 0);
        let line = self.line(&key);
        let items = std::mem::take(&mut line.items);
        for mut item in items {
            match events.remove(&item.offset) {
                Some(event) => {
                    fresh += usize::from(item.event.replace(event).is_none());
                    kept.push_back(item);
                }
                None if asked.contains(&item.offset) => dead.push(item.offset),
                None => kept.push_back(item),
            }
        }
        self.fresh += fresh;
        self.line(&key).items = kept;
        let why = "the event is no longer kept";
        let lost = |offset| {
            let attempt =
                Attempt { at: now, duration_ms: 0, status: None, answer: None, error: Some(why.into()) };
            self.open -= 1;
            self.settle(&key, offset);
            self.close(offset, Uuid::nil(), topic, attempt, Status::Dead)
        };
        let dead = dead.into_iter().map(lost).collect();
        match self.line(&key).items.is_empty() {
            true => self.promote(key),
            false => {
                self.line(&key).head = Head::Ready;
                self.ready.push_front(key);
            }
        }
        dead
    }

    /// The reading failed; the line's head is due at `at`.
    pub fn not_loaded(&mut self, key: LineKey, at: Timestamp) {
        self.flying -= 1;
        self.wait(key, at);
    }

    /// An attempt with the head of a line has ended.
    pub fn landed(
        &mut self,
        key: LineKey,
        event: &Event,
        landed: Landed,
        now: Timestamp,
        jitter: f64,
    ) -> Outcome {
        self.flying -= 1;
        let offset = event.offset().0;
        let topic = event.topic().as_str();
        let (attempt, retry_after, status) = match landed {
            Landed::Delivered(attempt) => (attempt, None, Status::Delivered),
            Landed::Gone(attempt) => (attempt, None, Status::Dead),
            Landed::Failed(attempt, retry_after) => {
                let tries = self.troubled.get(&offset).map_or(0, |delivery| delivery.tries) + 1;
                let status = if tries >= self.policy.max_attempts { Status::Dead } else { Status::Waiting };
                (attempt, retry_after, status)
            }
        };
        let mut outcome = self.close(offset, event.id(), topic, attempt, status);
        if status != Status::Delivered {
            outcome.delivery.tries += 1;
        }
        if status == Status::Waiting {
            let wait = wait_ms(&self.policy, outcome.delivery.tries, jitter, retry_after);
            let at = now.plus_millis(i64::try_from(wait).unwrap_or(i64::MAX));
            outcome.delivery.next_at = Some(at);
            self.troubled.insert(offset, outcome.delivery.clone());
            self.wait(key, at);
            return outcome;
        }
        if status == Status::Dead && self.policy.on_dead == OnDead::Hold && key != LineKey::Again {
            self.troubled.insert(offset, outcome.delivery.clone());
            let line = self.line(&key);
            line.head = Head::Held;
            self.fresh -= self.lines.get_mut(&key).map_or(0, Line::forget);
            return outcome;
        }
        let line = self.line(&key);
        line.items.pop_front();
        self.open -= 1;
        self.settle(&key, offset);
        self.promote(key);
        outcome
    }

    /// The delivery as this attempt leaves it; it is not troubled any more.
    fn close(&mut self, offset: u64, event: Uuid, topic: &str, attempt: Attempt, status: Status) -> Outcome {
        let known = self.troubled.remove(&offset);
        let is_recorded = known.is_some();
        let mut delivery = known.unwrap_or_else(|| Delivery {
            destination: self.id,
            offset,
            event,
            topic: topic.into(),
            status,
            tries: 0,
            next_at: None,
            attempts: Vec::new(),
        });
        delivery.status = status;
        delivery.next_at = None;
        delivery.add(attempt);
        Outcome { delivery, is_recorded }
    }

    /// An item of a line is done with.
    fn settle(&mut self, key: &LineKey, offset: u64) {
        if *key != LineKey::Again {
            self.settled.add(offset, offset);
        } else if let Some(replay) = self.replays.front_mut() {
            replay.first = replay.first.max(offset + 1);
            self.end_replay();
        }
    }
}

#[cfg(test)]
mod tests;
