//! Deliveries as admins see them: those that failed, those that went well, and sending them again.
//!
//! Owns: pages over two places, the records of what is waiting or dead and the topic of what was delivered.

use super::attempt::{Delivery, DeliveryId, KIND, Status};
use super::destinations::Destinations;
use super::errand::Message;
use super::mark::Replay;
use super::notice;
use super::refusal::DestinationError;
use super::settings::Kind;
use crate::Error;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tidings_log::{Error as LogError, ReadMax};
use tidings_model::{Event, Offset, Principal, Timestamp, Uuid};
use tokio::sync::oneshot;

/// Some of the deliveries that were asked for.
#[derive(Debug)]
pub struct DeliveryPage {
    pub deliveries: Vec<Delivery>,
    /// Ask again with this; a page may be short and still not be the last.
    pub next: Option<String>,
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliveryQuery {
    pub destination: Option<Uuid>,
    pub status: Option<Status>,
}

/// What is to be sent again.
#[derive(Debug, Clone, Copy)]
pub enum Again {
    /// One event.
    One(u64),
    /// Everything dead.
    Dead,
    /// Offsets from the first to the last.
    Offsets(u64, u64),
    /// What was published from a time to another.
    Times(Timestamp, Option<Timestamp>),
}

/// Deliveries that are looked through for one page.
const SCAN_MAX: u64 = 10_000;
/// Of those, read at once.
const SCAN_STEP: u64 = 500;

/// What has become of deliveries since the start.
#[derive(Debug, Default)]
pub struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
    waiting: AtomicI64,
}

impl Counts {
    pub(super) fn settled(&self, status: Status) {
        let count = match status {
            Status::Delivered => &self.delivered,
            Status::Waiting => &self.failed,
            Status::Dead => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                &self.dead
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A destination has other deliveries waiting than before.
    pub(super) fn waiting(&self, before: usize, now: usize) {
        self.waiting.fetch_add(now as i64 - before as i64, Ordering::Relaxed);
    }

    pub fn delivered_total(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Attempts that failed.
    pub fn failed_total(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn dead_total(&self) -> u64 {
        self.dead.load(Ordering::Relaxed)
    }

    /// Deliveries that have failed and will be tried again.
    pub fn waiting_now(&self) -> i64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl Destinations {
    /// What has become of deliveries since the start.
    pub fn counts(&self) -> &Counts {
        &self.state().counts
    }

    /// Deliveries for an admin: those waiting and dead by destination and offset, then those that went well, the
    /// newest first.
    pub async fn deliveries(
        &self,
        who: &Principal,
        query: DeliveryQuery,
        after: Option<&str>,
        max: usize,
    ) -> Result<DeliveryPage, Error> {
        admin(who)?;
        let unreadable = || DestinationError::invalid("after", "it is not the `next` of a page");
        let mut page = DeliveryPage { deliveries: Vec::new(), next: None };
        let mut before = None;
        match after.map(|text| (text.split_at_checked(1), text)) {
            None => {
                if query.status != Some(Status::Delivered) {
                    self.recorded(query, None, max, &mut page).await?;
                }
            }
            Some((Some(("r", key)), _)) => {
                DeliveryId::of_key(key).ok_or_else(unreadable)?;
                self.recorded(query, Some(key), max, &mut page).await?;
            }
            Some((Some(("d", offset)), _)) => before = Some(offset.parse().map_err(|_| unreadable())?),
            Some(_) => return Err(unreadable().into()),
        }
        if page.next.is_none()
            && page.deliveries.len() < max
            && query.status.is_none_or(|s| s == Status::Delivered)
        {
            self.delivered(query, before, max, &mut page).await?;
        }
        Ok(page)
    }

    async fn recorded(
        &self,
        query: DeliveryQuery,
        after: Option<&str>,
        max: usize,
        page: &mut DeliveryPage,
    ) -> Result<(), Error> {
        let prefix = query.destination.map(|id| format!("{id}/"));
        let mut after = after.map(str::to_owned).or_else(|| prefix.clone());
        for _ in 0..SCAN_MAX / SCAN_STEP {
            let found = self.0.log().registry_page(KIND, after.as_deref(), SCAN_STEP as usize).await?;
            let is_last = found.len() < SCAN_STEP as usize;
            for (key, bytes) in found {
                if prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix)) {
                    page.next = None;
                    return Ok(());
                }
                let delivery = Delivery::parse(&bytes).filter(|d| query.status.is_none_or(|s| s == d.status));
                page.deliveries.extend(delivery);
                page.next = Some(format!("r{key}"));
                after = Some(key);
                if page.deliveries.len() == max {
                    return Ok(());
                }
            }
            if is_last {
                page.next = None;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn delivered(
        &self,
        query: DeliveryQuery,
        before: Option<u64>,
        max: usize,
        page: &mut DeliveryPage,
    ) -> Result<(), Error> {
        let name = notice::deliveries();
        let Some(bounds) = self.0.log().bounds(&name) else { return Ok(()) };
        let mut end = before.map_or(bounds.tail.0, |before| before.saturating_sub(1).min(bounds.tail.0));
        for _ in 0..SCAN_MAX / SCAN_STEP {
            if end < bounds.oldest.0 {
                return Ok(());
            }
            let first = end.saturating_sub(SCAN_STEP - 1).max(bounds.oldest.0);
            for event in self.stretch(first, end).await?.iter().rev() {
                let delivery = event.data().and_then(|json| Delivery::parse(json.as_bytes()));
                let delivery = delivery.filter(|d| query.destination.is_none_or(|id| id == d.destination));
                page.deliveries.extend(delivery);
                if page.deliveries.len() == max {
                    page.next = Some(format!("d{}", event.offset()));
                    return Ok(());
                }
            }
            end = first - 1;
        }
        page.next = (end >= bounds.oldest.0).then(|| format!("d{}", end + 1));
        Ok(())
    }

    /// What was delivered, `first` to `last`.
    async fn stretch(&self, first: u64, last: u64) -> Result<Vec<Event>, Error> {
        let (mut all, mut after) = (Vec::new(), Offset(first - 1));
        while after.0 < last {
            let max = ReadMax { events: (last - after.0) as usize, bytes: 4 << 20 };
            match self.0.log().read(&notice::deliveries(), after, max).await {
                Ok(events) => {
                    let Some(end) = events.last() else { break };
                    after = end.offset();
                    all.extend(events);
                }
                Err(LogError::Trimmed { oldest, .. }) if oldest > after.next() => {
                    after = Offset(oldest.0 - 1)
                }
                Err(error) => return Err(error.into()),
            }
        }
        all.retain(|event| event.offset().0 <= last);
        Ok(all)
    }

    /// One delivery, for an admin: one that is waiting or dead, or one of the newest that went well.
    pub async fn delivery(&self, who: &Principal, id: DeliveryId) -> Result<Delivery, Error> {
        admin(who)?;
        if let Some(bytes) = self.0.log().registered(KIND, &id.key()).await?
            && let Some(delivery) = Delivery::parse(&bytes)
        {
            return Ok(delivery);
        }
        let query = DeliveryQuery { destination: Some(id.destination), status: Some(Status::Delivered) };
        let page = self.deliveries(who, query, None, SCAN_MAX as usize).await?;
        let found = page.deliveries.into_iter().find(|delivery| delivery.offset == id.offset);
        Ok(found.ok_or_else(|| DestinationError::DeliveryUnknown(id.to_string()))?)
    }

    /// Has events sent again to a webhook: what was settled before, whether it was delivered or dead, in order, beside
    /// what follows in the topic. Answers once that will happen whatever breaks.
    ///
    /// # Errors
    /// When the caller is no admin, the destination is no webhook, the one event is not kept, or there is too much
    /// to send again already.
    pub async fn replay(&self, who: &Principal, id: Uuid, again: Again) -> Result<(), Error> {
        let own = self.get(who, id)?;
        if own.kind() != Kind::Webhook {
            return Err(DestinationError::NotWebhook(id).into());
        }
        let name = &own.topic.name;
        let tail = self.0.log().bounds(name).map_or(0, |bounds| bounds.tail.0);
        let before = async |at| self.0.log().at_time(name, at).await;
        let (first, last, only_dead) = match again {
            Again::Dead => (0, tail, true),
            Again::Offsets(first, last) => (first, last.min(tail), false),
            Again::Times(from, to) => {
                let last = match to {
                    Some(to) => before(to).await?.0,
                    None => tail,
                };
                (before(from).await?.0 + 1, last, false)
            }
            Again::One(offset) => {
                let max = ReadMax { events: 1, bytes: usize::MAX };
                if self.0.log().read_at(name, &[Offset(offset)], max).await?.is_empty() {
                    let id = DeliveryId { destination: id, offset };
                    return Err(DestinationError::DeliveryUnknown(id.to_string()).into());
                }
                (offset, offset, false)
            }
        };
        if last < first || last == 0 {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let message = Message::Replay(id, Replay { first, last, only_dead }, answer);
        let dispatcher = self.state().inbox.get().ok_or(Error::Draining)?;
        dispatcher.send(message).await.map_err(|_| Error::Draining)?;
        match answered.await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(DestinationError::ReplaysFull { id, max: self.0.limits().destination_replays }.into())
            }
            Err(_) => Err(Error::Draining),
        }
    }
}

fn admin(who: &Principal) -> Result<(), Error> {
    if who.is_admin { Ok(()) } else { Err(Error::AdminOnly) }
}
