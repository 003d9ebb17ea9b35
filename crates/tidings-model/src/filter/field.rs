//! What of an event an expression can ask about.

use super::decimal::Decimal;
use super::json::Paths;
use super::value::Seen;
use crate::Event;
use std::cell::OnceCell;

/// A part of an event with a place of its own in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Topic,
    TopicName,
    Key,
    Id,
    Name,
    Source,
    User,
    Offset,
    OccurredAt,
    AvailableAt,
    PublishedAt,
    Deleted,
}

/// A part of an event that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Document {
    Data,
    Context,
    Attributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Column(Column),
    /// With the place of its path among those of the document.
    Member(Document, usize),
}

/// What values a field can have, so that a comparison with others is refused as a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Truth,
    Time,
    Any,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Column(Column),
    /// A path goes on from here.
    Document(Document),
    Attribute(&'static str),
}

/// The names of all fields, the first one of each is the printed one.
const NAMES: &[(&str, Named, Kind)] = &[
    ("topic", Named::Column(Column::Topic), Kind::Text),
    ("topic_name", Named::Column(Column::TopicName), Kind::Text),
    ("key", Named::Column(Column::Key), Kind::Text),
    ("topic_identifier", Named::Column(Column::Key), Kind::Text),
    ("id", Named::Column(Column::Id), Kind::Text),
    ("name", Named::Column(Column::Name), Kind::Text),
    ("source", Named::Column(Column::Source), Kind::Text),
    ("user", Named::Column(Column::User), Kind::Text),
    ("user_key", Named::Column(Column::User), Kind::Text),
    ("offset", Named::Column(Column::Offset), Kind::Number),
    ("occurred_at", Named::Column(Column::OccurredAt), Kind::Time),
    ("available_at", Named::Column(Column::AvailableAt), Kind::Time),
    ("published_at", Named::Column(Column::PublishedAt), Kind::Time),
    ("deleted", Named::Column(Column::Deleted), Kind::Truth),
    ("group_key", Named::Attribute("group_key"), Kind::Text),
    ("reference_key", Named::Attribute("reference_key"), Kind::Text),
    ("trace_key", Named::Attribute("trace_key"), Kind::Text),
    ("anonymous_key", Named::Attribute("anonymous_key"), Kind::Text),
    ("data_schema", Named::Attribute("data_schema"), Kind::Text),
    ("prev_id", Named::Attribute("prev_id"), Kind::Text),
    ("verified", Named::Attribute("verified"), Kind::Truth),
    ("data", Named::Document(Document::Data), Kind::Any),
    ("context", Named::Document(Document::Context), Kind::Any),
];

/// [`NAMES`] as a refusal lists them.
pub(super) const KNOWN: &str = "topic, topic_name, key, id, name, source, user, offset, occurred_at, \
    available_at, published_at, deleted, group_key, reference_key, trace_key, anonymous_key, data_schema, \
    prev_id, verified, data and context";

impl Named {
    pub fn parse(name: &str) -> Option<(Self, Kind)> {
        NAMES.iter().find(|(own, ..)| *own == name).map(|(_, named, kind)| (*named, *kind))
    }
}

impl Column {
    pub fn as_str(self) -> &'static str {
        let own = |named: &Named| *named == Named::Column(self);
        NAMES.iter().find(|(_, named, _)| own(named)).expect("every column has a name").0
    }
}

/// The paths of an expression into each document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Members {
    pub data: Paths,
    pub context: Paths,
    pub attributes: Paths,
}

impl Members {
    pub fn of(&self, document: Document) -> &Paths {
        match document {
            Document::Data => &self.data,
            Document::Context => &self.context,
            Document::Attributes => &self.attributes,
        }
    }
}

/// One event under an expression: JSON is read when a comparison asks for it, and then once for all.
pub(super) struct Look<'a> {
    event: &'a Event,
    members: &'a Members,
    data: OnceCell<Vec<Seen<'a>>>,
    context: OnceCell<Vec<Seen<'a>>>,
    attributes: OnceCell<Vec<Seen<'a>>>,
}

impl<'a> Look<'a> {
    pub fn new(event: &'a Event, members: &'a Members) -> Self {
        let (data, context, attributes) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { event, members, data, context, attributes }
    }

    /// Asks `test` about a field.
    pub fn at(&self, field: Field, test: impl Fn(&Seen<'_>) -> bool) -> bool {
        match field {
            Field::Column(column) => test(&self.column(column)),
            Field::Member(document, slot) => test(&self.document(document)[slot]),
        }
    }

    fn document(&self, document: Document) -> &[Seen<'a>] {
        let record = self.event.record();
        let (cell, text) = match document {
            Document::Data => (&self.data, record.data()),
            Document::Context => (&self.context, record.context()),
            Document::Attributes => (&self.attributes, record.attributes()),
        };
        cell.get_or_init(|| {
            let found = self.members.of(document).find(text.unwrap_or_default());
            found.into_iter().map(Seen::of).collect()
        })
    }

    fn column(&self, column: Column) -> Seen<'a> {
        let (event, record) = (self.event, self.event.record());
        match column {
            Column::Topic => match event.key() {
                None => Seen::of_text(Some(event.topic().as_str())),
                Some(key) => Seen::Text(format!("{}:{key}", event.topic()).into()),
            },
            Column::TopicName => Seen::of_text(Some(event.topic().as_str())),
            Column::Key => Seen::of_text(event.key()),
            Column::Id => Seen::Text(event.id().to_string().into()),
            Column::Name => Seen::of_text(event.name()),
            Column::Source => Seen::of_text(record.source()),
            Column::User => Seen::of_text(record.user()),
            Column::Offset if event.is_passing() => Seen::of_text(None),
            Column::Offset => Seen::Number(Decimal::read(event.offset().to_string())),
            Column::OccurredAt => Seen::of_time(record.occurred_at()),
            Column::AvailableAt => Seen::of_time(record.available_at()),
            Column::PublishedAt => Seen::of_time(Some(record.published_at())),
            Column::Deleted => Seen::Truth(record.is_deleted()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lists_every_field() {
        let mut printed: Vec<&str> = Vec::new();
        let mut seen: Vec<Named> = Vec::new();
        for (name, named, _) in NAMES {
            if !seen.contains(named) {
                seen.push(*named);
                printed.push(name);
            }
        }
        let last = printed.pop().unwrap();
        assert_eq!(KNOWN, format!("{} and {last}", printed.join(", ")));
    }
}
