//! What is captured from where.

use super::Fault;
use std::collections::HashSet;
use std::fmt;
use tidings_model::RowRule;

/// A database whose changes are captured.
#[derive(Clone)]
pub struct Settings {
    /// Names marks in the log, and what is made in the database. It stays the same for as long as the source lives.
    pub name: String,
    pub kind: Kind,
    /// `None`: the better one, [`Mode::Stream`].
    pub mode: Option<Mode>,
    /// Never printed: there may be a password in it.
    pub url: String,
    pub tables: Vec<Table>,
    /// Begins the name of every topic.
    pub prefix: String,
    /// Whether the rows that are there already become events first.
    pub snapshot: bool,
    /// PostgreSQL: names of the replication slot and the publication, if not `tidings_NAME`.
    pub slot: Option<String>,
    pub publication: Option<String>,
    /// PostgreSQL: whether the tables are made to say of each changed row how it was.
    pub full_rows: bool,
    /// PostgreSQL: whether what `pg_logical_emit_message` says becomes events too.
    pub messages: bool,
    /// The binary log: whether an event waits until other sessions see its transaction.
    pub wait_until_seen: bool,
    /// Triggers: the table that they fill, if not the usual one.
    pub outbox: Option<String>,
    /// Triggers: how often to look where nothing wakes us.
    pub poll_ms: u64,
    /// How often an idle database is asked for its position, so that it can let go of what it keeps.
    pub heartbeat_ms: u64,
    /// From here on what the database keeps for this source is too much.
    pub retained_bytes_alarm: u64,
}

/// What kind of database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    /// MariaDB too.
    MySql,
}

/// How changes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From the database's own stream of changes: logical replication, or the binary log.
    Stream,
    /// By triggers that fill a table.
    Triggers,
}

/// A table to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `table` or `schema.table`, as the database writes it, without quotes.
    pub name: String,
    /// Who may see its rows, if that is set here and not for the topic.
    pub rows: Option<RowRule>,
    /// Columns that are never stored.
    pub filter: Option<Vec<Box<str>>>,
}

impl Table {
    /// Whether the table, with these columns, has all that the settings name: a filter for a column that is
    /// misspelled would keep nothing back.
    pub(super) fn check_columns(&self, columns: &[String]) -> Result<(), Fault> {
        let routed: &[Box<str>] = match &self.rows {
            Some(RowRule::Columns(names)) => names,
            Some(RowRule::Everyone) | None => &[],
        };
        for (place, names) in [("rows", routed), ("filter", self.filter.as_deref().unwrap_or_default())] {
            if let Some(name) = names.iter().find(|name| !columns.iter().any(|column| **column == ***name)) {
                return Err(Fault::setting(format!(
                    "table {} has no column {name}, which its `{place}` names; it has {}",
                    self.name,
                    columns.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// Why settings cannot mean anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a source's name has 1 to 40 lower-case letters, digits and underscores, not {0:?}")]
    Name(String),
    #[error("there are no tables to capture; name them in `tables`")]
    NoTables,
    #[error("table {0:?} is named twice")]
    TableTwice(String),
    #[error("the URL of a {kind} source begins with {expected}")]
    Scheme { kind: Kind, expected: &'static str },
    #[error("{0}")]
    Url(String),
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Mode {
    /// The word for it with this kind of database.
    pub fn as_str(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Stream, Kind::Postgres) => "logical",
            (Self::Stream, Kind::MySql) => "binlog",
            (Self::Triggers, _) => "triggers",
        }
    }
}

impl Settings {
    /// What is known without asking the database.
    pub fn check(&self) -> Result<(), Error> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(fits) {
            return Err(Error::Name(self.name.clone()));
        }
        let (expected, schemes): (_, &[&str]) = match self.kind {
            Kind::Postgres => ("postgres://", &["postgres://", "postgresql://"]),
            Kind::MySql => ("mysql://", &["mysql://", "mariadb://"]),
        };
        if !schemes.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(Error::Scheme { kind: self.kind, expected });
        }
        if self.tables.is_empty() && !self.messages {
            return Err(Error::NoTables);
        }
        let mut seen = HashSet::new();
        match self.tables.iter().find(|table| !seen.insert(table.name.as_str())) {
            Some(table) => Err(Error::TableTwice(table.name.clone())),
            None => Ok(()),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Stream)
    }
}
