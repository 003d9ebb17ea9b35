//! The one task that keeps webhooks and copies going.
//!
//! Owns: a runner for each webhook and a position for each copy, the retries that are due, and the ledger. It never
//! waits for a log or a receiver: it sends others on errands, whose ends come back as messages, and looks at a
//! destination only when something has happened to it. An idle one costs memory and nothing else.

use super::attempt::Status;
use super::courier::Courier;
use super::destination::Destination;
use super::errand::{self, From, Message};
use super::ledger::Ledger;
use super::mark::Mark;
use super::notes::Noted;
use super::notice::{self, Trouble};
use super::out::{Out, Work};
use super::runner::{Outcome, Runner, Step};
use super::settings::Kind;
use super::{Counts, Notes};
use crate::{Error, Services, Tidings};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tidings_model::{Epoch, Timestamp, Topic, Uuid};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Messages that may wait; whoever has one waits for room.
const INBOX: usize = 4096;
/// Time between the end of a commit and the next, for more to gather.
const GATHER: Duration = Duration::from_millis(5);
/// The wait after something failed that has nothing to do with a receiver.
const RETRY: Duration = Duration::from_secs(1);
/// The longest sleep while something is due: the clock may be set.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long what is on its way may take to land at the end.
const LAND: Duration = Duration::from_secs(5);

pub struct Dispatch {
    tidings: Tidings,
    services: Services,
    courier: Arc<dyn Courier>,
    notes: Arc<Notes>,
    counts: Arc<Counts>,
    outs: HashMap<Uuid, Out>,
    by_address: HashMap<Topic, Vec<Uuid>>,
    /// To be looked at.
    wanting: VecDeque<Uuid>,
    /// Those that had to stop for want of room.
    starved: Vec<Uuid>,
    due: BinaryHeap<Reverse<(Timestamp, Uuid)>>,
    /// Attempts under way.
    flying: usize,
    ledger: Ledger,
    commit_at: Instant,
    /// Who waits for the next commit, and for the one under way.
    asking: Vec<oneshot::Sender<bool>>,
    asked: Vec<oneshot::Sender<bool>>,
    lives: u64,
    random: u64,
    tx: mpsc::Sender<Message>,
    is_ending: bool,
}

/// Starts it; answers where to send what is asked for.
pub fn start(tidings: &Tidings, services: &Services, courier: Arc<dyn Courier>) -> mpsc::Sender<Message> {
    let (tx, inbox) = mpsc::channel(INBOX);
    let (notes, counts) = (Arc::clone(&tidings.delivery().notes), Arc::clone(&tidings.delivery().counts));
    tidings.hub().watch(Arc::clone(&notes) as _);
    let own = Dispatch {
        tidings: tidings.clone(),
        services: services.clone(),
        courier,
        notes,
        counts,
        outs: HashMap::new(),
        by_address: HashMap::new(),
        wanting: VecDeque::new(),
        starved: Vec::new(),
        due: BinaryHeap::new(),
        flying: 0,
        ledger: Ledger::default(),
        commit_at: Instant::now(),
        asking: Vec::new(),
        asked: Vec::new(),
        lives: 0,
        random: getrandom::u64().expect("the system has randomness") | 1,
        tx: tx.clone(),
        is_ending: false,
    };
    services.spawn("deliveries", own.run(inbox));
    tx
}

impl Dispatch {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        self.notes.take();
        let all: Vec<Uuid> =
            self.tidings.delivery().shelf().all().map(|destination| destination.id).collect();
        all.into_iter().for_each(|id| self.changed(id));
        let (notes, stop) = (Arc::clone(&self.notes), self.services.stop().clone());
        let mut end = None;
        loop {
            self.work();
            self.commit();
            if self.is_ending && self.flying == 0 && self.ledger.is_settled() {
                return;
            }
            let (sleep, until) = self.sleep(end);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.is_ending => {
                    self.is_ending = true;
                    end = Some(Instant::now() + LAND);
                }
                Some(message) = inbox.recv() => {
                    self.take(message);
                    while let Ok(message) = inbox.try_recv() {
                        self.take(message);
                    }
                }
                () = notes.noted() => self.noted(),
                () = tokio::time::sleep_until(until), if sleep => {
                    if end.is_some_and(|end| end <= Instant::now()) {
                        return;
                    }
                    self.awake();
                }
            }
        }
    }

    /// Whether to sleep at all, and until when.
    fn sleep(&self, end: Option<Instant>) -> (bool, Instant) {
        let now = Instant::now();
        let commit = self.ledger.is_due().then_some(self.commit_at);
        let due = self.due.peek().filter(|_| !self.is_ending).map(|Reverse((at, _))| {
            let ms = at.as_millis().saturating_sub(self.tidings.clock().now().as_millis());
            now + Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(WAIT_MAX)
        });
        let until = [commit, due, end].into_iter().flatten().min();
        (until.is_some(), until.unwrap_or(now))
    }

    fn awake(&mut self) {
        let now = self.tidings.clock().now();
        while let Some(Reverse((at, id))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            if let Some(out) = self.outs.get_mut(&id).filter(|out| out.due_at == Some(at)) {
                out.due_at = None;
                self.want(id);
            }
        }
    }

    /// `id` is to be looked at.
    fn want(&mut self, id: Uuid) {
        if let Some(out) = self.outs.get_mut(&id)
            && !std::mem::replace(&mut out.is_wanting, true)
        {
            self.wanting.push_back(id);
        }
    }

    fn noted(&mut self) {
        let Noted { news, changed } = self.notes.take();
        changed.into_iter().for_each(|id| self.changed(id));
        for topic in news {
            for id in self.by_address.get(&topic).cloned().unwrap_or_default() {
                self.news(id);
            }
        }
    }

    /// A destination was created, changed or deleted.
    fn changed(&mut self, id: Uuid) {
        let state = self.tidings.delivery();
        let Some(destination) = state.shelf().by_id(id) else { return self.remove(id) };
        if !matches!(destination.kind(), Kind::Webhook | Kind::Topic) {
            return;
        }
        let policy = destination.policy(state.rules());
        match self.outs.get_mut(&id) {
            Some(out) => {
                out.renew(destination, policy);
                self.want(id);
            }
            None => {
                self.lives += 1;
                self.notes.watch(&destination.topic);
                self.by_address.entry(destination.topic.clone()).or_default().push(id);
                self.outs.insert(id, Out::new(destination, self.lives));
                self.restore(id);
            }
        }
    }

    fn restore(&self, id: Uuid) {
        let destinations = self.tidings.destinations();
        self.send_out(async move { Message::Restored(id, destinations.restore(id).await) });
    }

    fn remove(&mut self, id: Uuid) {
        if let Some(out) = self.outs.remove(&id) {
            let topic = &out.destination.topic;
            self.notes.unwatch(topic);
            if let Some(ids) = self.by_address.get_mut(topic) {
                ids.retain(|own| *own != id);
                if ids.is_empty() {
                    self.by_address.remove(topic);
                }
            }
            self.counts.waiting(out.waiting, 0);
            self.flying -= out.flying();
        }
        let destinations = self.tidings.destinations();
        self.services.spawn("deliveries of a deleted destination", async move {
            if let Err(error) = destinations.forget_all(id).await {
                tracing::warn!(%error, destination = %id, "deliveries of a deleted destination were left behind");
            }
        });
    }

    /// Does an errand; what it says comes back into the inbox.
    fn send_out(&self, errand: impl Future<Output = Message> + Send + 'static) {
        let tx = self.tx.clone();
        self.services.spawn("delivery errand", async move {
            let _ = tx.send(errand.await).await;
        });
    }

    /// The topic of `id` may have news: where it stands now.
    fn news(&mut self, id: Uuid) {
        let Some(out) = self.outs.get_mut(&id) else { return };
        let Some(bounds) = self.tidings.log().bounds(&out.destination.topic.name) else { return };
        match &mut out.work {
            Work::Restoring => {}
            Work::Copying { has_news, .. } => *has_news = true,
            Work::Webhook(runner) => {
                if runner.epoch() != bounds.epoch && runner.epoch() != Epoch::NONE {
                    return self.begin_anew(id, bounds.epoch);
                }
                runner.set_epoch(bounds.epoch);
                let lost = runner.lost(bounds.oldest.0);
                runner.news(bounds.oldest.0, bounds.tail.0);
                if lost > 0 {
                    let more = json!({ "reason": "trimmed", "oldest": bounds.oldest.0, "lost": lost });
                    self.tell(id, Trouble::Gap, None, more);
                    self.ledger.move_on(id);
                }
            }
        }
        self.want(id);
    }

    /// The topic has another life: all of it is news, and nothing of before counts.
    fn begin_anew(&mut self, id: Uuid, epoch: Epoch) {
        self.tell(id, Trouble::Gap, None, json!({ "reason": "epoch" }));
        let max = self.tidings.limits().destination_open;
        let policy = match self.outs.get(&id) {
            Some(Out { work: Work::Webhook(runner), .. }) => *runner.policy(),
            _ => return,
        };
        self.lives += 1;
        let Some(out) = self.outs.get_mut(&id) else { return };
        out.life = self.lives;
        self.flying -= out.flying();
        let paused = out.destination.is_paused();
        let mut runner = Runner::new(id, policy, Mark::at(epoch), Vec::new(), max);
        runner.set_stopped(paused);
        out.work = Work::Webhook(Box::new(runner));
        out.is_failing = false;
        let destinations = self.tidings.destinations();
        self.services.spawn("deliveries of a topic's earlier life", async move {
            if let Err(error) = destinations.forget_records(id).await {
                tracing::warn!(%error, destination = %id, "deliveries of a dropped topic were left behind");
            }
        });
        self.ledger.move_on(id);
        self.news(id);
    }

    /// Begins everything that can begin now.
    fn work(&mut self) {
        if self.is_ending {
            return;
        }
        if !self.starved.is_empty()
            && self.ledger.has_room()
            && self.flying < self.tidings.limits().webhooks_at_once
        {
            std::mem::take(&mut self.starved).into_iter().for_each(|id| self.want(id));
        }
        while let Some(id) = self.wanting.pop_front() {
            self.work_on(id);
        }
    }

    fn work_on(&mut self, id: Uuid) {
        let now = self.tidings.clock().now();
        let max = self.tidings.limits().webhooks_at_once;
        let Some(out) = self.outs.get_mut(&id) else { return };
        out.is_wanting = false;
        let at = From { id, life: out.life };
        if let Work::Copying { mark, has_news, is_busy } = &mut out.work {
            if *has_news && !*is_busy && !out.destination.is_paused() {
                (*has_news, *is_busy) = (false, true);
                let (tidings, own, mark) = (self.tidings.clone(), Arc::clone(&out.destination), mark.clone());
                self.send_out(async move { Message::Copied(at, errand::copy(&tidings, &own, mark).await) });
            }
            return;
        }
        out.turn(out.destination.policy(self.tidings.delivery().rules()));
        loop {
            let Some(Out { destination, work: Work::Webhook(runner), .. }) = self.outs.get_mut(&id) else {
                return;
            };
            // One attempt each before anybody gets many: destinations that hang do not take all the room.
            let room = if runner.flying() == 0 { max } else { max / 2 };
            let may_send = self.flying < room && self.ledger.has_room();
            let Some(step) = runner.next(now, may_send) else {
                if !may_send && runner.is_ready() {
                    self.starved.push(id);
                }
                break;
            };
            let (own, policy) = (Arc::clone(destination), *runner.policy());
            self.begin(at, step, own, policy);
        }
        self.note_due(id);
    }

    fn note_due(&mut self, id: Uuid) {
        let Some(out) = self.outs.get_mut(&id) else { return };
        let Work::Webhook(runner) = &out.work else { return };
        self.counts.waiting(out.waiting, runner.waiting());
        out.waiting = runner.waiting();
        if let Some(at) = runner.due()
            && out.due_at.is_none_or(|known| at < known)
        {
            out.due_at = Some(at);
            self.due.push(Reverse((at, id)));
        }
    }

    fn begin(&mut self, at: From, step: Step, own: Arc<Destination>, policy: super::Policy) {
        let tidings = self.tidings.clone();
        match step {
            Step::Send { line, event } => {
                self.flying += 1;
                let courier = Arc::clone(&self.courier);
                self.send_out(async move {
                    let landed = errand::send(tidings, courier, own, policy, &event).await;
                    Message::Landed(at, line, event, landed)
                });
            }
            Step::Load { line, offsets } => {
                self.flying += 1;
                self.send_out(async move {
                    let found = errand::load(&tidings, &own, &offsets).await;
                    Message::Loaded(at, line, offsets, found)
                });
            }
            Step::Read { after, max } => {
                self.send_out(
                    async move { Message::Read(at, errand::read(&tidings, &own, after, max).await) },
                );
            }
            Step::ReadAgain { replay, max } => {
                self.send_out(async move {
                    Message::ReadAgain(at, errand::read_again(&tidings, &own, replay, max).await)
                });
            }
        }
    }

    /// The destination that a message is for, unless that has begun anew.
    fn out(&mut self, from: From) -> Option<&mut Out> {
        self.outs.get_mut(&from.id).filter(|out| out.life == from.life)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Restored(id, Ok((mark, open, dead))) => self.restored(id, mark, open, dead),
            Message::Restored(id, Err(error)) => {
                tracing::warn!(%error, destination = %id, "a destination's progress cannot be read, trying again");
                let destinations = self.tidings.destinations();
                self.send_out(async move {
                    tokio::time::sleep(RETRY).await;
                    Message::Restored(id, destinations.restore(id).await)
                });
            }
            Message::Read(from, page) => self.read(from, page),
            Message::ReadAgain(from, again) => {
                let Some(Out { work: Work::Webhook(runner), .. }) = self.out(from) else { return };
                match again {
                    Ok(again) => runner.took_again(again.events, again.records, again.up_to),
                    Err(error) => {
                        runner.not_read();
                        return self.failed(from.id, &error);
                    }
                }
                self.ledger.move_on(from.id);
                self.want(from.id);
            }
            Message::Loaded(from, line, asked, found) => {
                let (now, later) = self.soon();
                let Some(Out { destination, work: Work::Webhook(runner), .. }) = self.out(from) else {
                    return;
                };
                let topic = Arc::clone(destination);
                let dead = match found {
                    Ok(events) => runner.loaded(line, &asked, events, now, topic.topic.name.as_str()),
                    Err(error) => {
                        runner.not_loaded(line, later);
                        tracing::warn!(%error, destination = %from.id, "events cannot be read again, trying later");
                        Vec::new()
                    }
                };
                self.flying -= 1;
                dead.into_iter().for_each(|outcome| self.settled(from.id, outcome, false));
                self.want(from.id);
            }
            Message::Landed(from, line, event, landed) => {
                let (now, jitter) = (self.tidings.clock().now(), self.jitter());
                let is_gone = matches!(landed, super::runner::Landed::Gone(_));
                let Some(Out { work: Work::Webhook(runner), .. }) = self.out(from) else { return };
                let outcome = runner.landed(line, &event, landed, now, jitter);
                if is_gone {
                    runner.set_stopped(true);
                }
                self.flying -= 1;
                self.settled(from.id, outcome, is_gone);
                self.want(from.id);
            }
            Message::Copied(from, done) => self.copied(from, done),
            Message::Committed(None, _) => {
                self.ledger.committed();
                self.commit_at = Instant::now() + GATHER;
                self.asked.drain(..).for_each(|who| {
                    let _ = who.send(true);
                });
            }
            Message::Committed(Some(batch), moved) => {
                self.ledger.failed(moved, batch.registry, batch.appends);
                self.commit_at = Instant::now() + RETRY;
                self.asking.append(&mut self.asked);
            }
            Message::Replay(id, replay, answer) => {
                let max = self.tidings.limits().destination_replays;
                let taken = match self.outs.get_mut(&id).map(|out| &mut out.work) {
                    Some(Work::Webhook(runner)) => runner.replay(replay, max),
                    _ => false,
                };
                if !taken {
                    let _ = answer.send(false);
                    return;
                }
                self.ledger.move_on(id);
                self.asking.push(answer);
                self.want(id);
            }
        }
    }

    fn restored(&mut self, id: Uuid, mark: Mark, open: Vec<super::Delivery>, dead: usize) {
        let (max, rules) = (self.tidings.limits().destination_open, self.tidings.delivery().rules());
        let Some(out) = self.outs.get_mut(&id) else { return };
        out.dead = dead;
        out.work = match out.destination.kind() {
            Kind::Topic => Work::Copying { mark, has_news: true, is_busy: false },
            _ => {
                out.is_failing |= !open.is_empty();
                let policy = out.destination.policy(rules);
                let mut runner = Runner::new(id, policy, mark, open, max);
                runner.set_stopped(out.destination.is_paused());
                Work::Webhook(Box::new(runner))
            }
        };
        self.news(id);
        self.want(id);
    }

    fn read(&mut self, from: From, page: Result<crate::Page, Error>) {
        let Some(Out { work: Work::Webhook(runner), .. }) = self.out(from) else { return };
        match page {
            // The topic has begun anew in the meantime.
            Ok(page) if page.bounds.epoch != runner.epoch() => runner.not_read(),
            Ok(page) if page.events.iter().any(|event| event.epoch() != page.bounds.epoch) => {
                runner.not_read()
            }
            Ok(page) => {
                runner.took(page.events, page.after.0);
                self.ledger.move_on(from.id);
                return self.want(from.id);
            }
            Err(error) => {
                runner.not_read();
                return self.failed(from.id, &error);
            }
        }
        self.news(from.id);
    }

    fn copied(&mut self, from: From, done: Result<(Mark, bool), Error>) {
        let Some(out) = self.out(from) else { return };
        let Work::Copying { mark, has_news, is_busy } = &mut out.work else { return };
        *is_busy = false;
        match done {
            Ok((next, more)) => {
                *mark = next;
                *has_news |= more;
                self.want(from.id);
            }
            Err(error) => {
                *has_news = true;
                self.failed(from.id, &error);
            }
        }
    }

    /// Something failed within: `id` is looked at again later.
    fn failed(&mut self, id: Uuid, error: &Error) {
        tracing::warn!(%error, destination = %id, "a destination cannot go on, trying again");
        let (_, later) = self.soon();
        if let Some(out) = self.outs.get_mut(&id) {
            out.due_at = Some(later);
            self.due.push(Reverse((later, id)));
        }
    }

    fn soon(&self) -> (Timestamp, Timestamp) {
        let now = self.tidings.clock().now();
        (now, now.plus_millis(RETRY.as_millis() as i64))
    }

    /// From 0 to 1 (xorshift).
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Puts down what became of a delivery.
    fn settled(&mut self, id: Uuid, outcome: Outcome, is_gone: bool) {
        let Outcome { delivery, is_recorded } = outcome;
        self.ledger.move_on(id);
        let Some(out) = self.outs.get_mut(&id) else { return };
        let was_failing = out.is_failing;
        out.is_failing = delivery.status != Status::Delivered;
        self.counts.settled(delivery.status);
        match delivery.status {
            Status::Delivered => {
                if is_recorded {
                    self.ledger.remove(delivery.id());
                }
                if self.tidings.delivery().rules().history {
                    self.ledger.append(notice::delivered(&delivery));
                }
                if was_failing {
                    self.tell(id, Trouble::Recovered, None, json!({}));
                }
            }
            Status::Waiting => {
                self.ledger.put(&delivery);
                if !was_failing {
                    self.tell(id, Trouble::Failing, Some(&delivery), json!({}));
                }
            }
            Status::Dead => {
                self.ledger.put(&delivery);
                out.dead += 1;
                let (dead, max) = (out.dead, self.tidings.limits().destination_dead);
                self.tell(id, Trouble::Dead, Some(&delivery), json!({}));
                if dead > max + max / 8 {
                    self.forget_oldest(id, dead - max);
                }
            }
        }
        if is_gone {
            self.tell(id, Trouble::Paused, Some(&delivery), json!({}));
            let destinations = self.tidings.destinations();
            self.services.spawn("pause of a destination", async move {
                if let Err(error) = destinations.set_paused(id, true).await {
                    tracing::warn!(%error, destination = %id, "a destination whose receiver is gone could not be paused");
                }
            });
        }
    }

    fn forget_oldest(&mut self, id: Uuid, count: usize) {
        let Some(out) = self.outs.get_mut(&id) else { return };
        out.dead -= count;
        let destinations = self.tidings.destinations();
        self.services.spawn("dead deliveries beyond the bound", async move {
            if let Err(error) = destinations.forget_oldest(id, count).await {
                tracing::warn!(%error, destination = %id, "old dead deliveries were left behind");
            }
        });
    }

    fn tell(&mut self, id: Uuid, what: Trouble, delivery: Option<&super::Delivery>, more: Value) {
        let Some(out) = self.outs.get(&id) else { return };
        let append = notice::trouble(what, &out.destination, delivery, more);
        append.into_iter().for_each(|append| self.ledger.append(append));
    }

    /// Commits what has gathered, unless that is under way.
    fn commit(&mut self) {
        if !self.ledger.is_due() || (Instant::now() < self.commit_at && !self.is_ending) {
            return;
        }
        let mut moved = Vec::new();
        let batch = {
            let shelf = self.tidings.delivery().shelf();
            let (outs, moved) = (&self.outs, std::cell::RefCell::new(&mut moved));
            self.ledger.batch(|id| {
                shelf.by_id(id)?;
                match &outs.get(&id)?.work {
                    Work::Webhook(runner) => {
                        moved.borrow_mut().push(id);
                        Some(runner.mark().stored(id))
                    }
                    _ => None,
                }
            })
        };
        self.asked.append(&mut self.asking);
        let tidings = self.tidings.clone();
        self.send_out(async move {
            let kept = Box::new(batch.clone());
            match tidings.log().commit(batch).await {
                Ok(_) => Message::Committed(None, Vec::new()),
                Err(error) => {
                    tracing::warn!(%error, "deliveries could not be put down, trying again");
                    Message::Committed(Some(kept), moved)
                }
            }
        });
    }
}
