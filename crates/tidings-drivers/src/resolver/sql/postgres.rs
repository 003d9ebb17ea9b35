//! PostgreSQL: connections, parameters in the types that a query expects, rows as JSON made by the server.
//!
//! Owns: the bounds on connecting, TLS, and stopping a query whose answer nobody waits for any more.

use super::{Ask, failed};
use crate::postgres::Address;
use bytes::{Bytes, BytesMut};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::TryStreamExt as _;
use std::error::Error as StdError;
use std::pin::pin;
use std::time::Duration;
use tidings_engine::entities::{Error, Rows};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, Column, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

/// A connection must be there within this, new or from the pool.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CANCEL_WITHIN: Duration = Duration::from_secs(5);
/// What every connection begins with.
const INTRODUCTION: &str = "set default_transaction_read_only = on; set timezone = 'UTC'; \
    set datestyle = 'ISO'; set intervalstyle = 'iso_8601'";

/// A PostgreSQL server.
pub struct Postgres {
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
}

/// A connection that is in use. Dropped before [`Lent::give_back`] it is closed, and what it does is cancelled.
struct Lent {
    object: Option<Object>,
    cancel: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

/// Why a query gave no answer.
enum Fault {
    Database(tokio_postgres::Error),
    /// The id is no value of the type that it is compared with.
    Unreadable,
    Other(Error),
}

impl Postgres {
    pub fn new(url: Url, connections_max: usize) -> Result<Self, super::Error> {
        let Address { mut config, tls } = Address::parse(url).map_err(super::Error::Library)?;
        config.connect_timeout(CONNECT_WITHIN);
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &tls {
            Some(tls) => Manager::from_config(config, tls.clone(), settings),
            None => Manager::from_config(config, NoTls, settings),
        };
        let introduce = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move { client.batch_execute(INTRODUCTION).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT_WITHIN))
            .create_timeout(Some(CONNECT_WITHIN))
            .recycle_timeout(Some(CONNECT_WITHIN))
            .post_create(introduce)
            .build()
            .map_err(|e| super::Error::Library(e.to_string()))?;
        Ok(Self { pool, tls })
    }

    pub async fn fetch(&self, queries: &[String], ask: Ask<'_>, out: Rows) -> Result<(), Error> {
        let object = self.pool.get().await.map_err(failed)?;
        let cancel = object.cancel_token();
        let lent = Lent { object: Some(object), cancel, tls: self.tls.clone() };
        let done = read_all(lent.client(), queries, &ask, &out).await;
        // An error that the server has sent ends the query, and the connection is as good as before.
        let is_at_rest = match &done {
            Ok(()) => true,
            Err(Fault::Database(error)) => error.as_db_error().is_some() && lent.rolls_back(queries).await,
            Err(Fault::Unreadable) => lent.rolls_back(queries).await,
            Err(Fault::Other(_)) => false,
        };
        if is_at_rest {
            lent.give_back();
        }
        done.map_err(|fault| match fault {
            Fault::Database(error) => failed(error),
            Fault::Unreadable => Error::Refused,
            Fault::Other(error) => error,
        })
    }
}

impl Postgres {
    /// The first two columns of each row that `query` finds with `$1` read from a text.
    pub async fn pairs(&self, query: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
        let object = self.pool.get().await.map_err(failed)?;
        let cancel = object.cancel_token();
        let lent = Lent { object: Some(object), cancel, tls: self.tls.clone() };
        let done = async {
            let statement = lent.client().prepare_cached(query).await?;
            let rows = lent.client().query(&statement, &[&AsText(text)]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        };
        let done: Result<_, tokio_postgres::Error> = done.await;
        if done.as_ref().map_or_else(|error| error.as_db_error().is_some(), |_| true) {
            lent.give_back();
        }
        match done {
            // A text that is no value of the column's type is in no row.
            Err(error) if is_unreadable(&error) => Ok(Vec::new()),
            done => done.map_err(failed),
        }
    }
}

impl Lent {
    fn client(&self) -> &Object {
        self.object.as_ref().expect("taken only at the end")
    }

    fn give_back(mut self) {
        self.object = None;
    }

    /// Ends a transaction that failed, where there is one.
    async fn rolls_back(&self, queries: &[String]) -> bool {
        queries.len() == 1 || self.client().batch_execute("rollback").await.is_ok()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        // Out of the pool: the rest of an answer would keep the next one waiting.
        drop(Object::take(object));
        let (cancel, tls) = (self.cancel.clone(), self.tls.take());
        // Ends by itself within its bound.
        tokio::spawn(tokio::time::timeout(CANCEL_WITHIN, async move {
            let cancelled = match tls {
                Some(tls) => cancel.cancel_query(tls).await,
                None => cancel.cancel_query(NoTls).await,
            };
            if let Err(error) = cancelled {
                tracing::debug!(%error, "a query could not be cancelled");
            }
        }));
    }
}

async fn read_all(client: &Object, queries: &[String], ask: &Ask<'_>, out: &Rows) -> Result<(), Fault> {
    if let [query] = queries {
        return read(client, query, ask, out).await;
    }
    client.batch_execute("begin isolation level repeatable read read only").await.map_err(Fault::Database)?;
    for query in queries {
        read(client, query, ask, out).await?;
    }
    client.batch_execute("commit").await.map_err(Fault::Database)
}

async fn read(client: &Object, query: &str, ask: &Ask<'_>, out: &Rows) -> Result<(), Fault> {
    let plain = client.prepare_cached(query).await.map_err(Fault::Database)?;
    let parameters = plain.params();
    let texts = match parameters.len() {
        0..=2 => [AsText(ask.id), AsText(ask.secret)],
        _ => return Err(Fault::Other(failed("a query asks for more than $1, the id, and $2, the secret"))),
    };
    if parameters.iter().zip(&texts).any(|(ty, text)| text.fits(ty) == Some(false)) {
        return Ok(());
    }
    // What is left to the server to read may be refused by it, for the same reason.
    let is_trusted = parameters.iter().zip(&texts).all(|(ty, text)| text.fits(ty) == Some(true));
    let statement = client.prepare_cached(&as_json(query, plain.columns())).await.map_err(Fault::Database)?;
    let values = texts[..parameters.len()].iter().map(|text| text as &(dyn ToSql + Sync));
    let done = async {
        let mut rows = pin!(client.query_raw(&statement, values).await.map_err(Fault::Database)?);
        while let Some(row) = rows.try_next().await.map_err(Fault::Database)? {
            let text: &str = row.try_get(0).map_err(Fault::Database)?;
            out.push(Bytes::copy_from_slice(text.as_bytes())).map_err(Fault::Other)?;
        }
        Ok(())
    };
    match done.await {
        Err(Fault::Database(error)) if !is_trusted && is_unreadable(&error) => Err(Fault::Unreadable),
        done => done,
    }
}

/// A query whose rows are JSON texts: PostgreSQL knows every type's JSON, those of extensions included.
fn as_json(query: &str, columns: &[Column]) -> String {
    let has_bytes = columns.iter().any(|column| *column.type_() == Type::BYTEA);
    // The line break ends a comment at the query's end.
    if !has_bytes {
        return format!("select row_to_json(t)::text from (\n{query}\n) t");
    }
    let aliases: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
    let named = columns.iter().zip(&aliases).map(|(column, alias)| {
        let name = column.name().replace('"', "\"\"");
        match *column.type_() == Type::BYTEA {
            true => format!("translate(encode({alias}, 'base64'), E'\\n', '') as \"{name}\""),
            false => format!("{alias} as \"{name}\""),
        }
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let aliases = aliases.join(", ");
    format!("select row_to_json(t)::text from (select {named} from (\n{query}\n) q({aliases})) t")
}

/// A text that the server reads as a value of the type it expects.
#[derive(Debug)]
struct AsText<'a>(&'a str);

impl AsText<'_> {
    /// Whether it is a value of `ty`; `None` where only the server knows.
    fn fits(&self, ty: &Type) -> Option<bool> {
        match *ty {
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => Some(true),
            Type::INT2 => Some(self.0.parse::<i16>().is_ok()),
            Type::INT4 => Some(self.0.parse::<i32>().is_ok()),
            Type::INT8 => Some(self.0.parse::<i64>().is_ok()),
            Type::UUID => Some(uuid::Uuid::try_parse(self.0).is_ok()),
            _ => None,
        }
    }
}

impl ToSql for AsText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Whether a text was no value of the type it was read as.
fn is_unreadable(error: &tokio_postgres::Error) -> bool {
    let states = [
        SqlState::INVALID_TEXT_REPRESENTATION,
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        SqlState::INVALID_DATETIME_FORMAT,
        SqlState::DATETIME_FIELD_OVERFLOW,
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
    ];
    error.code().is_some_and(|code| states.contains(code))
}
