//! The handle an embedding program and every door holds.

use crate::auth::Leases;
use crate::broker::Reach;
use crate::capture::Owners;
use crate::delivery;
use crate::entities::{Entities, NewestEvent, Resolver};
use crate::rules::Rules;
use crate::schema::Schemas;
use crate::subscription::Subscription;
use crate::{Error, Hub, Services, Sources, hold, retention, schedule};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidings_log::{Bounds, Clock, Error as LogError, Found, Log, ReadMax};
use tidings_model::{EntityKey, Event, Filter, From, Limits, Offset, Principal, Topic, TopicName};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

/// Tidings: publish, schedule, read, subscribe. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tidings(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    reads: Arc<Semaphore>,
    counters: Counters,
    reach: Reach,
    owners: Owners,
    rules: Rules,
    entities: Entities,
    delivery: delivery::State,
    sources: Sources,
    schemas: Schemas,
    key_leases: Leases,
    /// Held while a topic's id is made or taken. How many have one, once somebody has asked.
    directory: Mutex<Option<usize>>,
}

/// What has happened since the start.
#[derive(Default)]
pub struct Counters {
    published: AtomicU64,
    fired: AtomicU64,
    passed_on: AtomicU64,
}

impl Counters {
    pub(crate) fn published(&self, n: usize) {
        self.published.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn fired(&self, n: usize) {
        self.fired.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn passed_on(&self, n: usize) {
        self.passed_on.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Events accepted through `pass_on`.
    pub fn passed_on_total(&self) -> u64 {
        self.passed_on.load(Ordering::Relaxed)
    }

    /// Events accepted through `publish`.
    pub fn published_total(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Scheduled events whose time came.
    pub fn fired_total(&self) -> u64 {
        self.fired.load(Ordering::Relaxed)
    }
}

/// Part of a topic.
#[derive(Debug)]
pub struct Page {
    pub events: Vec<Event>,
    /// Ask again after this offset.
    pub after: Offset,
    pub bounds: Bounds,
    /// The asked position was older than what is kept; the page begins at `bounds.oldest`.
    pub is_gap: bool,
}

impl Tidings {
    /// A handle over `log`, whose observer must be `hub`. No task runs until [`Tidings::start`].
    pub fn new(log: Arc<dyn Log>, hub: Arc<Hub>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let reads = Arc::new(Semaphore::new(limits.reads_at_once));
        let (counters, reach) = (Counters::default(), Reach::default());
        let (owners, rules) = (Owners::default(), Rules::default());
        let entities = Entities::new(&limits);
        let (sources, directory) = (Sources::new(Arc::clone(&clock)), Mutex::default());
        Self(Arc::new(Inner {
            log,
            hub,
            clock,
            limits,
            reads,
            counters,
            reach,
            owners,
            rules,
            entities,
            sources,
            directory,
            delivery: delivery::State::default(),
            schemas: Schemas::default(),
            key_leases: Leases::default(),
        }))
    }

    /// Waits until this reading of the log may begin; there is a bound on how many go on at once.
    pub(crate) async fn reading(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.0.reads.acquire().await.map_err(|_| Error::Draining)
    }

    /// Starts firing the schedule and applying retention every `retention_every`.
    pub fn start(&self, services: &Services, retention_every: Duration) {
        self.entities().start(services);
        hold::start(self, services);
        schedule::start(self, services);
        retention::start(self, services, retention_every);
    }

    pub fn log(&self) -> &dyn Log {
        &*self.0.log
    }

    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The application's own things, and who watches them.
    pub fn entities(&self) -> &Entities {
        &self.0.entities
    }

    /// The databases whose changes are captured, and how that goes.
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// Tells every node that an entity has changed; see [`Entities::notify_changed`].
    pub async fn notify_changed(&self, entity: &str, id: &str) -> Result<(), Error> {
        self.entities().notify_changed(EntityKey::parse(entity, id)?).await
    }

    /// A resolver for entities whose rows are the newest events of `topic`.
    pub fn newest_event(&self, topic: TopicName) -> Arc<dyn Resolver> {
        Arc::new(NewestEvent::new(Arc::clone(&self.0.log), topic))
    }

    /// Which topics Broker's interface reaches.
    pub fn reach(&self) -> &Reach {
        &self.0.reach
    }

    /// Which topics are captured.
    pub(crate) fn owners(&self) -> &Owners {
        &self.0.owners
    }

    /// Whom the events of each topic concern.
    pub(crate) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// What callers with API keys rest on, by key.
    pub(crate) fn key_leases(&self) -> &Leases {
        &self.0.key_leases
    }

    /// What events' data must fulfil.
    pub(crate) fn schemas(&self) -> &Schemas {
        &self.0.schemas
    }

    /// What is known of destinations.
    pub(crate) fn delivery(&self) -> &delivery::State {
        &self.0.delivery
    }

    pub(crate) fn directory(&self) -> &Mutex<Option<usize>> {
        &self.0.directory
    }

    /// Readings at the same time for those who are not live.
    pub(crate) fn reads(&self) -> &Semaphore {
        &self.0.reads
    }

    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Events of `topic` after `after`, at most `max_events` of those that pass `filter` and `who` may see.
    ///
    /// One call looks at a bounded number of events: a page may be short and still not be the last;
    /// it is the last when `after` has reached `bounds.tail`.
    pub async fn read(
        &self,
        who: &Principal,
        topic: &Topic,
        after: Offset,
        max_events: usize,
        filter: &Filter,
    ) -> Result<Page, Error> {
        let max = ReadMax { events: max_events.clamp(1, self.limits().page_events), bytes: 4 << 20 };
        self.read_within(who, topic, after, max, filter).await
    }

    /// As [`Tidings::read`], for readers with bounds of their own.
    pub(crate) async fn read_within(
        &self,
        who: &Principal,
        topic: &Topic,
        after: Offset,
        max: ReadMax,
        filter: &Filter,
    ) -> Result<Page, Error> {
        let bounds = self.readable(who, topic)?;
        let oldest_before = Offset(bounds.oldest.0 - 1);
        let mut is_gap = after < oldest_before;
        let mut after = after.max(oldest_before).min(bounds.tail);
        let _permit = self.reading().await?;
        let read = loop {
            let answer = match (&topic.key, self.hub().viewer(who, topic)) {
                (Some(key), _) => {
                    let found = self.log().read_key(&topic.name, key, after, max).await;
                    // Nothing more of this key up to the tail seen before.
                    found.map(|events| Found { up_to: last(&events).unwrap_or(bounds.tail), events })
                }
                (None, None) => {
                    let found = self.log().read(&topic.name, after, max).await;
                    found.map(|events| Found { up_to: last(&events).unwrap_or(after), events })
                }
                (None, Some(viewer)) => self.log().read_audience(&topic.name, viewer.id(), after, max).await,
            };
            match answer {
                // Trimmed in the meantime, or a hole that a repair has left: the page begins behind it.
                Err(LogError::Trimmed { oldest, .. }) if oldest > after.next() => {
                    (after, is_gap) = (Offset(oldest.0 - 1), true);
                }
                answer => break answer?,
            }
        };
        let shown = read.events.into_iter().filter_map(|e| Some(e.shown(who.view(&e)?)));
        let events = shown.filter(|e| filter.matches(e)).collect();
        Ok(Page { events, after: read.up_to, bounds, is_gap })
    }

    /// The offset after which `from` begins in `topic`, and whether that is a gap: the asked position belongs
    /// to another epoch or is gone. [`From::State`] begins before everything.
    pub async fn offset_of(
        &self,
        who: &Principal,
        topic: &Topic,
        from: &From,
    ) -> Result<(Offset, bool), Error> {
        let bounds = self.readable(who, topic)?;
        let before_oldest = Offset(bounds.oldest.0 - 1);
        Ok(match from {
            From::Latest => (bounds.tail, false),
            From::Earliest => (before_oldest, false),
            From::State => (Offset::ZERO, false),
            From::Time(at) => (self.log().at_time(&topic.name, *at).await?, false),
            From::Cursor(cursor) => match cursor.position(&topic.name) {
                None => (bounds.tail, false),
                Some(asked) if asked.is_before_all() => (before_oldest, before_oldest > Offset::ZERO),
                Some(asked) if asked.epoch != bounds.epoch || asked.offset > bounds.tail => {
                    (if asked.in_state { Offset::ZERO } else { before_oldest }, true)
                }
                // A position within State may lie before the oldest: State outlives retention.
                Some(asked) if asked.in_state => (asked.offset, false),
                Some(asked) => (asked.offset, asked.offset < before_oldest),
            },
        })
    }

    /// The newest event of each key, in offset order, from those after `after`; pages like [`Tidings::read`].
    /// `after` of the page has reached `bounds.tail` when State is through.
    pub async fn state(
        &self,
        who: &Principal,
        topic: &Topic,
        after: Offset,
        max_events: usize,
    ) -> Result<Page, Error> {
        let bounds = self.readable(who, topic)?;
        let max = ReadMax { events: max_events.clamp(1, self.limits().page_events), bytes: 4 << 20 };
        let _permit = self.reading().await?;
        let state = match self.hub().viewer(who, topic) {
            None => self.log().state(&topic.name, topic.key.as_ref()).await?,
            Some(viewer) => self.log().state_audience(&topic.name, viewer.id()).await?,
        };
        let rest = &state.offsets[state.offsets.partition_point(|o| *o <= after)..];
        let events = self.log().read_at(&topic.name, rest, max).await?;
        let last = events.last().map(Event::offset);
        let is_through = last.is_none_or(|last| rest.last() <= Some(&last));
        let after = if is_through { state.tail.max(after) } else { last.expect("not through") };
        // A row that has moved out of sight is not there any more.
        let shown = events.into_iter().filter_map(|e| Some(e.shown(who.view(&e)?)));
        let events = shown.filter(|e| !e.record().is_deleted()).collect();
        Ok(Page { events, after, bounds, is_gap: false })
    }

    fn readable(&self, who: &Principal, topic: &Topic) -> Result<Bounds, Error> {
        if !who.may_subscribe(topic) {
            return Err(Error::MayNotSubscribe(topic.clone()));
        }
        self.log().bounds(&topic.name).ok_or_else(|| Error::TopicUnknown(topic.name.clone()))
    }

    /// Topics that `who` may read, in name order after `after`.
    pub async fn topics(
        &self,
        who: &Principal,
        after: Option<&TopicName>,
        max: usize,
    ) -> Result<Vec<(TopicName, Bounds)>, Error> {
        let mut found = Vec::new();
        let mut after = after.cloned();
        while found.len() < max {
            let some = self.log().topics(after.as_ref(), max.max(256)).await?;
            let Some((last, _)) = some.last() else { break };
            after = Some(last.clone());
            let visible = |name: &TopicName| who.is_admin || who.subscribe.touch(name);
            found.extend(some.into_iter().filter(|(name, _)| visible(name)));
        }
        found.truncate(max);
        Ok(found)
    }

    /// A subscription without addresses yet; [`Subscription::add`] gives it some.
    pub fn subscription(&self, who: Arc<Principal>) -> Subscription {
        let max = ReadMax { events: self.limits().read_batch_events, bytes: self.limits().read_batch_bytes };
        let (log, hub) = (Arc::clone(&self.0.log), Arc::clone(&self.0.hub));
        Subscription::new(log, hub, who, max, Arc::clone(&self.0.reads))
    }

    /// Follows `topics` from `from`. A topic that does not exist yet is waited for.
    ///
    /// # Errors
    /// Without the grant for one of the topics, or when there are too many.
    pub async fn subscribe(
        &self,
        who: Arc<Principal>,
        topics: Vec<Topic>,
        from: &From,
        filter: &Filter,
    ) -> Result<Subscription, Error> {
        let max = self.limits().stream_topics;
        if topics.len() > max {
            return Err(Error::TopicsTooMany { found: topics.len(), max });
        }
        let mut subscription = self.subscription(who);
        for topic in topics {
            subscription.add(topic, from, filter.clone()).await?;
        }
        Ok(subscription)
    }
}

fn last(events: &[Event]) -> Option<Offset> {
    events.last().map(Event::offset)
}
