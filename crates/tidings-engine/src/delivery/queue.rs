//! A queue lends each event to one consumer at a time.
//!
//! Owns: what is lent to whom until when. An event is done with when its consumer says so, or comes for more and
//! does not give it back before the lease ends; otherwise it is lent again after the lease. All of it is in the
//! destination's mark before an answer goes out, so a restart forgets no lease. Never: keeps a timer; leases that
//! have ended are found when somebody asks.

use super::destination::Destination;
use super::destinations::Destinations;
use super::mark::{Lent, Mark};
use super::refusal::DestinationError;
use super::settings::Kind;
use super::settled::Settled;
use crate::Error;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use tidings_log::{Batch, Bounds, ReadMax};
use tidings_model::{Event, Offset, Principal, Timestamp, Uuid, View};

/// The queues that were asked for since the start; each is worked on by one caller at a time.
#[derive(Default)]
pub struct Queues(Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<Option<Mark>>>>>);

/// Events whose consumers have come for more, kept to be given back; beyond that the oldest count as done early.
const TAKEN_MAX: usize = 1000;
/// Readings of the log that one call may take.
const READS_MAX: usize = 32;
/// Bytes of events in one answer, about: with the last reading, less than what clients of gRPC take as a message.
const BYTES_MAX: usize = 2 << 20;
/// Events read at once of those that were given back or whose lease has ended.
const BACK_AT_ONCE: usize = 16;

impl Queues {
    fn of(&self, id: Uuid) -> Arc<tokio::sync::Mutex<Option<Mark>>> {
        let mut all = self.0.lock().expect("no panic while holding the lock");
        Arc::clone(all.entry(id).or_default())
    }

    pub fn forget(&self, id: Uuid) {
        self.0.lock().expect("no panic while holding the lock").remove(&id);
    }
}

impl Destinations {
    /// Lends up to `max` events, the oldest first, to nobody else until the lease ends. None while it is paused.
    ///
    /// What `consumer` got before counts as done, unless it is given back with [`Destinations::unlock`] before its
    /// lease ends: that is for interfaces without a word for being done. Without a consumer nothing is assumed; use
    /// [`Destinations::acknowledge`].
    ///
    /// # Errors
    /// When `who` may not consume it, or it is not a queue.
    pub async fn pull_queued(
        &self,
        who: &Principal,
        id: Uuid,
        max: usize,
        consumer: Option<&str>,
    ) -> Result<Vec<Event>, Error> {
        let queue = self.queue(who, id)?;
        let consumer = consumer.map_or(0, |text| Uuid::new_v5(&id, text.as_bytes()).as_u64_pair().0.max(1));
        let cell = self.state().queues.of(id);
        let mut known = cell.lock().await;
        let before = self.mark_of(&mut known, id).await?;
        let mut mark = before.clone();
        let Some(bounds) = self.0.log().bounds(&queue.topic.name) else { return Ok(Vec::new()) };
        let now = self.0.clock().now();
        settle(&mut mark, bounds, now, consumer);
        let room = self.0.limits().queue_lent.saturating_sub(mark.lent.len()).min(max);
        let events = if queue.is_paused() { Vec::new() } else { self.next(&queue, &mut mark, room).await? };
        check_sight(who, id, &events)?;
        let lease_ms = i64::try_from(queue.lease_ms(self.state().rules())).unwrap_or(i64::MAX);
        let until = now.plus_millis(lease_ms);
        let lend = |event: &Event| Lent {
            offset: event.offset().0,
            id: event.id(),
            until,
            consumer,
            is_taken: false,
        };
        mark.lent.extend(events.iter().map(lend));
        self.store(&mut known, id, &before, mark).await?;
        Ok(events)
    }

    /// Gives events back, so that the next who asks gets them; answers with those that were lent, as far as one
    /// answer holds them.
    pub async fn unlock(&self, who: &Principal, id: Uuid, events: &[Uuid]) -> Result<Vec<Event>, Error> {
        let queue = self.queue(who, id)?;
        let cell = self.state().queues.of(id);
        let mut known = cell.lock().await;
        let before = self.mark_of(&mut known, id).await?;
        let mut mark = before.clone();
        let offsets = take_out(&mut mark, events);
        let max = ReadMax { events: offsets.len().max(1), bytes: BYTES_MAX };
        let found = match offsets.as_slice() {
            [] => Vec::new(),
            offsets => self.0.log().read_at(&queue.topic.name, offsets, max).await?,
        };
        check_sight(who, id, &found)?;
        self.store(&mut known, id, &before, mark).await?;
        Ok(found)
    }

    /// These events are done with; answers how many of them were lent.
    pub async fn acknowledge(&self, who: &Principal, id: Uuid, events: &[Uuid]) -> Result<usize, Error> {
        self.queue(who, id)?;
        let cell = self.state().queues.of(id);
        let mut known = cell.lock().await;
        let before = self.mark_of(&mut known, id).await?;
        let mut mark = before.clone();
        let offsets = take_out(&mut mark, events);
        offsets.iter().for_each(|offset| mark.settled.add(offset.0, offset.0));
        self.store(&mut known, id, &before, mark).await?;
        Ok(offsets.len())
    }

    fn queue(&self, who: &Principal, id: Uuid) -> Result<Arc<Destination>, Error> {
        let (queue, _) = self.leased(who, id)?;
        if queue.kind() != Kind::Queue {
            return Err(DestinationError::NotQueue(id).into());
        }
        Ok(queue)
    }

    async fn mark_of(&self, known: &mut Option<Mark>, id: Uuid) -> Result<Mark, Error> {
        if let Some(mark) = known {
            return Ok(mark.clone());
        }
        Ok(self.stored_mark(id).await?)
    }

    async fn store(
        &self,
        known: &mut Option<Mark>,
        id: Uuid,
        before: &Mark,
        mark: Mark,
    ) -> Result<(), Error> {
        if *before != mark {
            // Forgotten first: if it cannot be said whether the commit took place, it is read anew.
            *known = None;
            // One that was deleted meanwhile leaves nothing behind.
            let _changes = self.state().changes.lock().await;
            self.known(id)?;
            self.0.log().commit(Batch { marks: vec![mark.stored(id)], ..Batch::default() }).await?;
        }
        *known = Some(mark);
        Ok(())
    }

    /// How far a destination has come; before everything if nothing was put down.
    pub(super) async fn stored_mark(&self, id: Uuid) -> Result<Mark, tidings_log::Error> {
        let Some(bytes) = self.0.log().mark(&Mark::name(id)).await? else {
            return Ok(Mark::at(tidings_model::Epoch::NONE));
        };
        let refuse = || tidings_log::Error::Store {
            doing: format!("reading the mark of destination {id}"),
            what: "it has another form".into(),
        };
        Mark::decode(&bytes).ok_or_else(refuse)
    }

    /// Up to `room` events that nobody has, the oldest first; what does not match is settled on the way.
    async fn next(&self, queue: &Destination, mark: &mut Mark, room: usize) -> Result<Vec<Event>, Error> {
        let log = self.0.log();
        let name = &queue.topic.name;
        let lent: BTreeSet<u64> = mark.lent.iter().map(|lent| lent.offset).collect();
        let top = mark.settled.top().max(lent.last().copied().unwrap_or(0));
        let mut found = Vec::new();
        let back = free(&mark.settled, &lent, top, room);
        let mut bytes = 0;
        for some in back.chunks(BACK_AT_ONCE) {
            if bytes >= BYTES_MAX {
                break;
            }
            let max = ReadMax { events: some.len(), bytes: usize::MAX };
            let events = log.read_at(name, some, max).await?;
            let kept: HashSet<u64> = events.iter().map(|event| event.offset().0).collect();
            some.iter().filter(|o| !kept.contains(&o.0)).for_each(|o| mark.settled.add(o.0, o.0));
            for event in events {
                match queue.filter.matches(&event) {
                    // One that is left out here is neither settled nor lent, and comes with the next answer.
                    true if bytes >= BYTES_MAX => {}
                    true => {
                        bytes += event.weight();
                        found.push(event);
                    }
                    false => mark.settled.add(event.offset().0, event.offset().0),
                }
            }
        }
        let mut after = Offset(top);
        for _ in 0..READS_MAX {
            if found.len() >= room || bytes >= BYTES_MAX {
                break;
            }
            let max =
                ReadMax { events: (room - found.len()).min(self.0.limits().page_events), bytes: 1 << 20 };
            let page =
                self.0.read_within(&Principal::admin(), &queue.topic, after, max, &queue.filter).await?;
            let mut next = after.0 + 1;
            for event in &page.events {
                mark.settled.add(next, event.offset().0 - 1);
                next = event.offset().0 + 1;
                bytes += event.weight();
            }
            mark.settled.add(next, page.after.0);
            found.extend(page.events);
            if page.after >= page.bounds.tail {
                break;
            }
            after = page.after;
        }
        Ok(found)
    }
}

/// I6: rows that not everyone may see are for those who may consume the destination by name, not for readers of its
/// topic.
fn check_sight(who: &Principal, id: Uuid, events: &[Event]) -> Result<(), DestinationError> {
    let is_seen = |event: &Event| matches!(who.view(event), Some(View::Whole));
    if who.may_consume(id) || events.iter().all(is_seen) {
        return Ok(());
    }
    Err(DestinationError::MayNotConsume(id))
}

/// Offsets up to `top` that are neither settled nor lent, the first `max`.
fn free(settled: &Settled, lent: &BTreeSet<u64>, top: u64, max: usize) -> Vec<Offset> {
    let rest = (settled.top() + 1, top);
    let stretches = settled.gaps().chain(std::iter::once(rest).filter(|(first, last)| first <= last));
    let offsets = stretches.flat_map(|(first, last)| first..=last);
    offsets.filter(|offset| !lent.contains(offset)).take(max).map(Offset).collect()
}

/// Brings a mark up to now: another life of the topic, what was trimmed, what is done, leases that have ended.
fn settle(mark: &mut Mark, bounds: Bounds, now: Timestamp, consumer: u64) {
    if mark.epoch != bounds.epoch {
        *mark = Mark::at(bounds.epoch);
    }
    mark.settled.add(1, bounds.oldest.0 - 1);
    let Mark { settled, lent, .. } = mark;
    lent.retain_mut(|lent| {
        lent.is_taken |= consumer != 0 && lent.consumer == consumer;
        if lent.is_taken && lent.until <= now {
            settled.add(lent.offset, lent.offset);
        }
        lent.until > now && lent.offset >= bounds.oldest.0
    });
    let taken = lent.iter().filter(|lent| lent.is_taken).count();
    let mut surplus = taken.saturating_sub(TAKEN_MAX);
    lent.retain(|lent| {
        let is_done = lent.is_taken && surplus > 0;
        if is_done {
            surplus -= 1;
            settled.add(lent.offset, lent.offset);
        }
        !is_done
    });
}

/// Takes what is lent under these ids out of the mark, ascending.
fn take_out(mark: &mut Mark, ids: &[Uuid]) -> Vec<Offset> {
    let ids: HashSet<&Uuid> = ids.iter().collect();
    let mut offsets: Vec<Offset> =
        mark.lent.extract_if(.., |lent| ids.contains(&lent.id)).map(|lent| Offset(lent.offset)).collect();
    offsets.sort_unstable();
    offsets
}
