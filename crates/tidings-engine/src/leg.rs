//! One address of a subscription: a cursor, what it wants, and where its next event comes from.

use crate::feed::{Entry, Feed, Fetched};
use crate::hub::Hub;
use crate::subscription::{Gap, GapReason};
use std::sync::Arc;
use tidings_log::{Bounds, Error as LogError, Log, ReadMax};
use tidings_model::{Cursor, Epoch, Event, Filter, From, Offset, Position, Principal, Topic};

/// A cursor over one address.
pub(crate) struct Leg {
    pub topic: Topic,
    /// By name only; the key is the address's.
    pub filter: Filter,
    pub feed: Arc<Feed>,
    /// `None` while the topic does not exist.
    pub epoch: Option<Epoch>,
    generation: u64,
    /// Everything of this address up to here was handed out or did not pass.
    pub cursor: Offset,
    /// Where the log was read from: what lies before is not this leg's to deliver.
    pub start: Offset,
    /// Up to here the log is read, from there on the ring.
    log_tail: Offset,
    state: Option<StateWalk>,
    pub gap: Option<Gap>,
    /// Unsubscribed, but still owes another leg what that left to it, up to here.
    pub retired: Option<Offset>,
    /// The way through State was found for another reader.
    is_state_anothers: bool,
    /// The number of the newest passing event that was there before this leg, and of the last it has seen.
    joined: u64,
    passed: u64,
    /// Set where the leg is apart from the subscription's others.
    pub apart: Option<Apart>,
    pub is_marked: bool,
}

/// A leg's own name, and its own reader.
pub(crate) struct Apart {
    pub name: Arc<str>,
    pub who: Arc<Principal>,
}

/// The way through State: offsets found at the start, read in order.
struct StateWalk {
    offsets: Vec<Offset>,
    at: usize,
    tail: Offset,
}

/// What a leg offers next.
pub(crate) enum Offer {
    Entries {
        entries: Vec<Arc<Entry>>,
        in_state: bool,
    },
    /// Events that only pass, with their numbers.
    Passing(Vec<(u64, Arc<Entry>)>),
    Gap(Gap),
    /// State is through.
    Live,
    /// The log has to be read: [`Leg::fetch`].
    Behind,
    Nothing,
}

impl Leg {
    /// Stands at `from`. The feed was joined before, so nothing falls between history and live.
    pub async fn open(
        log: &dyn Log,
        feed: Arc<Feed>,
        topic: Topic,
        from: &From,
        filter: Filter,
    ) -> Result<Self, LogError> {
        let generation = feed.shared.generation();
        let passed = feed.shared.passed();
        let bounds = log.bounds(&topic.name);
        let mut leg = Self {
            topic,
            filter,
            feed,
            epoch: bounds.map(|b| b.epoch),
            generation,
            cursor: Offset::ZERO,
            start: Offset::ZERO,
            log_tail: bounds.map_or(Offset::ZERO, |b| b.tail),
            state: None,
            gap: None,
            retired: None,
            is_state_anothers: false,
            joined: passed,
            passed,
            apart: None,
            is_marked: false,
        };
        leg.stand(log, bounds, from).await?;
        leg.start = leg.state.as_ref().map_or(leg.cursor, |walk| walk.tail);
        Ok(leg)
    }

    async fn stand(&mut self, log: &dyn Log, bounds: Option<Bounds>, from: &From) -> Result<(), LogError> {
        let position = match from {
            From::Cursor(cursor) => cursor.position(&self.topic.name),
            _ => None,
        };
        let Some(bounds) = bounds else {
            if let Some(asked) = position
                && !asked.is_before_all()
            {
                self.gap = Some(self.gap_at(GapReason::Epoch, asked.offset, None));
            }
            return Ok(());
        };
        let before_oldest = Offset(bounds.oldest.0 - 1);
        self.cursor = match from {
            From::Latest => bounds.tail,
            From::Earliest => before_oldest,
            From::State => {
                self.walk_state(log, Offset::ZERO).await?;
                Offset::ZERO
            }
            From::Time(at) => log.at_time(&self.topic.name, *at).await?,
            From::Cursor(_) => match position {
                None => bounds.tail,
                // The topic has begun since: all of it is news.
                Some(asked) if asked.is_before_all() => {
                    if before_oldest > Offset::ZERO {
                        self.gap = Some(self.gap_at(GapReason::Trimmed, Offset::ZERO, Some(bounds)));
                    }
                    before_oldest
                }
                Some(asked) if asked.epoch != bounds.epoch || asked.offset > bounds.tail => {
                    self.gap = Some(self.gap_at(GapReason::Epoch, asked.offset, Some(bounds)));
                    before_oldest
                }
                Some(asked) if asked.in_state => {
                    self.walk_state(log, asked.offset).await?;
                    asked.offset
                }
                Some(asked) if asked.offset < before_oldest => {
                    self.gap = Some(self.gap_at(GapReason::Trimmed, asked.offset, Some(bounds)));
                    before_oldest
                }
                Some(asked) => asked.offset,
            },
        };
        Ok(())
    }

    async fn walk_state(&mut self, log: &dyn Log, after: Offset) -> Result<(), LogError> {
        let state = match &self.feed.viewer {
            None => log.state(&self.topic.name, self.topic.key.as_ref()).await?,
            Some(viewer) => log.state_audience(&self.topic.name, viewer.id()).await?,
        };
        let at = state.offsets.partition_point(|o| *o <= after);
        self.state = Some(StateWalk { offsets: state.offsets, at, tail: state.tail });
        Ok(())
    }

    fn gap_at(&self, reason: GapReason, asked: Offset, bounds: Option<Bounds>) -> Gap {
        let (oldest, tail) = bounds.map_or((Offset(1), Offset::ZERO), |b| (b.oldest, b.tail));
        Gap { topic: self.topic.clone(), reason, asked, oldest, tail }
    }

    /// What is at hand without reading the log.
    pub fn offer(&mut self, log: &dyn Log, max: usize) -> Offer {
        match self.offer_stored(log, max) {
            Offer::Nothing => self.offer_passing(max),
            offer => offer,
        }
    }

    /// What only passes, once all that is stored was handed out.
    fn offer_passing(&mut self, max: usize) -> Offer {
        let newest = self.feed.shared.passed();
        if newest == self.passed {
            return Offer::Nothing;
        }
        let found = self.feed.passing.after(self.passed, max);
        self.passed = match found.last() {
            Some((number, _)) if found.len() == max => *number,
            Some((number, _)) => newest.max(*number),
            None => newest,
        };
        if found.is_empty() || self.retired.is_some() { Offer::Nothing } else { Offer::Passing(found) }
    }

    fn offer_stored(&mut self, log: &dyn Log, max: usize) -> Offer {
        if let Some(gap) = self.gap.take() {
            return Offer::Gap(gap);
        }
        if self.generation != self.feed.shared.generation() {
            self.generation = self.feed.shared.generation();
            if log.bounds(&self.topic.name).map(|b| b.epoch) != self.epoch {
                return Offer::Gap(self.restart(log));
            }
        }
        if let Some(walk) = &self.state {
            if walk.at < walk.offsets.len() || self.is_state_anothers {
                return Offer::Behind;
            }
            self.cursor = self.cursor.max(walk.tail);
            self.state = None;
            return Offer::Live;
        }
        if self.cursor < self.log_tail {
            return Offer::Behind;
        }
        if self.epoch.is_none() {
            self.epoch = log.bounds(&self.topic.name).map(|b| b.epoch);
        }
        if self.feed.shared.epoch() != self.epoch {
            // The hub has told nothing yet, or not yet that the topic was dropped, and this leg knows.
            return Offer::Nothing;
        }
        match self.feed.after(self.cursor, max) {
            Fetched::Nothing => Offer::Nothing,
            Fetched::Behind => Offer::Behind,
            Fetched::Entries(entries, up_to) => {
                self.cursor = self.cursor.max(up_to);
                if entries.is_empty() { Offer::Nothing } else { Offer::Entries { entries, in_state: false } }
            }
        }
    }

    /// The topic was dropped: what follows is another life of it.
    fn restart(&mut self, log: &dyn Log) -> Gap {
        self.generation = self.feed.shared.generation();
        let bounds = log.bounds(&self.topic.name);
        let gap = self.gap_at(GapReason::Epoch, self.cursor, bounds);
        self.epoch = bounds.map(|b| b.epoch);
        self.cursor = Offset(gap.oldest.0 - 1);
        self.start = self.cursor;
        self.log_tail = gap.tail;
        self.state = None;
        gap
    }

    /// Reads what the ring does not hold. The cursor moves only when the answer is there.
    pub async fn fetch(&mut self, log: &dyn Log, max: ReadMax) -> Result<Offer, LogError> {
        if self.is_state_anothers && self.state.is_some() {
            self.walk_state(log, self.cursor).await?;
            self.is_state_anothers = false;
        }
        if let Some(walk) = &mut self.state {
            let rest = &walk.offsets[walk.at..];
            let events = log.read_at(&self.topic.name, rest, max).await?;
            // Offsets of one life mean nothing in another.
            if log.bounds(&self.topic.name).map(|b| b.epoch) != self.epoch
                || events.iter().any(|e| Some(e.epoch()) != self.epoch)
            {
                return Ok(Offer::Gap(self.restart(log)));
            }
            let Some(last) = events.last().map(Event::offset) else {
                walk.at = walk.offsets.len();
                return Ok(Offer::Nothing);
            };
            walk.at += rest.partition_point(|o| *o <= last);
            self.cursor = last;
            return Ok(Offer::Entries { entries: entries(events), in_state: true });
        }
        let generation = self.feed.shared.generation();
        let Some(bounds) = log.bounds(&self.topic.name) else {
            self.log_tail = Offset::ZERO;
            return Ok(Offer::Nothing);
        };
        if self.epoch.is_some_and(|own| own != bounds.epoch) {
            return Ok(Offer::Gap(self.restart(log)));
        }
        if self.cursor.next() < bounds.oldest {
            return Ok(Offer::Gap(self.trimmed(bounds)));
        }
        let answer = match (&self.topic.key, &self.feed.viewer) {
            (None, None) => log.read(&self.topic.name, self.cursor, max).await.map(|read| (read, None)),
            (Some(key), _) => {
                log.read_key(&self.topic.name, key, self.cursor, max).await.map(|read| (read, None))
            }
            (None, Some(viewer)) => {
                let found = log.read_audience(&self.topic.name, viewer.id(), self.cursor, max).await;
                found.map(|found| (found.events, Some(found.up_to)))
            }
        };
        let (events, up_to) = match answer {
            Ok(found) => found,
            // Trimmed in the meantime, or a hole that a repair has left: it goes on behind that.
            Err(LogError::Trimmed { oldest, .. }) => {
                let bounds = log.bounds(&self.topic.name).unwrap_or(bounds);
                let bounds = Bounds { oldest: oldest.max(bounds.oldest), ..bounds };
                return Ok(Offer::Gap(self.trimmed(bounds)));
            }
            Err(error) => return Err(error),
        };
        if events.iter().any(|e| e.epoch() != bounds.epoch) || generation != self.feed.shared.generation() {
            return Ok(Offer::Gap(self.restart(log)));
        }
        self.epoch = Some(bounds.epoch);
        let Some(last) = events.last().map(Event::offset) else {
            // Nothing of this key up to the tail seen before reading; by user, up to where it was searched.
            self.cursor = self.cursor.max(up_to.unwrap_or(bounds.tail));
            if self.cursor < bounds.tail {
                self.log_tail = self.log_tail.max(bounds.tail);
                return Ok(Offer::Nothing);
            }
            self.log_tail = self.log_tail.min(self.cursor);
            return Ok(Offer::Nothing);
        };
        self.cursor = last;
        Ok(Offer::Entries { entries: entries(events), in_state: false })
    }

    fn trimmed(&mut self, bounds: Bounds) -> Gap {
        let gap = self.gap_at(GapReason::Trimmed, self.cursor, Some(bounds));
        self.epoch = Some(bounds.epoch);
        self.cursor = Offset(bounds.oldest.0 - 1);
        gap
    }

    /// Goes on with another feed of the same topic, for another reader. What the new one has not taken in is read
    /// from the log. The old feed is returned.
    pub fn reseat(&mut self, log: &dyn Log, feed: Arc<Feed>) -> Arc<Feed> {
        self.is_state_anothers = true;
        if let Some(bounds) = log.bounds(&self.topic.name)
            && self.epoch == Some(bounds.epoch)
        {
            self.log_tail = self.log_tail.max(bounds.tail);
        }
        self.passed = feed.shared.passed();
        std::mem::replace(&mut self.feed, feed)
    }

    /// Looks at the log itself, in case a wake-up was lost.
    pub fn refresh(&mut self, log: &dyn Log) {
        if let Some(bounds) = log.bounds(&self.topic.name)
            && bounds.tail > self.feed.tail()
            && self.epoch.is_none_or(|own| own == bounds.epoch)
        {
            self.log_tail = self.log_tail.max(bounds.tail);
        }
    }

    /// Which life of the topic it knows of, and the last passing event it has seen.
    pub fn counted(&self) -> (u64, u64) {
        (self.generation, self.passed)
    }

    pub fn is_behind(&self) -> bool {
        self.state.is_some() || self.cursor < self.log_tail
    }

    /// Who reads this leg: `whole`, who reads all the others, unless it is apart (I6).
    pub fn reader<'a>(&'a self, whole: &'a Arc<Principal>) -> &'a Arc<Principal> {
        self.apart.as_ref().map_or(whole, |apart| &apart.who)
    }

    /// Whether this leg also covers what `other` delivers at `event`.
    pub fn covers(&self, other: &Self, event: &Event) -> bool {
        // A leg in another life of the topic will begin this one at its oldest event.
        (self.epoch != Some(event.epoch()) || self.start < event.offset())
            && self.apart.is_none()
            && other.apart.is_none()
            && self.topic.name == other.topic.name
            && self.topic.key.as_ref().is_none_or(|k| event.key() == Some(k.as_str()))
            && self.filter.matches(event)
    }

    /// Whether this leg delivers the passing event of that number in place of `other`.
    pub fn covers_passing(&self, other: &Self, number: u64, event: &Event) -> bool {
        self.retired.is_none()
            && self.joined < number
            && self.apart.is_none()
            && other.apart.is_none()
            && self.topic.name == other.topic.name
            && self.topic.key.as_ref().is_none_or(|k| event.key() == Some(k.as_str()))
            && self.filter.matches(event)
    }

    /// The position after `offset`. While a gap has not been said yet, what was asked for: resuming there
    /// finds the gap again.
    pub fn position(&self, offset: Offset, in_state: bool) -> Position {
        let topic = self.topic.name.clone();
        let (epoch, offset) = match (&self.gap, self.epoch) {
            // Of no life, so that it is a gap whatever life the topic is in by then.
            (Some(gap), _) if gap.reason == GapReason::Epoch => (Epoch::NONE, gap.asked.max(Offset(1))),
            (Some(gap), Some(epoch)) => (epoch, gap.asked),
            (None, Some(epoch)) => (epoch, offset),
            // Left out it would mean `latest`, and what begins during a disconnect would be lost.
            (_, None) => return Position::before_all(topic),
        };
        Position { topic, epoch, offset, in_state }
    }

    pub fn is_in_state(&self) -> bool {
        self.state.is_some()
    }
}

fn entries(events: Vec<Event>) -> Vec<Arc<Entry>> {
    events.into_iter().map(|e| Arc::new(Entry::new(e))).collect()
}

/// A cursor of these positions.
pub(crate) fn cursor(positions: impl Iterator<Item = Position>) -> Cursor {
    Cursor { positions: positions.collect() }
}

/// A feed that is given back if opening the leg fails or is cancelled.
pub(crate) struct Joined<'a> {
    pub hub: &'a Hub,
    pub feed: Option<Arc<Feed>>,
}

impl Joined<'_> {
    pub fn feed(&self) -> Arc<Feed> {
        Arc::clone(self.feed.as_ref().expect("kept until the end"))
    }

    pub fn keep(mut self) {
        self.feed = None;
    }
}

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        if let Some(feed) = self.feed.take() {
            self.hub.leave(&feed);
        }
    }
}
