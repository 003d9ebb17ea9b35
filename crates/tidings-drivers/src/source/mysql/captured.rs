//! Which tables are captured, and under which topics.

use super::connect::{Place, quoted};
use super::fault::fault;
use crate::source::roster::Known;
use crate::source::{Fault, Settings};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use std::sync::Arc;
use tidings_model::TopicName;

/// One table that is captured, by the names that the server itself uses.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Captured {
    pub schema: String,
    pub table: String,
    pub topic: TopicName,
}

impl Captured {
    /// How the roster knows it.
    pub fn entry(&self) -> (&TopicName, Known) {
        (&self.topic, Known::default())
    }
}

/// Finds the tables that the settings name, in their order.
pub async fn find(
    connection: &mut Conn,
    place: &Place,
    settings: &Settings,
) -> Result<Vec<Arc<Captured>>, Fault> {
    let mut all = Vec::with_capacity(settings.tables.len());
    for wanted in &settings.tables {
        let (schema, table) = find_one(connection, &place.database, &wanted.name).await?;
        // Seen is not readable: its columns would be hidden.
        let look = format!("select 1 from {}.{} limit 0", quoted(&schema), quoted(&table));
        connection.query_drop(look).await.map_err(fault)?;
        let outer = (schema != place.database).then_some(schema.as_str());
        let topic = TopicName::captured(outer, &table, &settings.prefix)
            .map_err(|why| Fault::setting(format!("table `{}` cannot be a topic: {why}", wanted.name)))?;
        let query = "select column_name from information_schema.columns where table_schema = ? and table_name = ? \
            order by ordinal_position";
        let columns: Vec<String> = connection.exec(query, (&schema, &table)).await.map_err(fault)?;
        wanted.check_columns(&columns)?;
        all.push(Arc::new(Captured { schema, table, topic }));
    }
    Ok(all)
}

/// A name is a table of the URL's database, or, where there is none, a table of the database before its first dot.
async fn find_one(connection: &mut Conn, database: &str, name: &str) -> Result<(String, String), Fault> {
    let dots = name.match_indices('.').map(|(at, _)| (&name[..at], &name[at + 1..]));
    for (schema, table) in std::iter::once((database, name)).chain(dots) {
        let found: Option<(String, String, String)> = connection
            .exec_first(
                "select table_schema, table_name, table_type from information_schema.tables \
                 where table_schema = ? and table_name = ?",
                (schema, table),
            )
            .await
            .map_err(fault)?;
        match found {
            Some((schema, table, kind)) if kind == "BASE TABLE" || kind == "SYSTEM VERSIONED" => {
                return Ok((schema, table));
            }
            Some(_) => {
                return Err(Fault::setting(format!(
                    "`{name}` is a view, and views have no changes of their own; name its tables in `tables`"
                )));
            }
            None => {}
        }
    }
    Err(Fault::setting(format!(
        "there is no table `{name}` in database `{database}`, or the database user may not see it; correct `tables`, \
         or grant SELECT on it"
    )))
}
