//! The one task that keeps webhooks and copies going.
//!
//! Owns: a runner for each webhook and a position for each copy, the retries that are due, and the ledger. It never
//! waits for a log or a receiver: it sends others on errands, whose ends come back as messages, and looks at a
//! destination only when something has happened to it. An idle one costs memory and nothing else. `messages` what
//! follows from those.

mod messages;

use crate::delivery::courier::Courier;
use crate::delivery::destination::{Destination, Policy};
use crate::delivery::errand::{self, From, Message};
use crate::delivery::ledger::Ledger;
use crate::delivery::mark::Mark;
use crate::delivery::notes::Noted;
use crate::delivery::notice::Trouble;
use crate::delivery::out::{Out, Work};
use crate::delivery::runner::{Runner, Step};
use crate::delivery::settings::Kind;
use crate::delivery::{Counts, Notes};
use crate::{Services, Tidings};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tidings_model::{Epoch, Timestamp, Topic, Uuid};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Messages that may wait; whoever has one waits for room.
const INBOX: usize = 4096;
/// The longest sleep while something is due: the clock may be set.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How long progress without a delivery may wait to be put down.
const LATER: Duration = Duration::from_secs(1);
/// How long what is on its way may take to land at the end.
const LAND: Duration = Duration::from_secs(3);

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
    /// When what may be put down later is.
    ripe_at: Option<Instant>,
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
        ripe_at: None,
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
            // Whoever has much to say does not keep the others waiting.
            self.noted();
            self.awake();
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
                () = notes.noted() => {}
                () = tokio::time::sleep_until(until), if sleep => {
                    if end.is_some_and(|end| end <= Instant::now()) {
                        return;
                    }
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
        let until = [commit, due, self.ripe_at, end].into_iter().flatten().min();
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
        let (tx, stop) = (self.tx.clone(), self.services.stop().clone());
        self.services.spawn("delivery errand", async move {
            let late = async {
                stop.cancelled().await;
                tokio::time::sleep(LAND).await;
            };
            tokio::select! {
                message = errand => drop(tx.send(message).await),
                () = late => {}
            }
        });
    }

    /// The topic of `id` may have news: where it stands now.
    fn news(&mut self, id: Uuid) {
        let Some(out) = self.outs.get_mut(&id) else { return };
        let Some(bounds) = self.tidings.log().bounds(&out.destination.topic.name) else { return };
        if let Work::Resting { epoch, floor } = out.work {
            if epoch == bounds.epoch && floor >= bounds.tail.0 {
                return;
            }
            let policy = out.destination.policy(self.tidings.delivery().rules());
            out.wake(policy, self.tidings.limits().destination_open);
        }
        match &mut out.work {
            Work::Restoring | Work::Resting { .. } => {}
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
        out.rest();
    }

    fn begin(&mut self, at: From, step: Step, own: Arc<Destination>, policy: Policy) {
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

    /// Commits what has gathered, unless that is under way.
    fn commit(&mut self) {
        if !self.ledger.has_later() {
            self.ripe_at = None;
        } else if self.is_ending || self.ripe_at.is_some_and(|at| at <= Instant::now()) {
            self.ledger.ripen();
            self.ripe_at = None;
        } else if self.ripe_at.is_none() {
            self.ripe_at = Some(Instant::now() + LATER);
        }
        if !self.ledger.is_due() || (Instant::now() < self.commit_at && !self.is_ending) {
            return;
        }
        let mut moved = Vec::new();
        let batch = {
            let shelf = self.tidings.delivery().shelf();
            let (outs, moved) = (&self.outs, &mut moved);
            self.ledger.batch(|id| {
                shelf.by_id(id)?;
                let mark = outs.get(&id)?.mark()?;
                moved.push(id);
                Some(mark.stored(id))
            })
        };
        if !self.ledger.has_moved() {
            self.asked.append(&mut self.asking);
        }
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
