//! Which driver a setting means.
//!
//! Owns: the databases and the HTTP client that all entities share. Never: prints a URL.

use crate::Embedded;
use crate::config::{self, Config, Entity, SharedSecret};
use crate::entities::{EntitiesError, refuse};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tidings_drivers::bus;
use tidings_drivers::resolver::http::{self, Http};
use tidings_drivers::resolver::sql;
use tidings_engine::bus::Bus;
use tidings_engine::entities::{PassThrough, Resolver};

/// The bus at `url`.
pub fn bus(url: &SharedSecret, prefix: &str, embedded: &Embedded) -> Result<Arc<dyn Bus>, EntitiesError> {
    let settings = bus::Settings { url: url.expose().to_owned(), prefix: prefix.to_owned() };
    Ok(bus::open(&settings, embedded.services()).map_err(|e| refuse("bus.url", e))?)
}

/// Where rows can come from.
pub struct Origins {
    databases: HashMap<String, sql::Source>,
    /// Made for the first that needs it: reading the system's certificates takes most of a start.
    http: OnceLock<Http>,
}

impl Origins {
    pub fn open(config: &Config) -> Result<Self, EntitiesError> {
        let mut databases = HashMap::new();
        let open = |url: &SharedSecret, connections_max, place: String| {
            let settings = sql::Settings { url: url.expose().to_owned(), connections_max };
            sql::Source::open(&settings).map_err(|e| refuse(place, e))
        };
        for source in &config.sources {
            let place = format!("sources, {:?}, url", source.name);
            databases.insert(source.name.clone(), open(&source.url, config::CONNECTIONS_MAX, place)?);
        }
        for (name, database) in &config.databases {
            let place = format!("databases.{name}.url");
            databases.insert(name.clone(), open(&database.url, database.connections_max, place)?);
        }
        Ok(Self { databases, http: OnceLock::new() })
    }

    /// The resolver that `entity` names by `http` or `database`.
    pub fn resolver(&self, place: &str, entity: &Entity) -> Result<Arc<dyn Resolver>, EntitiesError> {
        if let Some(url) = &entity.http {
            let settings = http::Settings {
                url: url.clone(),
                secret_matters: entity.secret.unwrap_or(true),
                body_bytes_max: entity.settings().bytes_max,
            };
            return self.http()?.resolver(&settings).map_err(|e| refuse(format!("{place}.http"), e));
        }
        let name = entity.database.as_deref().unwrap_or_default();
        let database = self.database(&format!("{place}.database"), name)?;
        database.resolver(&entity.all_queries()).map_err(|e| refuse(format!("{place}.queries"), e))
    }

    fn http(&self) -> Result<&Http, EntitiesError> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let http = Http::new().map_err(|e| refuse("entities", e))?;
        Ok(self.http.get_or_init(|| http))
    }

    /// The database of that name.
    pub fn database(&self, place: &str, name: &str) -> Result<&sql::Source, EntitiesError> {
        self.databases.get(name).ok_or_else(|| refuse(place, format!("there is no [databases.{name}]")))
    }

    /// Hands messages to an endpoint.
    pub fn pass_through(&self, url: &str) -> Result<Arc<dyn PassThrough>, EntitiesError> {
        self.http()?.pass_through(url).map_err(|e| refuse("entities.pass_through", e))
    }
}
