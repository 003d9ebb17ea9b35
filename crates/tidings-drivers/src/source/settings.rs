//! What is captured from where.

use super::Fault;
use std::collections::HashSet;
use std::fmt;
use tidings_model::RowRule;
use url::Url;

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
    #[error("`slot` has 1 to 63 lower-case letters, digits and underscores, not {0:?}")]
    Slot(String),
    #[error("`{0}` has 1 to {1} bytes")]
    Length(&'static str, usize),
    #[error("`{0}` means nothing for a source of kind {1} in this mode; take it out")]
    Idle(&'static str, Kind),
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
        if self.name.len() > 40 || !is_plain(&self.name) {
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
        self.check_names()?;
        if let Some(name) = self.idle() {
            return Err(Error::Idle(name, self.kind));
        }
        let mut seen = HashSet::new();
        match self.tables.iter().find(|table| !seen.insert(table.name.as_str())) {
            Some(table) => Err(Error::TableTwice(table.name.clone())),
            None => Ok(()),
        }
    }

    /// The names of what is made in the database: a longer one would be cut there, and not be found again.
    fn check_names(&self) -> Result<(), Error> {
        match &self.slot {
            Some(slot) if slot.len() > 63 || !is_plain(slot) => return Err(Error::Slot(slot.clone())),
            _ => {}
        }
        let outbox_max = if self.kind == Kind::Postgres { 50 } else { 64 };
        for (what, name, max) in
            [("publication", &self.publication, 63), ("outbox", &self.outbox, outbox_max)]
        {
            if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > max) {
                return Err(Error::Length(what, max));
            }
        }
        Ok(())
    }

    /// One of the settings that is there and would do nothing.
    fn idle(&self) -> Option<&'static str> {
        let (is_mysql, has_triggers) = (self.kind == Kind::MySql, self.mode == Some(Mode::Triggers));
        let stream_only = [
            ("slot", self.slot.is_some()),
            ("publication", self.publication.is_some()),
            ("full_rows", self.full_rows),
            ("messages", self.messages),
        ];
        let found = stream_only.into_iter().find(|(_, is_set)| *is_set && (is_mysql || has_triggers));
        let seen = !self.wait_until_seen && (!is_mysql || has_triggers);
        found.map(|(name, _)| name).or(seen.then_some("wait_until_seen"))
    }

    /// Where the database is, `HOST:PORT/NAME`: what may be said of the URL.
    pub fn database(&self) -> String {
        let Ok(url) = Url::parse(&self.url) else { return String::new() };
        let port = url.port().unwrap_or(if self.kind == Kind::Postgres { 5432 } else { 3306 });
        format!("{}:{port}{}", url.host_str().unwrap_or("localhost"), url.path())
    }

    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::Stream)
    }
}

/// Lower-case letters, digits and underscores, as PostgreSQL takes them for a slot.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: Kind) -> Settings {
        let (name, url) = match kind {
            Kind::Postgres => ("shop", "postgres://u@h/d"),
            Kind::MySql => ("shop", "mysql://u@h/d"),
        };
        Settings {
            name: name.into(),
            kind,
            mode: None,
            url: url.into(),
            tables: vec![Table { name: "t".into(), rows: None, filter: None }],
            prefix: String::new(),
            snapshot: false,
            slot: None,
            publication: None,
            full_rows: false,
            messages: false,
            wait_until_seen: true,
            outbox: None,
            poll_ms: 250,
            heartbeat_ms: 10_000,
            retained_bytes_alarm: 1 << 30,
        }
    }

    #[test]
    fn names_that_the_database_would_refuse_or_cut_are_refused() {
        let slot = |name: &str| Settings { slot: Some(name.into()), ..settings(Kind::Postgres) }.check();
        assert_eq!(slot("tidings_2"), Ok(()));
        for name in ["", "My-Slot", &"s".repeat(64)] {
            assert_eq!(slot(name), Err(Error::Slot(name.into())));
        }
        let outbox = |kind, n: usize| Settings { outbox: Some("o".repeat(n)), ..settings(kind) }.check();
        assert_eq!((outbox(Kind::Postgres, 50), outbox(Kind::MySql, 64)), (Ok(()), Ok(())));
        assert_eq!(outbox(Kind::Postgres, 51), Err(Error::Length("outbox", 50)));
        assert_eq!(outbox(Kind::MySql, 0), Err(Error::Length("outbox", 64)));
    }

    #[test]
    fn of_the_url_only_the_place_is_said() {
        let at = |url: &str, kind| Settings { url: url.into(), ..settings(kind) }.database();
        assert_eq!(
            at("postgres://u:secret@db.local/shop?sslmode=require", Kind::Postgres),
            "db.local:5432/shop"
        );
        assert_eq!(at("mysql://u:secret@127.0.0.1:3307/shop", Kind::MySql), "127.0.0.1:3307/shop");
        assert_eq!(at("postgres:///shop?host=/run/pg", Kind::Postgres), "localhost:5432/shop");
    }

    #[test]
    fn settings_that_would_do_nothing_are_refused() {
        let triggers = Settings { mode: Some(Mode::Triggers), ..settings(Kind::Postgres) };
        let cases = [
            (Settings { messages: true, ..triggers.clone() }, "messages"),
            (Settings { slot: Some("s".into()), ..triggers }, "slot"),
            (Settings { full_rows: true, ..settings(Kind::MySql) }, "full_rows"),
            (Settings { wait_until_seen: false, ..settings(Kind::Postgres) }, "wait_until_seen"),
        ];
        for (settings, name) in cases {
            assert_eq!(settings.check(), Err(Error::Idle(name, settings.kind)));
        }
        assert_eq!(Settings { wait_until_seen: false, ..settings(Kind::MySql) }.check(), Ok(()));
        assert_eq!(Settings { messages: true, ..settings(Kind::Postgres) }.check(), Ok(()));
    }
}
