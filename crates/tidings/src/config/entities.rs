//! Settings of entities: the door, where rows come from, and the bus between servers.
//!
//! In `[entities]` the words are settings of the door, and each table in it, such as `[entities.items]`, is a
//! kind of entity. Never: opens a connection.

use super::SharedSecret;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use tidings_engine::entities::Settings;
use tidings_server::EntitySync;

/// Settings under `[entities]`.
#[derive(Debug, Clone, Default)]
pub struct Entities {
    pub door: EntitySync,
    /// Where messages go that are none of entity-sync's: an `http://` endpoint, or `topic:NAME`.
    pub pass_through: Option<String>,
    /// By name.
    pub kinds: BTreeMap<String, Entity>,
}

impl<'de> Deserialize<'de> for Entities {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(from)?;
        let (kinds, mut door): (toml::Table, toml::Table) =
            table.into_iter().partition(|(_, value)| value.is_table());
        let pass_through = match door.remove("pass_through") {
            None => None,
            Some(toml::Value::String(to)) => Some(to),
            Some(_) => return Err(D::Error::custom("entities.pass_through is a text")),
        };
        let refuse = |place: &str, e: &toml::de::Error| D::Error::custom(format!("{place}: {}", e.message()));
        let door = toml::Value::Table(door).try_into().map_err(|e: toml::de::Error| {
            // The door does not know of the word that was taken out above.
            let what = e.message().replacen("expected one of ", "expected one of `pass_through`, ", 1);
            D::Error::custom(format!("entities: {what}"))
        })?;
        let kinds = kinds.into_iter().map(|(name, value)| {
            let kind = value.try_into().map_err(|e| refuse(&format!("entities.{name}"), &e))?;
            Ok((name, kind))
        });
        Ok(Self { door, pass_through, kinds: kinds.collect::<Result<_, D::Error>>()? })
    }
}

/// Settings under `[entities.NAME]`: where the rows of one kind of entity come from. One of `http`, `database`
/// with queries, and `topic`; `topic` beside another one only says when they have changed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entity {
    /// An endpoint of the application, with `{id}` in its path or query.
    pub http: Option<String>,
    /// Whether the endpoint's answer depends on the client's secret.
    pub secret: Option<bool>,
    /// A database of `[databases]` or the name of a source, and what to ask it.
    pub database: Option<String>,
    pub query: Option<String>,
    pub queries: Vec<String>,
    /// The newest event of the id in this topic; every event there is a change.
    pub topic: Option<String>,
    pub timeout_ms: Option<u64>,
    pub fetches_at_once: Option<usize>,
    pub rows_max: Option<usize>,
    pub bytes_max: Option<usize>,
}

impl Entity {
    /// The bounds, with the usual ones where none are set.
    pub fn settings(&self) -> Settings {
        let usual = Settings::default();
        Settings {
            timeout_ms: self.timeout_ms.unwrap_or(usual.timeout_ms),
            fetches_at_once: self.fetches_at_once.unwrap_or(usual.fetches_at_once),
            rows_max: self.rows_max.unwrap_or(usual.rows_max),
            bytes_max: self.bytes_max.unwrap_or(usual.bytes_max),
        }
    }

    /// All queries in order.
    pub fn all_queries(&self) -> Vec<String> {
        self.query.iter().chain(&self.queries).cloned().collect()
    }
}

/// Settings under `[bus]`: the queue that servers share.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// `nats://`, `nsq://` or `redis://`; never printed, since a password may be in it. None: this server is alone.
    pub url: Option<SharedSecret>,
    /// Begins every name on the queue.
    pub prefix: String,
}

/// Connections to a database at once, where nothing else is said.
pub const CONNECTIONS_MAX: usize = 8;

/// Settings under `[databases.NAME]`: a database that entities ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://`, `mysql://` or `sqlite:FILE`; never printed.
    pub url: SharedSecret,
    #[serde(default = "connections_max")]
    pub connections_max: usize,
}

fn connections_max() -> usize {
    CONNECTIONS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_doors_and_tables_are_kinds() {
        let text =
            "path = \"/es/\"\nauth = \"jwt\"\n[items]\ntopic = \"items\"\ntimeout_ms = 5\n[r]\nhttp = \"u\"";
        let entities: Entities = toml::from_str(text).unwrap();
        assert_eq!(entities.door.path, "/es/");
        assert_eq!(entities.kinds["items"].settings().timeout_ms, 5);
        assert_eq!(entities.kinds["items"].settings().rows_max, Settings::default().rows_max);
        assert_eq!(entities.kinds["r"].http.as_deref(), Some("u"));
    }

    #[test]
    fn unknown_words_are_refused_with_their_place() {
        for (text, place) in [
            ("pathh = \"/\"", "entities: unknown field `pathh`, expected one of `pass_through`, `enabled`"),
            ("[items]\ntopics = \"x\"", "entities.items: unknown field `topics`"),
            ("auth = \"basic\"", "entities: unknown variant `basic`"),
        ] {
            let error = toml::from_str::<Entities>(text).unwrap_err().to_string();
            assert!(error.contains(place), "{error}");
        }
    }
}
