//! How a row was, where its source cannot say: as its newest event has it.
//!
//! Databases do not always give the old row with a change. Whose it was matters all the same: that one must hear
//! that it is gone. All of a captured row's changes are in its topic, in order, so the newest event of its key is
//! the row before. Asked only where a rule needs a column that the source left out, and for rows that are deleted
//! where their source says no more than the key.

use super::is_truncate;
use crate::{Error, Tidings};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use tidings_log::ReadMax;
use tidings_model::{Audience, NewEvent, RowRule, Sight, Topic, TopicName};

/// Up to here a delivery grows by rows as they were; a batch that is too large would never be taken. What has no room is
/// told without its old values, to the same users.
const BYTES_MAX: usize = 12 << 20;

/// A row as it was told last.
#[derive(Clone)]
struct Known {
    users: Vec<Box<str>>,
    data: Option<Bytes>,
}

/// What this delivery has said of rows so far, ahead of the log.
#[derive(Default)]
struct Delivery {
    rows: HashMap<Topic, Option<Known>>,
    emptied: HashSet<TopicName>,
    /// How many more bytes it may hold.
    room: usize,
}

impl Tidings {
    /// As [`Tidings::decide`], for rows in their order.
    pub(super) async fn decide_rows(&self, events: Vec<NewEvent>) -> Result<Vec<(NewEvent, Sight)>, Error> {
        let bytes = events.iter().map(NewEvent::payload_bytes).sum();
        let mut delivery = Delivery { room: BYTES_MAX.saturating_sub(bytes), ..Delivery::default() };
        let mut decided = Vec::with_capacity(events.len());
        let deletes = events.iter().any(|event| event.deleted);
        for (index, mut event) in events.into_iter().enumerate() {
            let refuse = |source| Error::Event { index, source };
            let Some(rows) = self.rules().of(&event.topic.name) else {
                decided.push((event, Sight::default()));
                continue;
            };
            let is_truncate = is_truncate(&event);
            let mut sight = rows.apply(&mut event, is_truncate).map_err(refuse)?;
            let is_by_columns = matches!(&rows.rule, Some(RowRule::Columns(columns)) if !columns.is_empty());
            let is_keyed = rows.deletes_are_keys && deletes;
            if !is_by_columns && !is_keyed {
                decided.push((event, sight));
                continue;
            }
            let is_needed = is_by_columns && sight.is_old_unknown && event.name.as_deref() != Some("insert");
            if is_needed || is_keyed && event.deleted {
                let known = match delivery.rows.get(&event.topic) {
                    Some(known) => known.clone(),
                    None if delivery.emptied.contains(&event.topic.name) => None,
                    None => self.known(&event.topic).await?,
                };
                if let Some(known) = known {
                    let known = known.within(&mut delivery.room);
                    known.add_to(&mut event, &mut sight, is_by_columns);
                }
            }
            if sight.truncates {
                delivery.rows.retain(|topic, _| topic.name != event.topic.name);
                delivery.emptied.insert(event.topic.name.clone());
            } else if event.topic.key.is_some() {
                let users = sight.audience.clone().unwrap_or_default();
                let known = (!event.deleted).then(|| Known { users, data: event.data.clone() });
                delivery.rows.insert(event.topic.clone(), known);
            }
            decided.push((event, sight));
        }
        Ok(decided)
    }

    async fn known(&self, topic: &Topic) -> Result<Option<Known>, Error> {
        let Some(key) = &topic.key else { return Ok(None) };
        if self.log().bounds(&topic.name).is_none() {
            return Ok(None);
        }
        let state = self.log().state(&topic.name, Some(key)).await?;
        let max = ReadMax { events: 1, bytes: usize::MAX };
        let newest = self.log().read_at(&topic.name, &state.offsets, max).await?.into_iter().next();
        Ok(newest.map(|event| Known {
            users: match event.audience() {
                Audience::Users(users) => users.iter().map(|id| String::from_utf8_lossy(id).into()).collect(),
                Audience::Everyone | Audience::Nobody => Vec::new(),
            },
            data: event.data().map(|data| Bytes::copy_from_slice(data.as_bytes())),
        }))
    }
}

impl Known {
    /// Without its values where there is no room for them.
    fn within(self, room: &mut usize) -> Self {
        let bytes = self.data.as_ref().map_or(0, Bytes::len);
        match room.checked_sub(bytes) {
            Some(left) => {
                *room = left;
                self
            }
            None => Self { data: None, ..self },
        }
    }

    /// Says of `event` what is known about the row before. It was filtered when it came in.
    fn add_to(self, event: &mut NewEvent, sight: &mut Sight, is_by_columns: bool) {
        if event.deleted {
            if let Some(audience) = sight.audience.as_mut().filter(|_| is_by_columns) {
                audience
                    .extend(self.users.into_iter().filter(|id| !audience.contains(id)).collect::<Vec<_>>());
            }
            event.data = self.data.or(event.data.take());
            return;
        }
        if sight.before.is_some() {
            // Some of the old row is said; the rest of it decides only who is told.
            let before = sight.before.get_or_insert_default();
            before.extend(self.users.into_iter().filter(|id| !before.contains(id)).collect::<Vec<_>>());
            return;
        }
        let Some(data) = self.data else {
            sight.before = Some(self.users);
            return;
        };
        let mut context = event.context.take().map_or_else(|| b"{}".to_vec(), |context| context.to_vec());
        while context.pop_if(|byte| *byte != b'}').is_some() {}
        context.pop();
        while context.pop_if(|byte| byte.is_ascii_whitespace()).is_some() {}
        if context.last() != Some(&b'{') {
            context.push(b',');
        }
        context.extend_from_slice(b"\"before\":");
        context.extend_from_slice(&data);
        context.push(b'}');
        event.context = Some(context.into());
        sight.before = Some(self.users);
    }
}
