//! What of an event each reader may see.
//!
//! Owns: the reading of what was decided when the event came in, and the three ways in which one event is shown:
//! whole, without the row as it was before, and as the end of the row for whoever has lost sight of it. Each is
//! an event like any other, at the same offset; nothing behind this knows of the difference.

use crate::members::Members;
use crate::row_rule::{BEFORE, CHANGED, Sight};
use crate::{Event, Key, NewEvent, RecordWriter, Topic};
use bytes::Bytes;
use std::borrow::Cow;

/// Who may see an event as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience<'a> {
    Everyone,
    Nobody,
    Users(Users<'a>),
}

/// User ids, each with its length in one byte before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Users<'a>(pub(crate) &'a [u8]);

impl<'a> Users<'a> {
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            let (id, tail) = tail.split_at_checked(usize::from(len))?;
            rest = tail;
            Some(id)
        })
    }

    pub fn contains(self, id: &str) -> bool {
        self.iter().any(|own| own == id.as_bytes())
    }
}

/// Whom an event concerns, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing<'a> {
    /// `None`: everyone with the grant.
    pub audience: Option<Users<'a>>,
    /// Who could see the row before.
    pub before: Users<'a>,
}

impl<'a> Routing<'a> {
    /// Everybody it is told to by name, once, and whether that one sees the row as it is now.
    pub fn users(self) -> impl Iterator<Item = (&'a [u8], bool)> {
        let now = self.audience.unwrap_or_default();
        // Where everyone sees it, nobody has lost sight.
        let before = if self.is_everyones() { Users::default() } else { self.before };
        let lost = before.iter().filter(move |id| now.iter().all(|own| own != *id));
        now.iter().map(|id| (id, true)).chain(lost.map(|id| (id, false)))
    }

    /// Whether everyone with the grant is told.
    pub fn is_everyones(self) -> bool {
        self.audience.is_none()
    }
}

/// How an event is shown to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Whole,
    /// Not with the row as it was, which this reader could not see.
    WithoutBefore,
    /// The row has moved out of sight: its old values, deleted.
    Moved,
}

impl View {
    /// Ways that differ from the whole event.
    pub const PARTIAL: usize = 2;

    /// The place of a partial view among those.
    pub fn place(self) -> Option<usize> {
        match self {
            Self::Whole => None,
            Self::WithoutBefore => Some(0),
            Self::Moved => Some(1),
        }
    }
}

impl Event {
    pub fn audience(&self) -> Audience<'_> {
        match self.record().audience() {
            None => Audience::Everyone,
            Some([]) => Audience::Nobody,
            Some(users) => Audience::Users(Users(users)),
        }
    }

    /// What was decided about it when it came in, for an event that is made of this one; `None` where everyone may
    /// see all of it.
    pub fn sight(&self) -> Option<Sight> {
        let list = |users: &[u8]| {
            Users(users).iter().filter_map(|id| std::str::from_utf8(id).ok()).map(Into::into).collect()
        };
        let (audience, before) = (self.record().audience().map(list), self.record().before().map(list));
        let is_decided = audience.is_some() || before.is_some();
        is_decided.then_some(Sight { audience, before, is_routed: true, ..Sight::default() })
    }

    /// What the user with this id may see of it, grants aside; `None` is one without an id.
    pub fn view_of(&self, id: Option<&str>) -> Option<View> {
        let is_in = |users: &[u8]| id.is_some_and(|id| Users(users).contains(id));
        let sees_now = self.record().audience().is_none_or(is_in);
        match self.record().before().map(is_in) {
            None | Some(true) if sees_now => Some(View::Whole),
            Some(false) if sees_now => Some(View::WithoutBefore),
            Some(true) => Some(View::Moved),
            _ => None,
        }
    }

    /// The event as `view` shows it.
    pub fn shown(&self, view: View) -> Self {
        match view {
            View::Whole => self.clone(),
            View::WithoutBefore => self.with(|event, context| {
                event.context = Some(
                    context.write(|name, value| (name != BEFORE).then_some(Cow::Borrowed(value))).into(),
                );
            }),
            View::Moved => self.with(|event, context| {
                event.name = Some("delete".into());
                event.deleted = event.topic.key.is_some();
                event.data = context.get(BEFORE).map(|row| Bytes::copy_from_slice(row.get().as_bytes()));
                let stays = |name: &str| ![BEFORE, CHANGED, "reason"].contains(&name);
                let mut left = context.write(|name, value| stays(name).then_some(Cow::Borrowed(value)));
                left.pop();
                left.extend_from_slice(if left.len() > 1 { b"," } else { b"" });
                left.extend_from_slice(b"\"reason\":\"moved\"}");
                event.context = Some(left.into());
            }),
        }
    }

    /// This event with some of it changed, for those who may not see its context as it is.
    fn with(&self, change: impl FnOnce(&mut NewEvent, &Members<'_>)) -> Self {
        let record = self.record();
        let key = record.key().map(|key| Key::parse(key).expect("checked when it came in"));
        let bytes = |text: Option<&str>| text.map(|t| Bytes::copy_from_slice(t.as_bytes()));
        let members = Members::parse(record.context().unwrap_or("{}").as_bytes()).unwrap_or_default();
        let mut event = NewEvent {
            topic: Topic { name: self.topic().clone(), key },
            id: record.id_given().then(|| record.id()),
            name: record.name().map(Into::into),
            source: record.source().map(Into::into),
            user: record.user().map(Into::into),
            occurred_at: record.occurred_at(),
            available_at: record.available_at(),
            data: bytes(record.data()),
            context: None,
            attributes: record.attributes().and_then(|a| serde_json::from_str(a).ok()).unwrap_or_default(),
            deleted: record.is_deleted(),
        };
        change(&mut event, &members);
        let mut shown = RecordWriter::encode(&event, record.id());
        RecordWriter::stamp(&mut shown, record.published_at());
        Self::new(self.topic().clone(), self.epoch(), self.offset(), shown.into())
            .expect("made by RecordWriter")
    }
}
