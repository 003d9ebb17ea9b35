//! Whom the rows of a topic concern, by what stands in their columns; and which columns stay behind.
//!
//! Owns: the rule as it is set, and its one evaluation, when an event comes in. A column's value is a value and
//! nothing else: `*` or `constructor` in it is compared with ids like any other text. Never: sees a reader.

use crate::members::{Members, text};
use crate::{EventError, NewEvent};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The member of `context` that holds the row as it was.
pub(crate) const BEFORE: &str = "before";
/// The member of `context` that names the columns whose values are others now.
pub(crate) const CHANGED: &str = "changed";

/// Who may see a topic's rows: everyone with the grant, or whoever's id stands in one of these columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum RowRule {
    Everyone,
    Columns(Vec<Box<str>>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a row rule is `*`, a column's name, or a list of such names")]
enum Written {
    One(Box<str>),
    Several(Vec<Box<str>>),
}

/// Why something is no row rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowRuleError {
    #[error("a row rule names at most 16 columns, this one {0}")]
    Count(usize),
    #[error("a column's name has 1 to 255 bytes, and `*` is not one")]
    Column,
}

impl RowRule {
    /// Columns one rule may name.
    pub const COLUMNS_MAX: usize = 16;

    /// The rule of these columns; of none it is that nobody but admins sees the rows.
    pub fn columns(names: Vec<Box<str>>) -> Result<Self, RowRuleError> {
        if names.len() > Self::COLUMNS_MAX {
            return Err(RowRuleError::Count(names.len()));
        }
        names.iter().try_for_each(|name| check_column(name))?;
        Ok(Self::Columns(names))
    }
}

/// Whether `name` can be that of a column.
pub fn check_column(name: &str) -> Result<(), RowRuleError> {
    if name.is_empty() || name.len() > 255 || name == "*" { Err(RowRuleError::Column) } else { Ok(()) }
}

impl TryFrom<Written> for RowRule {
    type Error = RowRuleError;

    fn try_from(written: Written) -> Result<Self, RowRuleError> {
        match written {
            Written::One(one) if &*one == "*" => Ok(Self::Everyone),
            Written::One(one) => Self::columns(vec![one]),
            Written::Several(names) => Self::columns(names),
        }
    }
}

impl From<RowRule> for Written {
    fn from(rule: RowRule) -> Self {
        match rule {
            RowRule::Everyone => Self::One("*".into()),
            RowRule::Columns(names) => match <[_; 1]>::try_from(names) {
                Ok([one]) => Self::One(one),
                Err(names) => Self::Several(names),
            },
        }
    }
}

/// Who may see an event, and what else of it is decided when it comes in. Stored with it, never sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// These users, once each; `None` is everyone with the grant. Admins see everything.
    pub audience: Option<Vec<Box<str>>>,
    /// Who could see the row as it was before. Of them who is in the audience may see `context.before`; who is
    /// not has lost sight of the row and is told so. `None` where nothing of the kind is guarded.
    pub before: Option<Vec<Box<str>>>,
    /// Whether readers find the event by user, also where everyone may see it.
    pub is_routed: bool,
    /// Takes every key of the topic out of State.
    pub truncates: bool,
    /// The event does not say what stood before in every column that decides. Not stored: whoever knows the row may
    /// say it.
    pub is_old_unknown: bool,
}

/// What holds for a topic's events when they come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub rule: Option<RowRule>,
    /// Columns that are taken out of `data`, `context.before` and `context.changed`.
    pub filter_columns: Vec<Box<str>>,
    /// The rows of a captured table: without a rule nobody but admins sees them.
    pub is_captured: bool,
    /// The source says no more of a deleted row than its key; the rest may be known from before.
    pub deletes_are_keys: bool,
}

impl Rows {
    /// Whether some events here may not be for everyone: also where everyone sees every row, since what is added to a
    /// captured topic beside its source has an audience of its own.
    pub fn is_routed(&self) -> bool {
        self.is_captured || self.rule.is_some()
    }

    /// Decides who may see `event`, and takes out of it what stays behind. `is_truncate`: the event says that
    /// the table was emptied, which concerns whoever may see any row of it.
    ///
    /// # Errors
    /// When columns are to be taken out of what is no valid JSON.
    pub fn apply(&self, event: &mut NewEvent, is_truncate: bool) -> Result<Sight, EventError> {
        // Where everyone sees everything, nobody is looked for by name.
        let is_routed = self.is_routed() && self.rule != Some(RowRule::Everyone);
        let sight = Sight { is_routed, truncates: is_truncate, ..Sight::default() };
        let columns = match &self.rule {
            Some(RowRule::Columns(columns)) => Some(&columns[..]),
            Some(RowRule::Everyone) => None,
            None => self.is_captured.then_some(&[][..]),
        };
        let is_nobodys = columns.is_some_and(<[_]>::is_empty);
        let columns = columns.filter(|columns| !is_truncate || columns.is_empty());
        if columns.is_none_or(<[_]>::is_empty) && self.filter_columns.is_empty() {
            return Ok(Sight { audience: is_nobodys.then(Vec::new), ..sight });
        }
        let (data, context) = (event.data.take(), event.context.take());
        let row = data.as_deref().and_then(Members::parse);
        let about = context.as_deref().and_then(Members::parse);
        let before = about.as_ref().and_then(|c| c.get(BEFORE)).filter(|raw| raw.get() != "null");
        let old = before.and_then(|raw| Members::parse(raw.get().as_bytes()));
        let value = |row: &Option<Members<'_>>, column: &str| -> Option<Box<str>> {
            text(row.as_ref()?.get(column)?).map(Into::into)
        };
        let is_there = |column: &str| row.as_ref().is_some_and(|row| row.get(column).is_some());
        // A column that is not said has kept its value.
        let sight = columns.map_or(sight.clone(), |columns| {
            let now = columns.iter().filter_map(|c| value(if is_there(c) { &row } else { &old }, c));
            let guarded = before.map(|_| once_each(columns.iter().filter_map(|c| value(&old, c))));
            let was_there = |c: &str| old.as_ref().is_some_and(|old| old.get(c).is_some());
            let is_old_unknown = columns.iter().any(|c| !(was_there(c) || event.deleted && is_there(c)));
            Sight { audience: Some(once_each(now)), before: guarded, is_old_unknown, ..sight }
        });
        let (data_left, context_left) = (
            self.without_columns(data.as_ref(), &row)?,
            self.context_without_columns(context.as_ref(), &about, &old)?,
        );
        drop((row, about, old));
        event.data = data_left.or(data);
        event.context = context_left.or(context);
        Ok(sight)
    }

    fn is_filtered(&self, column: &str) -> bool {
        self.filter_columns.iter().any(|own| **own == *column)
    }

    /// `None` where it stays as it is.
    fn without_columns(
        &self,
        json: Option<&Bytes>,
        row: &Option<Members<'_>>,
    ) -> Result<Option<Bytes>, EventError> {
        if self.filter_columns.is_empty() {
            return Ok(None);
        }
        match (json, row) {
            (_, Some(row)) if row.has(|c| self.is_filtered(c)) => {
                let kept = row.write(|c, value| (!self.is_filtered(c)).then_some(Cow::Borrowed(value)));
                Ok(Some(kept.into()))
            }
            (_, Some(_)) | (None, None) => Ok(None),
            // Not an object has no columns; what is no JSON may hide some.
            (Some(json), None) => match serde_json::from_slice::<serde::de::IgnoredAny>(json) {
                Ok(_) => Ok(None),
                Err(e) => Err(EventError::Json(e.to_string())),
            },
        }
    }

    fn context_without_columns(
        &self,
        json: Option<&Bytes>,
        about: &Option<Members<'_>>,
        old: &Option<Members<'_>>,
    ) -> Result<Option<Bytes>, EventError> {
        let Some(about) = about else { return self.without_columns(json, about).map(|_| None) };
        let mut before = self.without_columns(None, old)?;
        if let (None, Some(old)) = (&before, old)
            && !self.filter_columns.is_empty()
            && about.count(BEFORE) > 1
        {
            // The last one counts; another may hold what is to stay behind.
            before = Some(old.write(|_, value| Some(Cow::Borrowed(value))).into());
        }
        let changed = self.changed_without_columns(about);
        if before.is_none() && changed.is_none() {
            return Ok(None);
        }
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("written from text");
        let kept = about.write(|name, value| {
            Some(match name {
                BEFORE => before.as_ref().map_or(Cow::Borrowed(value), |b| Cow::Owned(text(b))),
                CHANGED => changed.as_ref().map_or(Cow::Borrowed(value), |c| Cow::Owned(c.clone())),
                _ => Cow::Borrowed(value),
            })
        });
        Ok(Some(kept.into()))
    }

    fn changed_without_columns(&self, about: &Members<'_>) -> Option<String> {
        let names: Vec<String> = serde_json::from_str(about.get(CHANGED)?.get()).ok()?;
        if !names.iter().any(|name| self.is_filtered(name)) {
            return None;
        }
        let kept: Vec<&String> = names.iter().filter(|name| !self.is_filtered(name)).collect();
        Some(serde_json::to_string(&kept).expect("strings"))
    }
}

fn once_each(ids: impl Iterator<Item = Box<str>>) -> Vec<Box<str>> {
    let mut all: Vec<Box<str>> = Vec::new();
    for id in ids {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}
