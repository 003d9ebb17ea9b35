//! Rows by SQL: queries of the configuration, asked of PostgreSQL, MySQL, MariaDB or SQLite.
//!
//! Owns: which URL means which database, and what a query may ask for: the id, and the client's secret.
//! Both are bound, never spliced into the text. A row becomes a JSON object, its columns in the query's order;
//! numbers keep all their digits, times are RFC 3339 in UTC, bytes are base64.
//! Never: writes. Connections are opened read-only.

mod json;
mod mysql;
mod postgres;
mod sqlite;
mod tokens;

use std::sync::Arc;
use tidings_engine::entities::{self, Answer, Resolver, Rows, Secret};
use tidings_model::EntityKey;
use url::Url;

/// A database to connect to.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://`, `mysql://` or `sqlite:`; MariaDB is `mysql://` too.
    pub url: String,
    /// Connections at once.
    pub connections_max: usize,
}

/// What makes a database or a query useless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("not a URL: {0}")]
    Url(url::ParseError),
    #[error("a database begins with postgres://, mysql:// or sqlite:, not {0}:")]
    Scheme(String),
    #[error("the database's URL: {0}")]
    Library(String),
    #[error("an entity needs at least one query")]
    NoQuery,
    #[error("at least one connection is needed")]
    NoConnection,
    #[error("tokens are looked up in PostgreSQL, MySQL or MariaDB")]
    NoTokens,
    #[error("the name of a table or column is empty")]
    NameEmpty,
}

/// A database with its connections, made when they are needed. Cheap to clone.
#[derive(Clone)]
pub struct Source(Kind);

#[derive(Clone)]
enum Kind {
    Postgres(Arc<postgres::Postgres>),
    MySql(Arc<mysql::MySql>),
    Sqlite(Arc<sqlite::Sqlite>),
}

/// What a fetch may ask with.
struct Ask<'a> {
    id: &'a str,
    secret: &'a str,
}

/// One entity's queries.
struct Sql {
    source: Source,
    queries: Vec<String>,
    secret_matters: bool,
}

impl Source {
    /// Connects to nothing yet: the database may be down, now or later.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let connections = settings.connections_max;
        if connections == 0 {
            return Err(Error::NoConnection);
        }
        // Checked first, because a file's name need not be a URL's path.
        if let Some(file) = settings.url.strip_prefix("sqlite:") {
            return Ok(Self(Kind::Sqlite(Arc::new(sqlite::Sqlite::new(file, connections)))));
        }
        let url = Url::parse(&settings.url).map_err(Error::Url)?;
        match url.scheme() {
            "postgres" | "postgresql" => {
                Ok(Self(Kind::Postgres(Arc::new(postgres::Postgres::new(url, connections)?))))
            }
            "mysql" | "mariadb" => Ok(Self(Kind::MySql(Arc::new(mysql::MySql::new(url, connections)?)))),
            other => Err(Error::Scheme(other.to_owned())),
        }
    }

    /// Fetches an entity by `queries`, whose rows follow each other. More than one are asked in one
    /// transaction, so that they see the same state.
    ///
    /// The id is `$1` (PostgreSQL), `?` or `:id` (MySQL), `?1` or `:id` (SQLite); the secret is `$2`, `:secret`
    /// and `?2` or `:secret`. Rows are shared by all clients unless a query asks for the secret.
    pub fn resolver(&self, queries: &[String]) -> Result<Arc<dyn Resolver>, Error> {
        if queries.is_empty() {
            return Err(Error::NoQuery);
        }
        let marks: &[&str] = match self.0 {
            Kind::Postgres(_) => &["$2"],
            Kind::MySql(_) => &[":secret"],
            Kind::Sqlite(_) => &["?2", ":secret"],
        };
        let secret_matters = queries.iter().any(|text| marks.iter().any(|mark| text.contains(mark)));
        let queries = queries.iter().map(|text| text.trim().trim_end_matches(';').to_owned()).collect();
        Ok(Arc::new(Sql { source: self.clone(), queries, secret_matters }))
    }
}

impl Resolver for Sql {
    fn secret_matters(&self) -> bool {
        self.secret_matters
    }

    fn fetch<'a>(&'a self, key: &'a EntityKey, secret: &'a Secret, out: Rows) -> Answer<'a> {
        let ask = Ask { id: key.id.as_str(), secret: secret.expose() };
        match &self.source.0 {
            Kind::Postgres(source) => Box::pin(source.fetch(&self.queries, ask, out)),
            Kind::MySql(source) => Box::pin(source.fetch(&self.queries, ask, out)),
            Kind::Sqlite(source) => Box::pin(source.fetch(&self.queries, ask, out)),
        }
    }
}

/// With its causes: the pool's own text says only that there is no connection.
fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> entities::Error {
    entities::Error::Failed(tidings_engine::told(&*error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str) -> Result<Source, Error> {
        Source::open(&Settings { url: url.into(), connections_max: 1 })
    }

    #[tokio::test]
    async fn a_useless_url_is_refused_without_repeating_a_password() {
        for url in [
            "postgres//h",
            "oracle://me:hush@h/db",
            "postgres://me:hush@h/db?sslmode=maybe",
            "postgres://me:hush@h/db?hush=1",
            "mysql://me:hush@h/db?hush=1",
        ] {
            let text = source(url).err().expect(url).to_string();
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[tokio::test]
    async fn rows_are_shared_unless_a_query_asks_for_the_secret() {
        for (url, query, matters) in [
            ("postgres://localhost/db", "select 1 where $1 = ''", false),
            ("postgres://localhost/db", "select 1 where $1 = $2", true),
            ("mysql://localhost/db", "select ?", false),
            ("mysql://localhost/db", "select :id, :secret", true),
            ("sqlite:a.db", "select ?1", false),
            ("sqlite:a.db", "select ?1, ?2", true),
        ] {
            let resolver = source(url).unwrap().resolver(&[query.to_owned()]).unwrap();
            assert_eq!(resolver.secret_matters(), matters, "{query}");
        }
        assert_eq!(source("sqlite:a.db").unwrap().resolver(&[]).err(), Some(Error::NoQuery));
    }
}
