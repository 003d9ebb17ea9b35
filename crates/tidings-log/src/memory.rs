//! The simplest correct log: vectors behind a lock. What tests and the simulator compare with.
//!
//! Nothing survives the process. Every method answers at once, so it also runs without a runtime.

use crate::{
    Answer, Append, Appended, Batch, Bounds, Clock, Due, DuePage, DuePlace, DuePut, DueQuery, Error, Found,
    Log, Observer, ReadMax, Receipt, State,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard};
use tidings_model::{Epoch, Event, Key, Offset, RecordWriter, Timestamp, TopicName, Uuid, View};

/// How long and how many client-given ids are remembered per topic.
#[derive(Debug, Clone, Copy)]
pub struct IdWindow {
    pub age_ms: i64,
    /// An id is forgotten once this many events have followed it.
    pub events: u64,
}

impl Default for IdWindow {
    fn default() -> Self {
        Self { age_ms: 86_400_000, events: 1_000_000 }
    }
}

/// A log in memory.
pub struct MemoryLog {
    inner: Mutex<Inner>,
    /// Held over a whole commit, so that the observer hears commits in order.
    order: Mutex<()>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    window: IdWindow,
}

#[derive(Default)]
struct Inner {
    topics: BTreeMap<TopicName, Topic>,
    due: BTreeMap<DuePlace, Due>,
    due_by_id: HashMap<Uuid, DuePlace>,
    due_count: i64,
    marks: BTreeMap<String, Bytes>,
    registry: BTreeMap<(String, String), Bytes>,
    epochs: u32,
    last_time: Timestamp,
    closed: bool,
}

struct Topic {
    epoch: Epoch,
    oldest: Offset,
    /// Index = offset - 1. Trimmed events stay where State still needs them.
    events: Vec<Event>,
    state: HashMap<Key, Offset>,
    ids: HashMap<Uuid, Offset>,
}

impl Topic {
    fn bounds(&self) -> Bounds {
        Bounds { epoch: self.epoch, oldest: self.oldest, tail: Offset(self.events.len() as u64) }
    }

    fn at(&self, offset: Offset) -> &Event {
        &self.events[offset.0 as usize - 1]
    }

    fn is_state(&self, event: &Event) -> bool {
        event.key().is_some_and(|k| Key::parse(k).is_ok_and(|k| self.state.get(&k) == Some(&event.offset())))
    }
}

impl MemoryLog {
    pub fn new(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>) -> Self {
        Self::with_window(clock, observer, IdWindow::default())
    }

    pub fn with_window(clock: Arc<dyn Clock>, observer: Arc<dyn Observer>, window: IdWindow) -> Self {
        Self { inner: Mutex::default(), order: Mutex::new(()), clock, observer, window }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while holding the lock")
    }

    fn with<T>(
        &self,
        topic: &TopicName,
        empty: T,
        f: impl FnOnce(&Topic) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.lock().topics.get(topic) {
            None => Ok(empty),
            Some(topic) => f(topic),
        }
    }

    fn apply(&self, batch: Batch) -> Result<Receipt, Error> {
        let _order = self.order.lock().expect("no panic while holding the lock");
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        let mut taken = std::collections::HashSet::new();
        for id in &batch.due_take {
            if !inner.due_by_id.contains_key(id) || !taken.insert(*id) {
                return Err(Error::DueUnknown(*id));
            }
        }
        let now = self.clock.now().max(inner.last_time);
        inner.last_time = now;
        let due_changed = !batch.due_put.is_empty() || !batch.due_take.is_empty();
        for id in &batch.due_take {
            let place = inner.due_by_id.remove(id).expect("checked above");
            inner.due.remove(&place);
        }
        for name in &batch.drops {
            inner.topics.remove(name);
        }
        let mut receipt = Receipt::default();
        let mut news: BTreeMap<TopicName, Vec<Event>> = BTreeMap::new();
        let mut add = |inner: &mut Inner, Append { topic, record }: Append| {
            let (appended, event) = inner.append(topic, record, now, self.window);
            if let Some(event) = event {
                news.entry(event.topic().clone()).or_default().push(event);
            }
            appended
        };
        for append in batch.appends {
            receipt.appended.push(add(&mut inner, append));
        }
        for DuePut { due, notice } in batch.due_put {
            let is_move = taken.contains(&due.id);
            let is_known = inner.put_due(due, is_move, now, self.window);
            if let (false, Some(notice)) = (is_known, notice) {
                add(&mut inner, notice);
            }
            receipt.due_duplicate.push(is_known);
        }
        for mark in batch.marks {
            match mark.value {
                Some(value) => inner.marks.insert(mark.name, value),
                None => inner.marks.remove(&mark.name),
            };
        }
        for change in batch.registry {
            let key = (change.kind, change.key);
            match change.value {
                Some(value) => inner.registry.insert(key, value),
                None => inner.registry.remove(&key),
            };
        }
        let mut trimmed = Vec::new();
        for trim in batch.trims {
            if let Some(topic) = inner.topics.get_mut(&trim.topic) {
                let oldest = trim.oldest.min(topic.bounds().tail.next());
                topic.oldest = topic.oldest.max(oldest);
                if !trim.keep_state {
                    let oldest = topic.oldest;
                    topic.state.retain(|_, offset| *offset >= oldest);
                }
                trimmed.push((trim.topic, topic.oldest));
            }
        }
        drop(inner);
        batch.drops.iter().for_each(|name| self.observer.dropped(name));
        for (name, events) in news {
            let tail = events.last().expect("not empty").offset();
            self.observer.advanced(&name, tail, &mut events.into_iter());
        }
        trimmed.iter().for_each(|(name, oldest)| self.observer.trimmed(name, *oldest));
        if due_changed {
            self.observer.due_changed();
        }
        Ok(receipt)
    }
}

impl Inner {
    fn append(
        &mut self,
        name: TopicName,
        mut record: Vec<u8>,
        now: Timestamp,
        window: IdWindow,
    ) -> (Appended, Option<Event>) {
        RecordWriter::stamp(&mut record, now);
        let epochs = &mut self.epochs;
        let topic = self.topics.entry(name.clone()).or_insert_with(|| {
            *epochs += 1;
            Topic {
                epoch: Epoch(*epochs),
                oldest: Offset(1),
                events: Vec::new(),
                state: HashMap::new(),
                ids: HashMap::new(),
            }
        });
        let (id, id_given, _, _) = RecordWriter::peek(&record);
        if id_given && let Some(first) = topic.remembered(id, now, window) {
            return (first, None);
        }
        let offset = topic.bounds().tail.next();
        let event = Event::new(name, topic.epoch, offset, record.into()).expect("made by RecordWriter");
        if id_given {
            topic.ids.insert(id, offset);
        }
        if event.record().truncates() {
            topic.state.clear();
        }
        if let Some(key) = event.key() {
            let key = Key::parse(key).expect("checked when it came in");
            if event.record().is_deleted() {
                topic.state.remove(&key);
            } else {
                topic.state.insert(key, offset);
            }
        }
        topic.events.push(event.clone());
        let appended = Appended { epoch: topic.epoch, offset, published_at: now, duplicate: false };
        (appended, Some(event))
    }

    /// Whether the id was known, so that nothing changed.
    fn put_due(&mut self, due: Due, is_move: bool, now: Timestamp, window: IdWindow) -> bool {
        let published = || self.topics.get(&due.topic).and_then(|t| t.remembered(due.id, now, window));
        if self.due_by_id.contains_key(&due.id) || (!is_move && published().is_some()) {
            return true;
        }
        self.due_count += 1;
        let place = DuePlace { at: due.at, order: self.due_count };
        self.due_by_id.insert(due.id, place);
        self.due.insert(place, due);
        false
    }
}

impl Topic {
    fn remembered(&self, id: Uuid, now: Timestamp, window: IdWindow) -> Option<Appended> {
        let offset = *self.ids.get(&id)?;
        let published_at = self.at(offset).published_at();
        let is_recent = now.as_millis() - published_at.as_millis() < window.age_ms
            && self.bounds().tail.0 - offset.0 < window.events;
        is_recent.then_some(Appended { epoch: self.epoch, offset, published_at, duplicate: true })
    }
}

/// The longest prefix of `events` within `max`, but at least one.
fn within(max: ReadMax, events: impl Iterator<Item = Event>) -> Vec<Event> {
    let mut bytes = 0;
    let mut out = Vec::new();
    for event in events.take(max.events.max(1)) {
        bytes += event.record().as_bytes().len();
        if !out.is_empty() && bytes > max.bytes {
            break;
        }
        out.push(event);
    }
    out
}

fn now<'a, T: Send + 'a>(result: Result<T, Error>) -> Answer<'a, T> {
    Box::pin(ready(result))
}

impl Log for MemoryLog {
    fn commit(&self, batch: Batch) -> Answer<'_, Receipt> {
        now(self.apply(batch))
    }

    fn bounds(&self, topic: &TopicName) -> Option<Bounds> {
        self.lock().topics.get(topic).map(Topic::bounds)
    }

    fn topic_count(&self) -> usize {
        self.lock().topics.len()
    }

    fn topics(&self, after: Option<&TopicName>, max: usize) -> Answer<'_, Vec<(TopicName, Bounds)>> {
        let inner = self.lock();
        let all = inner.topics.iter().filter(|(name, _)| after.is_none_or(|a| *name > a));
        now(Ok(all.take(max).map(|(name, topic)| (name.clone(), topic.bounds())).collect()))
    }

    fn read(&self, name: &TopicName, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        now(self.with(name, Vec::new(), |topic| {
            if after.next() < topic.oldest {
                let oldest = topic.oldest;
                return Err(Error::Trimmed { topic: name.clone(), asked: after.next(), oldest });
            }
            Ok(within(max, topic.events.iter().skip(after.0 as usize).cloned()))
        }))
    }

    fn read_key(&self, name: &TopicName, key: &Key, after: Offset, max: ReadMax) -> Answer<'_, Vec<Event>> {
        now(self.with(name, Vec::new(), |topic| {
            let from = after.0.max(topic.oldest.0 - 1) as usize;
            let events = topic.events.iter().skip(from).filter(|e| e.key() == Some(key.as_str()));
            Ok(within(max, events.cloned()))
        }))
    }

    fn read_audience(
        &self,
        name: &TopicName,
        user: Option<&str>,
        after: Offset,
        max: ReadMax,
    ) -> Answer<'_, Found> {
        now(self.with(name, Found::default(), |topic| {
            if after.next() < topic.oldest {
                let oldest = topic.oldest;
                return Err(Error::Trimmed { topic: name.clone(), asked: after.next(), oldest });
            }
            let concerned = topic.events.iter().skip(after.0 as usize).filter(|e| e.view_of(user).is_some());
            let events = within(max, concerned.clone().cloned());
            let is_all = concerned.count() == events.len();
            let last = events.last().map_or(after, Event::offset);
            Ok(Found { events, up_to: if is_all { topic.bounds().tail.max(after) } else { last } })
        }))
    }

    fn state_audience(&self, name: &TopicName, user: Option<&str>) -> Answer<'_, State> {
        now(self.with(name, State { offsets: Vec::new(), tail: Offset::ZERO }, |topic| {
            let is_seen = |view| !matches!(view, None | Some(View::Moved));
            let all = topic.state.values().copied();
            let mut offsets: Vec<Offset> = all.filter(|o| is_seen(topic.at(*o).view_of(user))).collect();
            offsets.sort_unstable();
            Ok(State { offsets, tail: topic.bounds().tail })
        }))
    }

    fn state(&self, name: &TopicName, key: Option<&Key>) -> Answer<'_, State> {
        let none = State { offsets: Vec::new(), tail: Offset::ZERO };
        now(self.with(name, none, |topic| {
            let wanted = topic.state.iter().filter(|(own, _)| key.is_none_or(|k| k == *own));
            let mut offsets: Vec<Offset> = wanted.map(|(_, offset)| *offset).collect();
            offsets.sort_unstable();
            Ok(State { offsets, tail: topic.bounds().tail })
        }))
    }

    fn read_at(&self, name: &TopicName, offsets: &[Offset], max: ReadMax) -> Answer<'_, Vec<Event>> {
        now(self.with(name, Vec::new(), |topic| {
            let tail = topic.bounds().tail;
            let kept = offsets
                .iter()
                .filter(|o| o.0 > 0 && **o <= tail)
                .map(|o| topic.at(*o))
                .filter(|e| e.offset() >= topic.oldest || topic.is_state(e));
            Ok(within(max, kept.cloned()))
        }))
    }

    fn at_time(&self, name: &TopicName, at: Timestamp) -> Answer<'_, Offset> {
        now(self.with(name, Offset::ZERO, |topic| {
            let older = topic.events.partition_point(|e| e.published_at() < at) as u64;
            Ok(Offset(older.max(topic.oldest.0 - 1)))
        }))
    }

    fn at_size(&self, name: &TopicName, bytes: u64) -> Answer<'_, Offset> {
        now(self.with(name, Offset::ZERO, |topic| {
            let mut left = bytes;
            let mut floor = topic.bounds().tail;
            while floor.next() > topic.oldest {
                let len = topic.at(floor).record().as_bytes().len() as u64;
                if len > left {
                    break;
                }
                left -= len;
                floor = Offset(floor.0 - 1);
            }
            Ok(floor)
        }))
    }

    fn due(&self, query: DueQuery, max: ReadMax) -> Answer<'_, DuePage> {
        let inner = self.lock();
        let after = query.after.map_or(Unbounded, Excluded);
        let (mut page, mut bytes) = (DuePage::default(), 0);
        let behind = inner.due.range((after, Unbounded)).take_while(|(place, _)| place.at <= query.until);
        for (place, due) in behind {
            let (_, _, key, _) = RecordWriter::peek(&due.record);
            if !query.matches(due.owner.as_deref(), due.topic.as_str(), key) {
                continue;
            }
            bytes += due.record.len();
            if page.dues.len() >= max.events.max(1) || (bytes > max.bytes && !page.dues.is_empty()) {
                return now(Ok(page));
            }
            page.dues.push(due.clone());
            page.next = Some(*place);
        }
        page.next = None;
        now(Ok(page))
    }

    fn due_by_id(&self, id: Uuid) -> Answer<'_, Option<Due>> {
        let inner = self.lock();
        now(Ok(inner.due_by_id.get(&id).map(|place| inner.due[place].clone())))
    }

    fn due_next(&self) -> Answer<'_, Option<Timestamp>> {
        now(Ok(self.lock().due.keys().next().map(|place| place.at)))
    }

    fn mark(&self, name: &str) -> Answer<'_, Option<Bytes>> {
        now(Ok(self.lock().marks.get(name).cloned()))
    }

    fn registry(&self, kind: &str) -> Answer<'_, Vec<(String, Bytes)>> {
        let inner = self.lock();
        let all = inner.registry.iter().filter(|((own, _), _)| own == kind);
        now(Ok(all.map(|((_, key), value)| (key.clone(), value.clone())).collect()))
    }

    fn registry_page(&self, kind: &str, after: Option<&str>, max: usize) -> Answer<'_, Vec<(String, Bytes)>> {
        let inner = self.lock();
        let all = inner.registry.iter().filter(|((own, key), _)| own == kind && Some(key.as_str()) > after);
        now(Ok(all.take(max).map(|((_, key), value)| (key.clone(), value.clone())).collect()))
    }

    fn registered(&self, kind: &str, key: &str) -> Answer<'_, Option<Bytes>> {
        now(Ok(self.lock().registry.get(&(kind.to_owned(), key.to_owned())).cloned()))
    }

    fn read_only(&self) -> Option<String> {
        None
    }

    fn close(&self) -> Answer<'_, ()> {
        self.lock().closed = true;
        now(Ok(()))
    }
}
