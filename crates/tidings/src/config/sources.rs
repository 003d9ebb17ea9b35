//! Settings under `[[sources]]`: databases whose changes become events.

use super::SharedSecret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tidings_drivers::source::{self, Kind, Mode, Settings};
use tidings_model::RowRule;

/// One `[[sources]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Names its marks in the log, its slot and its tables in the database. Never change it.
    pub name: String,
    pub kind: SourceKind,
    /// `postgres://` or `mysql://`; never printed.
    pub url: SharedSecret,
    pub mode: Option<SourceMode>,
    #[serde(default)]
    pub tables: Vec<Table>,
    #[serde(default)]
    pub prefix: String,
    #[serde(default)]
    pub snapshot: bool,
    pub slot: Option<String>,
    pub publication: Option<String>,
    #[serde(default)]
    pub full_rows: bool,
    #[serde(default)]
    pub messages: bool,
    pub wait_until_seen: Option<bool>,
    pub outbox: Option<String>,
    pub poll_ms: Option<u64>,
    pub heartbeat_ms: Option<u64>,
    pub retained_bytes_alarm: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    #[serde(alias = "postgresql")]
    Postgres,
    #[serde(alias = "mariadb")]
    MySql,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceMode {
    Logical,
    Binlog,
    Triggers,
}

/// A table: its name alone, or a table of settings.
#[derive(Debug, Clone)]
pub enum Table {
    Name(String),
    Full(TableSettings),
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let refuse = |e: toml::de::Error| D::Error::custom(format!("a table of a source: {}", e.message()));
        match toml::Value::deserialize(from)? {
            toml::Value::String(name) => Ok(Self::Name(name)),
            table @ toml::Value::Table(_) => table.try_into().map(Self::Full).map_err(refuse),
            _ => Err(D::Error::custom(
                "a table of a source is a name or {name = ..., rows = ..., filter = ...}",
            )),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    pub name: String,
    /// Columns that hold the id of whoever may see the row; `*`: everyone with the grant.
    pub rows: Option<RowRule>,
    /// Columns that are taken out before anything is stored.
    pub filter: Option<Vec<Box<str>>>,
}

impl Source {
    /// The same for the driver.
    pub fn settings(&self) -> Result<Settings, String> {
        let kind = match self.kind {
            SourceKind::Postgres => Kind::Postgres,
            SourceKind::MySql => Kind::MySql,
        };
        let mode = match (self.mode, kind) {
            (None, _) => None,
            (Some(SourceMode::Triggers), _) => Some(Mode::Triggers),
            (Some(SourceMode::Logical), Kind::Postgres) | (Some(SourceMode::Binlog), Kind::MySql) => {
                Some(Mode::Stream)
            }
            (Some(_), Kind::Postgres) => return Err("the modes of postgres are logical and triggers".into()),
            (Some(_), Kind::MySql) => return Err("the modes of mysql are binlog and triggers".into()),
        };
        let tables = self.tables.iter().map(|table| match table {
            Table::Name(name) => source::Table { name: name.clone(), rows: None, filter: None },
            Table::Full(TableSettings { name, rows, filter }) => {
                source::Table { name: name.clone(), rows: rows.clone(), filter: filter.clone() }
            }
        });
        Ok(Settings {
            name: self.name.clone(),
            kind,
            mode,
            url: self.url.expose().to_owned(),
            tables: tables.collect(),
            prefix: self.prefix.clone(),
            snapshot: self.snapshot,
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            full_rows: self.full_rows,
            messages: self.messages,
            wait_until_seen: self.wait_until_seen.unwrap_or(true),
            outbox: self.outbox.clone(),
            poll_ms: self.poll_ms.unwrap_or(250),
            heartbeat_ms: self.heartbeat_ms.unwrap_or(10_000),
            retained_bytes_alarm: self.retained_bytes_alarm.unwrap_or(1 << 30),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_names_or_settings_and_modes_belong_to_their_kind() {
        let text = "name = \"shop\"\nkind = \"postgres\"\nurl = \"postgres://h/d\"\n\
                    tables = [\"orders\", {name = \"sales.items\", rows = [\"owner\"], filter = [\"secret\"]}]";
        let source: Source = toml::from_str(text).unwrap();
        let settings = source.settings().unwrap();
        assert_eq!(settings.tables[1].name, "sales.items");
        assert_eq!(settings.check(), Ok(()));
        let binlog: Source = toml::from_str(&format!("{text}\nmode = \"binlog\"")).unwrap();
        assert!(binlog.settings().err().unwrap().contains("logical and triggers"));
        assert!(!format!("{source:?}").contains("postgres://"));
        assert!(toml::from_str::<Source>(&text.replace("{name", "{nane")).is_err());
    }
}
