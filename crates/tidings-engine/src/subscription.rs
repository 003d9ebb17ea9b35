//! A subscription: cursors over the log, woken by numbers.
//!
//! Owns: which event comes next for one reader, on one or several addresses. It asks the ring of each
//! address first and reads the log where it fell behind, so live, resume and slow readers are one path.
//! Grant, audience and filter are applied here (I6). Never: knows a transport, or holds events for a
//! reader that does not come for them.

mod apart;
mod bell;
mod passing;
mod track;

pub use track::{Stretch, Track};

use crate::entities::{Access, Entities, Snapshot, Trouble, Watches};
use crate::error::Error;
use crate::feed::Entry;
use crate::hub::Hub;
use crate::leg::{self, Apart, Joined, Leg, Offer};
use crate::listeners::{Listener, Place};
use bell::Bell;
use std::sync::Arc;
use std::task::{Context, Poll};
use tidings_log::{Log, ReadMax};
use tidings_model::{Cursor, EntityKey, Event, Filter, From, Offset, Principal, Topic};
use tokio::sync::Semaphore;

/// What a reader is given.
pub enum Item {
    Events(Batch),
    /// Events that only pass: they are in no log and have no cursor.
    Passing(Vec<Arc<Entry>>),
    Gap(Gap),
    /// State of this topic is through; what follows is live.
    Live(Topic),
    /// The rows of an entity as they are now.
    Rows(Arc<Snapshot>),
    /// The rows of an entity cannot be had.
    Trouble(Trouble),
}

/// Consecutive events of one address.
pub struct Batch {
    pub entries: Vec<Arc<Entry>>,
    /// Which of the subscription's addresses; for [`Subscription::cursor_at`].
    pub leg: usize,
    /// The events are State: their cursors are this reader's own.
    pub in_state: bool,
    /// The address was marked with [`Subscription::mark`].
    pub is_marked: bool,
}

/// Events that this reader should have got are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub topic: Topic,
    pub reason: GapReason,
    /// The position that can't be honoured.
    pub asked: Offset,
    /// The stream goes on from here.
    pub oldest: Offset,
    pub tail: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention took them.
    Trimmed,
    /// The topic was dropped, or the cursor is from another log.
    Epoch,
}

impl GapReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Epoch => "epoch",
        }
    }
}

/// What a step found.
pub enum Step {
    Item(Item),
    /// The log has to be read: call [`Subscription::next`].
    Behind,
    /// Nothing new; a [`Listener`] is woken when there is.
    Idle,
}

/// One reader's way through one or several addresses.
pub struct Subscription {
    log: Arc<dyn Log>,
    hub: Arc<Hub>,
    who: Arc<Principal>,
    legs: Vec<Leg>,
    /// The leg asked first, so that a busy one does not starve the others.
    turn: usize,
    /// The leg that has to read the log.
    behind: usize,
    /// The leg that the last item came from.
    last: usize,
    max: ReadMax,
    reads: Arc<Semaphore>,
    bell: Arc<Bell>,
    is_listening: bool,
    /// The cursor last handed out, as a sum of offsets: tells whether it moved silently.
    said: u64,
    /// Entities, where there are any.
    watches: Option<Box<Watches>>,
}

impl Subscription {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        hub: Arc<Hub>,
        who: Arc<Principal>,
        max: ReadMax,
        reads: Arc<Semaphore>,
    ) -> Self {
        Self {
            log,
            hub,
            who,
            legs: Vec::new(),
            turn: 0,
            behind: 0,
            last: 0,
            max,
            reads,
            bell: Arc::default(),
            is_listening: false,
            said: 0,
            watches: None,
        }
    }

    /// Adds an address, or starts it anew from another position. Order among addresses is not promised.
    pub async fn add(&mut self, topic: Topic, from: &From, filter: Filter) -> Result<(), Error> {
        if !self.who.may_subscribe(&topic) {
            return Err(Error::MayNotSubscribe(topic));
        }
        self.remove(&topic);
        self.open(topic, from, filter, None).await
    }

    async fn open(
        &mut self,
        topic: Topic,
        from: &From,
        filter: Filter,
        apart: Option<Apart>,
    ) -> Result<(), Error> {
        // Joined before the log is asked: from here on nothing can be missed.
        let who = apart.as_ref().map_or(&self.who, |apart| &apart.who);
        let viewer = self.hub.viewer(who, &topic);
        let joined = Joined { hub: &self.hub, feed: Some(self.hub.join(&topic, viewer)) };
        let mut leg = Leg::open(&*self.log, joined.feed(), topic, from, filter).await?;
        joined.keep();
        leg.apart = apart;
        if self.is_listening {
            leg.feed.listen(&self.listener());
        }
        if self.legs.is_empty() {
            // Most have one; room for more at once would be most of what an idle reader takes.
            self.legs.reserve_exact(1);
        }
        self.legs.push(leg);
        self.said = self.sum();
        Ok(())
    }

    /// Marks an address that is being read: its batches say so, for a door that sends them in another form.
    pub fn mark(&mut self, topic: &Topic) {
        let leg = self.legs.iter_mut().find(|l| &l.topic == topic && l.retired.is_none());
        leg.into_iter().for_each(|leg| leg.is_marked = true);
    }

    /// Stops reading an address; `false` if it was not being read.
    pub fn remove(&mut self, topic: &Topic) -> bool {
        let is_it = |l: &Leg| &l.topic == topic && l.retired.is_none() && l.apart.is_none();
        let Some(i) = self.legs.iter().position(is_it) else { return false };
        // A leg behind this one may have left events to it: it goes on until those are out.
        let name = &topic.name;
        let is_behind = |l: &&Leg| &l.topic.name == name && l.apart.is_none();
        let owed = self.legs[i + 1..].iter().filter(is_behind).map(|l| l.cursor).max();
        match owed {
            Some(until) if until > self.legs[i].cursor => self.legs[i].retired = Some(until),
            _ => self.drop_leg(i),
        }
        true
    }

    fn drop_leg(&mut self, i: usize) {
        let leg = self.legs.remove(i);
        if self.is_listening {
            leg.feed.unlisten(&self.listener());
        }
        self.hub.leave(&leg.feed);
        self.turn = 0;
    }

    /// Addresses being read, without those apart.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.legs.iter().filter(|l| l.retired.is_none() && l.apart.is_none()).map(|l| &l.topic)
    }

    /// Where news for this subscription is told of.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        let watched = self.watches.iter().flat_map(|w| w.places());
        self.legs.iter().map(|l| l.feed.place()).chain(watched)
    }

    /// Wakes `listener` on news while this subscription is stepped by somebody else.
    pub fn listen_with(&self, listener: &Arc<dyn Listener>) {
        self.legs.iter().for_each(|l| l.feed.listen(listener));
        self.watches.iter().for_each(|w| w.listen(listener));
    }

    /// Takes back one [`Subscription::listen_with`].
    pub fn unlisten_with(&self, listener: &Arc<dyn Listener>) {
        self.legs.iter().for_each(|l| l.feed.unlisten(listener));
        self.watches.iter().for_each(|w| w.unlisten(listener));
    }

    /// Entities beside the addresses, under `access`.
    pub fn with_entities(&mut self, entities: &Entities, access: Access) {
        self.watches = Some(Box::new(Watches::new(entities.clone(), access)));
    }

    /// The entities; `None` before [`Subscription::with_entities`].
    pub fn watches(&self) -> Option<&Watches> {
        self.watches.as_deref()
    }

    /// Changes which entities are watched. Whoever waits in [`Subscription::next`] listens to them too.
    pub fn change_watches<T>(&mut self, change: impl FnOnce(&mut Watches) -> T) -> Option<T> {
        let was_listening = self.is_listening;
        self.unlisten();
        let changed = self.watches.as_deref_mut().map(change);
        if was_listening {
            self.listen();
        }
        changed
    }

    /// The next step looks at every entity.
    pub fn look_everywhere(&mut self) {
        self.watches.iter_mut().for_each(|w| w.look_everywhere());
    }

    /// The next step looks at what is new at `place`, instead of everywhere.
    pub fn news_at(&mut self, place: Place) {
        if let Some(watches) = &mut self.watches {
            watches.news_at(place);
        }
    }

    /// Goes on as `who`; addresses that one may not read are given up and returned.
    pub fn renew(&mut self, who: Arc<Principal>) -> Vec<Topic> {
        self.who = Arc::clone(&who);
        let entities = self.change_watches(|watches| watches.set_principal(&who)).unwrap_or_default();
        let mut lost: Vec<Topic> = self.topics().filter(|t| !self.who.may_subscribe(t)).cloned().collect();
        self.legs.retain(|l| l.retired.is_none() || self.who.may_subscribe(&l.topic));
        for topic in &lost {
            while let Some(i) = self.legs.iter().position(|l| &l.topic == topic) {
                self.drop_leg(i);
            }
        }
        self.reseat();
        lost.extend(entities.iter().map(EntityKey::topic));
        lost
    }

    /// Moves legs that were another reader's to feeds of this one.
    fn reseat(&mut self) {
        let listener = self.is_listening.then(|| self.listener());
        for leg in &mut self.legs {
            let viewer = self.hub.viewer(leg.reader(&self.who), &leg.topic);
            // Where everything is told, nothing is missed.
            if leg.feed.viewer.is_none() || leg.feed.viewer == viewer {
                continue;
            }
            let feed = self.hub.join(&leg.topic, viewer);
            listener.iter().for_each(|listener| feed.listen(listener));
            let former = leg.reseat(&*self.log, feed);
            listener.iter().for_each(|listener| former.unlisten(listener));
            self.hub.leave(&former);
        }
    }

    pub fn principal(&self) -> &Arc<Principal> {
        &self.who
    }

    /// What is at hand, without waiting and without reading the log.
    pub fn step(&mut self) -> Step {
        // First, since there is at most one item for each entity that changed.
        if let Some(item) = self.watches.as_deref_mut().and_then(Watches::step) {
            return Step::Item(item);
        }
        let mut idle = 0;
        while idle < self.legs.len() {
            let i = self.turn % self.legs.len();
            self.turn = i + 1;
            match self.legs[i].offer(&*self.log, self.max.events) {
                Offer::Nothing => idle += 1,
                Offer::Behind => {
                    self.behind = i;
                    return Step::Behind;
                }
                offer => match self.take(i, offer) {
                    Some(item) => return Step::Item(item),
                    // Nothing of it passed; there may be more behind.
                    None => idle = 0,
                },
            }
        }
        self.retire();
        Step::Idle
    }

    /// The next item; waits until there is one. Cancel safe: a dropped future loses nothing.
    pub async fn next(&mut self) -> Result<Item, Error> {
        loop {
            match self.step() {
                Step::Item(item) => return Ok(item),
                Step::Behind => {
                    if let Some(item) = self.next_read().await? {
                        return Ok(item);
                    }
                }
                Step::Idle => std::future::poll_fn(|cx| self.poll_news(cx)).await,
            }
        }
    }

    /// Ready when another [`Subscription::step`] is worth it after one that was [`Step::Idle`].
    pub fn poll_news(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_listening {
            // What came before is found by looking once more.
            self.listen();
            return Poll::Ready(());
        }
        std::task::ready!(self.bell.poll(cx));
        self.watches.iter_mut().for_each(|w| w.look_everywhere());
        Poll::Ready(())
    }

    /// Reads the log for the address that [`Subscription::step`] found [`Step::Behind`]; `None` if
    /// nothing of what was read passes. Cancel safe.
    pub async fn next_read(&mut self) -> Result<Option<Item>, Error> {
        let i = self.behind;
        let permit = self.reads.acquire().await.map_err(|_| Error::Draining)?;
        let offer = self.legs[i].fetch(&*self.log, self.max).await?;
        drop(permit);
        Ok(self.take(i, offer))
    }

    /// Applies grant, audience, filter, and that an event reaches a reader once.
    fn take(&mut self, i: usize, offer: Offer) -> Option<Item> {
        self.last = i;
        match offer {
            Offer::Gap(gap) => Some(Item::Gap(gap)),
            Offer::Live => Some(Item::Live(self.legs[i].topic.clone())),
            Offer::Behind | Offer::Nothing => None,
            Offer::Passing(found) => self.passing(i, found),
            Offer::Entries { entries, in_state } => {
                let entries: Vec<_> =
                    entries.iter().filter_map(|entry| self.wanted(i, entry, in_state)).collect();
                if entries.is_empty() {
                    return None;
                }
                self.said = self.sum();
                Some(Item::Events(Batch { entries, leg: i, in_state, is_marked: self.legs[i].is_marked }))
            }
        }
    }

    /// The entry as this reader may see it, if leg `i` has to deliver it. The filter looks at what is shown.
    fn wanted(&self, i: usize, entry: &Arc<Entry>, in_state: bool) -> Option<Arc<Entry>> {
        let shown = entry.shown(self.legs[i].reader(&self.who).view(&entry.event)?);
        // A row that has moved out of sight is not in State any more.
        let is_gone = in_state && shown.event.record().is_deleted();
        (!is_gone && self.is_wanted(i, &shown.event)).then_some(shown)
    }

    fn is_wanted(&self, i: usize, event: &Event) -> bool {
        let leg = &self.legs[i];
        if !leg.filter.matches(event) {
            return false;
        }
        let is_others = |other: &Leg| other.covers(leg, event);
        match leg.retired {
            None => !self.legs[..i].iter().any(|other| is_others(other) && other.owes(event)),
            Some(_) => leg.owes(event) && self.legs[i + 1..].iter().any(is_others),
        }
    }

    fn retire(&mut self) {
        while let Some(i) = self.legs.iter().position(|l| l.retired.is_some_and(|until| l.cursor >= until)) {
            self.drop_leg(i);
        }
    }

    /// The cursor after `offset` of leg `leg`; the other addresses stand where they stand.
    pub fn cursor_at(&self, leg: usize, offset: Offset, in_state: bool) -> Cursor {
        leg::cursor(self.legs.iter().enumerate().map(|(i, own)| {
            if i == leg {
                own.position(offset, in_state)
            } else {
                own.position(own.cursor, own.is_in_state())
            }
        }))
    }

    /// The cursor of leg `leg` alone after `offset`.
    pub fn leg_cursor_at(&self, leg: usize, offset: Offset, in_state: bool) -> Cursor {
        leg::cursor(std::iter::once(self.legs[leg].position(offset, in_state)))
    }

    /// The cursor after everything handed out.
    pub fn cursor(&self) -> Cursor {
        leg::cursor(self.legs.iter().map(|l| l.position(l.cursor, l.is_in_state())))
    }

    /// The cursor of one address.
    pub fn cursor_of(&self, topic: &Topic) -> Cursor {
        let legs = self.legs.iter().filter(|l| &l.topic == topic && l.retired.is_none());
        leg::cursor(legs.map(|l| l.position(l.cursor, l.is_in_state())))
    }

    /// Looks at the log itself in case a wake-up was lost, and returns the cursor if it has moved since it
    /// was last handed out because only events that did not pass went by.
    pub fn heartbeat(&mut self) -> Option<Cursor> {
        self.legs.iter_mut().for_each(|leg| leg.refresh(&*self.log));
        let sum = self.sum();
        if sum == self.said {
            return None;
        }
        self.said = sum;
        Some(self.cursor())
    }

    /// Whether the log is known to hold more than the rings do.
    pub fn is_behind(&self) -> bool {
        self.legs.iter().any(Leg::is_behind)
    }

    fn sum(&self) -> u64 {
        self.legs.iter().fold(0, |sum, leg| sum.wrapping_add(leg.cursor.0))
    }

    fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(&self.bell) as Arc<dyn Listener>
    }

    fn listen(&mut self) {
        self.listen_with(&self.listener());
        self.is_listening = true;
        self.watches.iter_mut().for_each(|w| w.look_everywhere());
    }

    /// No longer waits in [`Subscription::next`]: somebody else listens to the feeds and steps.
    pub fn unlisten(&mut self) {
        if std::mem::take(&mut self.is_listening) {
            self.unlisten_with(&self.listener());
        }
    }
}

impl Leg {
    /// Whether `event` is still this leg's to deliver.
    fn owes(&self, event: &Event) -> bool {
        self.retired.is_none_or(|until| event.offset() <= until)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.unlisten();
        for leg in self.legs.drain(..) {
            self.hub.leave(&leg.feed);
        }
    }
}
