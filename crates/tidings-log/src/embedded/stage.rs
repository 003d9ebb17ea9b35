//! Decides what a batch does, and encodes it, before anything is written.
//!
//! Owns: offsets, topic ids and epochs to be given; which ids and scheduled events are known, including those
//! that the index and the side store have not applied yet. A group that cannot be written is taken back with
//! [`Stage::undo`]. Never: touches a file or what readers see.

use super::catalog::{Catalog, Ends, Topic};
use super::entry::Entry;
use super::frame;
use super::group::{Group, Notice};
use super::index::{Index, Remembered};
use super::overlay::Overlay;
use super::side::Side;
use crate::memory::IdWindow;
use crate::{Append, Appended, Batch, Due, DuePut, Error, Receipt, Trim};
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tidings_model::{Epoch, Offset, RecordWriter, Timestamp, TopicName, Uuid};

/// The writer's own view of the log, ahead of what is durable.
pub struct Stage {
    heads: HashMap<TopicName, Head>,
    side: Arc<Side>,
    index: Arc<Index>,
    window: IdWindow,
    topic_id_max: u32,
    /// Of the event published last; time never runs backwards.
    last_time: Timestamp,
    ids: Overlay<(u32, Uuid), Remembered>,
    /// Whether the id is scheduled.
    dues: Overlay<Uuid, bool>,
}

#[derive(Clone)]
pub struct Head {
    topic: Arc<Topic>,
    ends: Ends,
    /// The segment that names this topic already.
    named_in: u32,
}

/// How to take back one change.
pub enum Undo {
    Head(TopicName, Option<Head>),
    Id((u32, Uuid), Option<(u64, Remembered)>),
    Due(Uuid, Option<(u64, bool)>),
}

impl Stage {
    pub fn new(
        catalog: &Catalog,
        side: Arc<Side>,
        index: Arc<Index>,
        window: IdWindow,
        topic_id_max: u32,
        last_time: Timestamp,
    ) -> Self {
        let head = |topic: Arc<Topic>| (topic.name.clone(), Head { ends: topic.ends(), topic, named_in: 0 });
        let heads = catalog.page(None, usize::MAX).into_iter().map(head).collect();
        let (ids, dues) = (Overlay::default(), Overlay::default());
        Self { heads, side, index, window, topic_id_max, last_time, ids, dues }
    }

    /// Drops what the followers have applied in the meantime.
    pub fn settle(&mut self) {
        self.ids.settle(|| self.index.feed.applied());
        self.dues.settle(|| self.side.feed.applied());
    }

    /// The group was handed to the index under this number.
    pub fn pushed_to_index(&mut self, number: u64) {
        self.ids.pushed(number);
    }

    /// The group was handed to the side store under this number.
    pub fn pushed_to_side(&mut self, number: u64) {
        self.dues.pushed(number);
    }

    /// Adds `batch` to `group` whole, or not at all. Events are stamped where they lie.
    pub fn add(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        group: &mut Group,
        receipt: &mut Receipt,
    ) -> Result<(), Error> {
        let savepoint = group.begin_batch();
        let start = frame::begin(&mut group.bytes);
        let added = self.apply(batch, now.max(self.last_time), group, receipt);
        match added {
            Err(_) => {
                self.undo(group.rewind(savepoint).into_iter());
            }
            // Nothing but repeats: nothing to write.
            Ok(_) if group.bytes.len() == start + frame::FRAME => group.bytes.truncate(start),
            Ok(_) => frame::seal(&mut group.bytes, start, 0, group.salt),
        }
        added
    }

    /// Takes back changes, newest first.
    pub fn undo(&mut self, undo: impl DoubleEndedIterator<Item = Undo>) {
        for change in undo.rev() {
            match change {
                Undo::Head(name, Some(head)) => drop(self.heads.insert(name, head)),
                Undo::Head(name, None) => drop(self.heads.remove(&name)),
                Undo::Id(id, before) => self.ids.restore(id, before),
                Undo::Due(id, before) => self.dues.restore(id, before),
            }
        }
    }

    fn apply(
        &mut self,
        batch: &mut Batch,
        now: Timestamp,
        group: &mut Group,
        receipt: &mut Receipt,
    ) -> Result<(), Error> {
        let mut taken = HashSet::new();
        for id in &batch.due_take {
            if !taken.insert(*id) || !self.is_due(*id)? {
                return Err(Error::DueUnknown(*id));
            }
        }
        self.last_time = now;
        let due_changed = !batch.due_put.is_empty() || !batch.due_take.is_empty();
        for &id in &batch.due_take {
            self.set_due(id, false, group);
            group.put_side(&Entry::DueTaken { id });
        }
        for name in &batch.drops {
            if let Some(head) = self.heads.remove(name) {
                group.put_side(&Entry::TopicDropped { id: head.topic.id });
                group.notices.push(Notice::Ended(head.topic.clone()));
                group.undo.push(Undo::Head(name.clone(), Some(head)));
            }
            group.notices.push(Notice::Dropped(name.clone()));
        }
        for append in &mut batch.appends {
            receipt.appended.push(self.append(append, now, group)?);
        }
        for DuePut { due, notice } in &mut batch.due_put {
            let is_move = taken.contains(&due.id);
            let is_known = self.put_due(due, is_move, now, group)?;
            if let (false, Some(notice)) = (is_known, notice) {
                self.append(notice, now, group)?;
            }
            receipt.due_duplicate.push(is_known);
        }
        for mark in &batch.marks {
            group.put_side(&Entry::Mark { name: &mark.name, value: mark.value.as_deref() });
        }
        for change in &batch.registry {
            let value = change.value.as_deref();
            group.put_side(&Entry::Registry { kind: &change.kind, key: &change.key, value });
        }
        for trim in &batch.trims {
            self.trim(trim, group);
        }
        if due_changed {
            group.notices.push(Notice::DueChanged);
        }
        Ok(())
    }

    fn append(&mut self, append: &mut Append, now: Timestamp, group: &mut Group) -> Result<Appended, Error> {
        let Append { topic: name, record } = append;
        RecordWriter::stamp(record, now);
        let (id, id_given, key, _) = RecordWriter::peek(record);
        group.for_index |= id_given || key.is_some() || RecordWriter::is_for_index(record);
        if id_given && let Some(first) = self.remembered(name, id, now)? {
            return Ok(first);
        }
        // The name is shared, not copied.
        let head = match self.heads.entry(name.clone()) {
            Occupied(known) => known.into_mut(),
            Vacant(free) => {
                self.topic_id_max += 1;
                let epoch =
                    Epoch(getrandom::u32().expect("the system has randomness").max(Epoch::NONE.0 + 1));
                let name = free.key().clone();
                let topic = Arc::new(Topic::new(self.topic_id_max, epoch, name.clone(), Ends::default()));
                group.notices.push(Notice::Created(topic.clone()));
                group.undo.push(Undo::Head(name, None));
                free.insert(Head { topic, ends: Ends::default(), named_in: 0 })
            }
        };
        let (topic, epoch) = (head.topic.id, head.topic.epoch);
        if !group.continues(topic) {
            group.undo.push(Undo::Head(head.topic.name.clone(), Some(head.clone())));
            if head.named_in != group.segment {
                head.named_in = group.segment;
                let name = head.topic.name.as_str();
                group.put_side(&Entry::Topic { id: topic, epoch: epoch.0, name });
            }
            group.begin_run(head.topic.clone(), head.ends.tail + 1, now.as_millis());
        }
        head.ends.tail += 1;
        let offset = head.ends.tail;
        if id_given {
            let before = self.ids.insert((topic, id), Remembered { offset, time: now.as_millis() });
            group.undo.push(Undo::Id((topic, id), before));
        }
        group.put_event(topic, offset, record);
        Ok(Appended { epoch, offset: Offset(offset), published_at: now, duplicate: false })
    }

    /// Where the id was first published to the topic, if that is still remembered.
    fn remembered(&self, name: &TopicName, id: Uuid, now: Timestamp) -> Result<Option<Appended>, Error> {
        let Some(head) = self.heads.get(name) else { return Ok(None) };
        let found = match self.ids.get(&(head.topic.id, id)) {
            Some(found) => Some(*found),
            // A topic without visible events has no ids in the index.
            None if head.topic.tail() == 0 => None,
            None => {
                self.index.feed.wait_blocking(1)?;
                self.index.remembered(head.topic.id, id, now.as_millis())?
            }
        };
        Ok(found.and_then(|Remembered { offset, time }| {
            let is_recent =
                now.as_millis() - time < self.window.age_ms && head.ends.tail - offset < self.window.events;
            is_recent.then(|| Appended {
                epoch: head.topic.epoch,
                offset: Offset(offset),
                published_at: Timestamp::default().plus_millis(time),
                duplicate: true,
            })
        }))
    }

    /// Whether the id was known, so that nothing changed.
    fn put_due(
        &mut self,
        due: &Due,
        is_move: bool,
        now: Timestamp,
        group: &mut Group,
    ) -> Result<bool, Error> {
        let is_known = self.is_due(due.id)?;
        if is_known || (!is_move && self.remembered(&due.topic, due.id, now)?.is_some()) {
            return Ok(true);
        }
        self.set_due(due.id, true, group);
        group.put_side(&Entry::DuePut {
            id: due.id,
            at: due.at.as_millis(),
            topic: due.topic.as_str(),
            owner: due.owner.as_deref(),
            record: &due.record,
        });
        Ok(false)
    }

    fn is_due(&self, id: Uuid) -> Result<bool, Error> {
        match self.dues.get(&id) {
            Some(known) => Ok(*known),
            None => {
                self.side.feed.wait_blocking(1)?;
                self.side.is_due_known(id)
            }
        }
    }

    fn set_due(&mut self, id: Uuid, is_due: bool, group: &mut Group) {
        let before = self.dues.insert(id, is_due);
        group.undo.push(Undo::Due(id, before));
    }

    fn trim(&mut self, trim: &Trim, group: &mut Group) {
        let Some(head) = self.heads.get_mut(&trim.topic) else { return };
        group.undo.push(Undo::Head(trim.topic.clone(), Some(head.clone())));
        head.ends.oldest = head.ends.oldest.max(trim.oldest.0.min(head.ends.tail + 1));
        let (topic, oldest) = (head.topic.clone(), head.ends.oldest);
        group.put_side(&Entry::Trim { topic: topic.id, oldest, keep_state: trim.keep_state });
        group.notices.push(Notice::Trimmed { topic, oldest, keep_state: trim.keep_state });
    }
}
