//! Esink's environment, as it is: what each of its variables means here.
//!
//! Owns: when a process counts as started Esink's way, and a clear sentence for each value that cannot be taken.
//! Names that any program may have (`PORT`, `NODE_ENV`, `USE_SSL`, `MYSQL_HOST` ...) mean something only beside
//! one that is Esink's alone. Never: prints a value, which may be a password.

use super::layers::Kind;
use super::{Config, ConfigError, Setting};
use std::collections::BTreeMap;
use tidings_model::{RowRule, TopicName};
use toml::{Table, Value};
use url::Url;

/// The port where `PORT` says nothing.
const PORT: u16 = 80;
/// Pages that Esink lets in.
const ORIGIN: &str = "http://localhost:5500";

/// Settings of Esink's interfaces, by their place in `tidings.toml`.
pub(super) const SETTINGS: &[(&str, Kind)] = &[
    ("socketio.enabled", Kind::Truth),
    ("socketio.topics", Kind::List),
    ("socketio.ping_ms", Kind::Number),
    ("socketio.pong_ms", Kind::Number),
    ("socketio.payload_bytes", Kind::Number),
    ("socketio.connect_ms", Kind::Number),
    ("socketio.upgrade_ms", Kind::Number),
    ("socketio.recheck_ms", Kind::Number),
    ("esink.enabled", Kind::Truth),
    ("esink.security_token", Kind::Text),
    ("esink.default_source", Kind::Text),
    ("esink.allow_republishing", Kind::Truth),
    ("esink.test_token", Kind::Truth),
    ("esink.topic", Kind::Text),
    ("esink.filters", Kind::List),
    ("esink.auth_database", Kind::Text),
    ("esink.auth_table", Kind::Text),
    ("esink.auth_column", Kind::Text),
];

/// Variables that are Esink's alone.
const OWN: &[&str] = &[
    "ALLOW_REPUBLISHING",
    "AUTH_COLUMN",
    "AUTH_TABLE",
    "DEFAULT_SOURCE",
    "FILTERS",
    "MYSQL_TABLE_TARGET",
    "POSTGRES_DATABASE_URL",
    "SECURITY_TOKEN",
    "TABLE_AUTH_COLUMN_ROUTING",
    "TABLE_NAMES",
];

/// What the environment says.
#[derive(Debug, Default)]
pub struct Environment {
    pub settings: Vec<Setting>,
    /// An entry of `[[sources]]`; without tables the database is one of `[databases]`, under its name.
    pub source: Option<Table>,
    pub database: Option<(String, Table)>,
    pub sights: Vec<TableSight>,
    pub wants_tls: bool,
    pub is_production: bool,
    /// There is a database, and nothing to capture in it.
    has_no_tables: bool,
}

/// Who sees the rows of a captured table, and which columns stay behind.
#[derive(Debug, Clone)]
pub struct TableSight {
    pub topic: TopicName,
    pub row_rule: RowRule,
    pub filter_columns: Vec<Box<str>>,
}

/// What was said beside Esink's variables.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    pub address: bool,
    pub port: bool,
    pub origins: bool,
}

impl Environment {
    /// Puts the database where the file would have it, in place of one of that name.
    pub fn describe(&mut self, table: &mut Table) {
        const READ: &str = "the file was read before";
        if let Some(source) = self.source.take() {
            let sources = table.entry("sources").or_insert_with(|| Value::Array(Vec::new()));
            let sources = sources.as_array_mut().expect(READ);
            sources.retain(|own| own.get("name") != source.get("name"));
            sources.push(Value::Table(source));
        }
        if let Some((name, database)) = self.database.take() {
            let databases = table.entry("databases").or_insert_with(|| Value::Table(Table::new()));
            databases.as_table_mut().expect(READ).insert(name, Value::Table(database));
        }
    }

    /// Esink's defaults, where nothing else was said.
    pub fn apply(self, said: Said, config: &mut Config) {
        if !said.address {
            config.http.listen.set_ip(std::net::Ipv4Addr::UNSPECIFIED.into());
            tracing::info!("started as Esink is: listening on all addresses; --listen 127.0.0.1 limits that");
        }
        if !said.port {
            config.http.listen.set_port(PORT);
        }
        if !said.origins {
            config.http.origins = vec![ORIGIN.into()];
            tracing::info!(origin = ORIGIN, "started as Esink is: pages of one origin may call");
        }
        if self.is_production && config.esink.test_token {
            tracing::warn!("the token TEST is let in although NODE_ENV is production");
        }
        config.esink.is_at_home = true;
        config.self_signed = self.wants_tls;
        if self.has_no_tables {
            tracing::warn!("started as Esink is, and TABLE_NAMES names no table: nothing is captured");
        }
        config.table_sights = self.sights;
    }
}

/// Variables by name, without the quotes that a compose file leaves around a value.
struct Variables<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).copied().filter(|value| !value.is_empty())
    }

    fn list(&self, name: &str) -> Vec<&'a str> {
        let all = self.get(name).unwrap_or_default().split(',').map(|entry| unquoted(entry.trim()));
        all.filter(|entry| !entry.is_empty()).collect()
    }
}

/// Reads the environment; `None` where nothing in it is Esink's.
pub fn read<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Environment>, ConfigError> {
    let variables = variables.into_iter().map(|(name, value)| (name, unquoted(value.trim())));
    let variables = Variables(variables.collect());
    if !OWN.iter().any(|name| variables.0.contains_key(name)) {
        return Ok(None);
    }
    let mut found = Environment {
        wants_tls: variables.get("USE_SSL").is_some_and(|value| !is_false(value)),
        is_production: variables.get("NODE_ENV") == Some("production"),
        ..Environment::default()
    };
    let mut set = |name: &str, place, values: Vec<String>| {
        found.settings.push(Setting::flag(name, place, values));
    };
    for (name, place) in [
        ("PORT", "port"),
        ("DEFAULT_SOURCE", "esink.default_source"),
        ("SECURITY_TOKEN", "esink.security_token"),
        ("AUTH_TABLE", "esink.auth_table"),
        ("AUTH_COLUMN", "esink.auth_column"),
    ] {
        if let Some(value) = variables.get(name) {
            set(name, place, vec![value.to_owned()]);
        }
    }
    if let Some(value) = variables.get("ALLOW_REPUBLISHING") {
        let is_allowed = truth("ALLOW_REPUBLISHING", value)?;
        set("ALLOW_REPUBLISHING", "esink.allow_republishing", vec![is_allowed.to_string()]);
    }
    let filters = variables.list("FILTERS");
    for entry in &filters {
        column(entry).ok_or_else(|| refuse("FILTERS", &format!("{entry:?} is not `table.column`")))?;
    }
    if !filters.is_empty() {
        set("FILTERS", "esink.filters", filters.iter().map(|&entry| entry.to_owned()).collect());
    }
    let rules = rules(variables.get("TABLE_AUTH_COLUMN_ROUTING").unwrap_or("{}"))?;
    if let Some((said_by, kind, url)) = database(&variables)? {
        let name = source_name(kind, &variables);
        set(said_by, "esink.auth_database", vec![name.clone()]);
        let tables = variables.list("TABLE_NAMES");
        if tables.is_empty() {
            found.has_no_tables = true;
            found.database = Some((name, Table::from_iter([("url".to_owned(), Value::String(url))])));
        } else {
            let inner = if kind == "mysql" { variables.get("MYSQL_DATABASE") } else { Some("public") };
            found.sights = sights(&tables, inner, &filters, rules)?;
            let mut source = source(name, kind, url, tables.iter().copied().zip(&found.sights));
            if kind == "mysql" {
                // As with Esink: its users have no right to read the binary log.
                source.insert("mode".into(), "triggers".into());
                let outbox = variables.get("MYSQL_TABLE_TARGET").unwrap_or("pub_events");
                source.insert("outbox".into(), outbox.into());
            }
            found.source = Some(source);
        }
    }
    Ok(Some(found))
}

/// The database, with the variable that names it. MySQL wins, as with Esink.
fn database(variables: &Variables<'_>) -> Result<Option<(&'static str, &'static str, String)>, ConfigError> {
    let Some(name) = variables.get("MYSQL_DATABASE") else {
        let Some(text) = variables.get("POSTGRES_DATABASE_URL") else { return Ok(None) };
        let said_by = "POSTGRES_DATABASE_URL";
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
        // Without the value: a password may be in it.
        url.ok_or_else(|| refuse(said_by, "not postgres://USER:PASSWORD@HOST:PORT/DATABASE"))?;
        return Ok(Some((said_by, "postgres", text.to_owned())));
    };
    let mut url = Url::parse("mysql://localhost:3306").expect("a URL");
    let host = variables.get("MYSQL_HOST").unwrap_or("localhost");
    url.set_host(Some(host)).map_err(|_| refuse("MYSQL_HOST", "not a host"))?;
    if let Some(port) = variables.get("MYSQL_PORT") {
        let port = port.parse().map_err(|_| refuse("MYSQL_PORT", "a port is a number from 1 to 65535"))?;
        url.set_port(Some(port)).map_err(|()| refuse("MYSQL_PORT", "not a port"))?;
    }
    let user = variables.get("MYSQL_USERNAME").unwrap_or("root");
    url.set_username(user).map_err(|()| refuse("MYSQL_USERNAME", "not a user's name"))?;
    url.set_password(variables.get("MYSQL_PASSWORD"))
        .map_err(|()| refuse("MYSQL_PASSWORD", "not a password"))?;
    url.path_segments_mut().expect("it has a host").push(name);
    Ok(Some(("MYSQL_DATABASE", "mysql", url.to_string())))
}

/// The rules of all tables: JSON, or JSON as people write it (comments, single quotes, commas at the end).
fn rules(text: &str) -> Result<BTreeMap<String, RowRule>, ConfigError> {
    const NAME: &str = "TABLE_AUTH_COLUMN_ROUTING";
    let value: serde_json::Value = json5::from_str(text).map_err(|e| {
        refuse(NAME, &format!("neither JSON nor JSON5: {}", e.to_string().replace('\n', " ")))
    })?;
    let serde_json::Value::Object(tables) = value else {
        return Err(refuse(NAME, "not an object of tables"));
    };
    let rules = tables.into_iter().map(|(table, rule)| {
        let what = format!("the rule of {table:?} is neither a column, nor several in an array, nor \"*\"");
        let rule = match rule {
            serde_json::Value::String(all) if all == "*" => RowRule::Everyone,
            serde_json::Value::String(column) => columns(NAME, vec![column.into()])?,
            serde_json::Value::Array(all) => {
                let names = all.iter().map(|column| column.as_str().map(Into::into)).collect::<Option<_>>();
                columns(NAME, names.ok_or_else(|| refuse(NAME, &what))?)?
            }
            _ => return Err(refuse(NAME, &what)),
        };
        Ok((table, rule))
    });
    rules.collect()
}

fn columns(said_by: &str, names: Vec<Box<str>>) -> Result<RowRule, ConfigError> {
    RowRule::columns(names).map_err(|e| refuse(said_by, &e.to_string()))
}

/// Who sees what of each captured table. One without a rule is for nobody, as with Esink.
fn sights(
    tables: &[&str],
    inner: Option<&str>,
    filters: &[&str],
    mut rules: BTreeMap<String, RowRule>,
) -> Result<Vec<TableSight>, ConfigError> {
    let sight = |&table: &&str| {
        // What the default schema holds is called without it.
        let (schema, name) =
            table.split_once('.').map_or((None, table), |(schema, name)| (Some(schema), name));
        let topic = TopicName::captured(schema.filter(|schema| Some(*schema) != inner), name, "");
        let own = filters.iter().filter_map(|entry| column(entry)).filter(|(of, _)| *of == table);
        Ok(TableSight {
            topic: topic.map_err(|e| refuse("TABLE_NAMES", &format!("{table:?}: {e}")))?,
            row_rule: rules.remove(table).unwrap_or(RowRule::Columns(Vec::new())),
            filter_columns: own.map(|(_, column)| column.into()).collect(),
        })
    };
    tables.iter().map(sight).collect()
}

/// What Esink calls the source of a change: `postgres`, or the name of MySQL's database where that can be one.
fn source_name(kind: &str, variables: &Variables<'_>) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let database = variables.get("MYSQL_DATABASE").filter(|name| name.len() <= 40 && name.chars().all(fits));
    database.unwrap_or(kind).to_owned()
}

/// The entry of `[[sources]]`. It names the columns too, so that one which its table does not have is refused: a filter
/// with a misspelled name would keep nothing back.
fn source<'a>(
    name: String,
    kind: &str,
    url: String,
    tables: impl Iterator<Item = (&'a str, &'a TableSight)>,
) -> Table {
    let list = |names: &[Box<str>]| Value::Array(names.iter().map(|name| name.to_string().into()).collect());
    let tables = tables.map(|(name, sight)| {
        let mut table = Table::from_iter([("name".to_owned(), name.into())]);
        match &sight.row_rule {
            RowRule::Everyone => drop(table.insert("rows".into(), "*".into())),
            // For nobody: there is nothing to look up.
            RowRule::Columns(names) if names.is_empty() => {}
            RowRule::Columns(names) => drop(table.insert("rows".into(), list(names))),
        }
        if !sight.filter_columns.is_empty() {
            table.insert("filter".into(), list(&sight.filter_columns));
        }
        Value::Table(table)
    });
    let mut source = Table::new();
    source.insert("name".into(), name.into());
    source.insert("kind".into(), kind.into());
    source.insert("url".into(), url.into());
    source.insert("tables".into(), Value::Array(tables.collect()));
    if kind == "postgres" {
        // Esink tells of a deleted row what stood in it, and reads in it whom that concerns.
        source.insert("full_rows".into(), true.into());
    }
    source
}

/// Table and column; the last dot divides.
fn column(entry: &str) -> Option<(&str, &str)> {
    entry.rsplit_once('.').filter(|(table, column)| !table.is_empty() && !column.is_empty())
}

/// A value without the pair of quotes around it.
fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn is_false(value: &str) -> bool {
    ["false", "0", "no", "off"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn truth(name: &str, value: &str) -> Result<bool, ConfigError> {
    let is_true = ["true", "1", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word));
    if is_true || is_false(value) { Ok(is_true) } else { Err(refuse(name, "neither true nor false")) }
}

fn refuse(said_by: &str, what: &str) -> ConfigError {
    ConfigError::Value { said_by: said_by.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_esinks_without_a_name_of_its_own() {
        for all in
            [&[("PORT", "1"), ("NODE_ENV", "production")][..], &[("MYSQL_DATABASE", "d"), ("USE_SSL", "1")]]
        {
            assert!(read(all.iter().copied()).unwrap().is_none(), "{all:?}");
        }
        assert!(read([("TABLE_NAMES", "")]).unwrap().is_some());
    }

    #[test]
    fn values_lose_their_quotes_and_mysql_wins() {
        let found = read([
            ("DEFAULT_SOURCE", "'api'"),
            ("TABLE_NAMES", "'users, bankRecords ,'"),
            ("MYSQL_DATABASE", "sh op"),
            ("MYSQL_PASSWORD", "p@ss/w:rd"),
            ("MYSQL_PORT", "33"),
            ("MYSQL_TABLE_TARGET", "'esink_pubsub'"),
            ("POSTGRES_DATABASE_URL", "postgres://h/d"),
            ("USE_SSL", "false"),
            ("ALLOW_REPUBLISHING", "TRUE"),
        ]);
        let found = found.unwrap().unwrap();
        assert!(!found.wants_tls);
        let value = |place| found.settings.iter().find(|s| s.place == place).map(|s| s.values[0].as_str());
        assert_eq!(value("esink.default_source"), Some("api"));
        assert_eq!(value("esink.allow_republishing"), Some("true"));
        assert_eq!(value("esink.auth_database"), Some("mysql"), "`sh op` is no name of a source");
        let source = found.source.unwrap();
        assert_eq!(source["url"].as_str(), Some("mysql://root:p%40ss%2Fw%3Ard@localhost:33/sh%20op"));
        assert_eq!(source["tables"].as_array().unwrap().len(), 2);
        assert_eq!(
            (source["mode"].as_str(), source["outbox"].as_str()),
            (Some("triggers"), Some("esink_pubsub"))
        );
        assert_eq!(found.sights[1].topic.as_str(), "bankRecords");
        assert_eq!(found.sights[1].row_rule, RowRule::Columns(Vec::new()), "no rule is for nobody");
    }

    #[test]
    fn rules_are_read_as_people_write_them() {
        let text =
            "{\n // who\n \"users\": \"id\",\n games: ['a', 'b',], /* all */ 'targetStatuses': '*',\n}";
        let rules = rules(text).unwrap();
        assert_eq!(rules["users"], RowRule::Columns(vec!["id".into()]));
        assert_eq!(rules["games"], RowRule::Columns(vec!["a".into(), "b".into()]));
        assert_eq!(rules["targetStatuses"], RowRule::Everyone);
    }

    #[test]
    fn what_cannot_be_taken_is_named_in_a_sentence() {
        for (name, value, what) in [
            ("TABLE_AUTH_COLUMN_ROUTING", "{", "neither JSON nor JSON5"),
            ("TABLE_AUTH_COLUMN_ROUTING", "[]", "not an object of tables"),
            ("TABLE_AUTH_COLUMN_ROUTING", "{a: 1}", "the rule of \"a\" is neither a column"),
            ("FILTERS", "password", "is not `table.column`"),
            ("ALLOW_REPUBLISHING", "maybe", "neither true nor false"),
            ("POSTGRES_DATABASE_URL", "hush", "not postgres://"),
        ] {
            let error = read([(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(what), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
