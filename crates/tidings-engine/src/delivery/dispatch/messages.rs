//! What follows from the messages that errands end with.
//!
//! Owns: which message changes which destination, and what is put down about it.

use super::Dispatch;
use crate::delivery::attempt::{Delivery, Status};
use crate::delivery::errand::{From, Message};
use crate::delivery::mark::Mark;
use crate::delivery::notice::{self, Trouble};
use crate::delivery::out::{Out, Work};
use crate::delivery::runner::{Landed, Outcome, Runner};
use crate::delivery::settings::Kind;
use crate::{Error, Page};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::{Timestamp, Uuid};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Time between the end of a commit and the next, for more to gather.
const GATHER: Duration = Duration::from_millis(5);
/// The wait after something failed that has nothing to do with a receiver.
const RETRY: Duration = Duration::from_secs(1);

impl Dispatch {
    /// The destination that a message is for, unless that has begun anew.
    fn out(&mut self, from: From) -> Option<&mut Out> {
        self.outs.get_mut(&from.id).filter(|out| out.life == from.life)
    }

    pub(super) fn take(&mut self, message: Message) {
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
            Message::Loaded(from, line, mut asked, found) => {
                // What lies behind the last that was read is not known to be gone.
                if let Ok(Some(last)) = found.as_ref().map(|events| events.last()) {
                    asked.retain(|offset| *offset <= last.offset().0);
                }
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
                let is_gone = matches!(landed, Landed::Gone(_));
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
                let (rules, open_max) =
                    (self.tidings.delivery().rules(), self.tidings.limits().destination_open);
                let taken = self.outs.get_mut(&id).is_some_and(|out| {
                    out.wake(out.destination.policy(rules), open_max);
                    let Work::Webhook(runner) = &mut out.work else { return false };
                    runner.replay(replay, max)
                });
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

    fn restored(&mut self, id: Uuid, mark: Mark, open: Vec<Delivery>, dead: usize) {
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

    fn read(&mut self, from: From, page: Result<Page, Error>) {
        let Some(Out { work: Work::Webhook(runner), .. }) = self.out(from) else { return };
        match page {
            // The topic has begun anew in the meantime.
            Ok(page) if page.bounds.epoch != runner.epoch() => runner.not_read(),
            Ok(page) if page.events.iter().any(|event| event.epoch() != page.bounds.epoch) => {
                runner.not_read()
            }
            Ok(page) => {
                runner.took(page.events, page.after.0);
                self.ledger.pass_on(from.id);
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
            // Whoever sees that it is paused finds the delivery that says why.
            let (written, is_written) = oneshot::channel();
            self.asking.push(written);
            self.services.spawn("pause of a destination", async move {
                if is_written.await.is_err() {
                    return; // The server stops; the receiver will say it again.
                }
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

    pub(super) fn tell(&mut self, id: Uuid, what: Trouble, delivery: Option<&Delivery>, more: Value) {
        let Some(out) = self.outs.get(&id) else { return };
        let append = notice::trouble(what, &out.destination, delivery, more);
        append.into_iter().for_each(|append| self.ledger.append(append));
    }
}
