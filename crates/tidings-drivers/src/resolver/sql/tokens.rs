//! Tokens in a table of the application's.
//!
//! Owns: the query, its names quoted, the tokens bound; and that a token counts only as it is written, whatever
//! the database's collation takes for equal. Never: logs a token.

use super::{Error, Kind, Source, failed};
use std::collections::HashMap;
use std::time::Duration;
use tidings_engine::auth::{Found, LookupError, TokenLookup};

/// A look-up takes no longer, whatever the database does.
const FIND_WITHIN: Duration = Duration::from_secs(10);
/// Tokens of one look-up.
const TOKENS_MAX: usize = 500;

/// A table of tokens, where its rows have an `id`.
struct Tokens {
    source: Source,
    table: String,
    column: String,
}

impl Source {
    /// Looks up tokens in `column` of `table`, which may have a schema before a dot.
    ///
    /// # Errors
    /// When the database is of a kind that has no such look-up, or a name is empty.
    pub fn tokens(&self, table: &str, column: &str) -> Result<impl TokenLookup + use<>, Error> {
        let quote: fn(&str) -> String = match self.0 {
            Kind::Postgres(_) => |name| format!("\"{}\"", name.replace('"', "\"\"")),
            Kind::MySql(_) => |name| format!("`{}`", name.replace('`', "``")),
            Kind::Sqlite(_) => return Err(Error::NoTokens),
        };
        if column.is_empty() || table.split('.').any(str::is_empty) {
            return Err(Error::NameEmpty);
        }
        let table = table.split('.').map(quote).collect::<Vec<_>>().join(".");
        Ok(Tokens { source: self.clone(), table, column: quote(column) })
    }
}

impl TokenLookup for Tokens {
    fn tokens_max(&self) -> usize {
        TOKENS_MAX
    }

    fn find<'a>(&'a self, tokens: &'a [&'a str]) -> Found<'a> {
        Box::pin(async move {
            let ask = self.rows(tokens);
            let rows = tokio::time::timeout(FIND_WITHIN, ask)
                .await
                .unwrap_or_else(|_| Err(failed("no answer in time")));
            let rows = rows.map_err(|error| LookupError(error.to_string()))?;
            let mut found: HashMap<String, Option<String>> = HashMap::new();
            for (token, id) in rows {
                // A second row makes it nobody's.
                found.entry(token).and_modify(|id| *id = None).or_insert(Some(id));
            }
            let asked = found.into_iter().filter(|(token, _)| tokens.contains(&token.as_str()));
            Ok(asked.filter_map(|(token, id)| Some((token, id?))).collect())
        })
    }
}

impl Tokens {
    async fn rows(&self, tokens: &[&str]) -> Result<Vec<(String, String)>, tidings_engine::entities::Error> {
        let Self { source, table, column } = self;
        match &source.0 {
            Kind::Postgres(database) => {
                let query =
                    format!("select {column}::text, \"id\"::text from {table} where {column} = any($1)");
                database.pairs(&query, &array(tokens)).await
            }
            Kind::MySql(database) => {
                let marks = vec!["?"; tokens.len()].join(",");
                let query = format!(
                    "select cast({column} as char), cast(`id` as char) from {table} where {column} in ({marks})"
                );
                database.pairs(&query, tokens).await
            }
            Kind::Sqlite(_) => Err(failed("refused when it was set up")),
        }
    }
}

/// A PostgreSQL array of texts, as a text.
fn array(texts: &[&str]) -> String {
    let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}
