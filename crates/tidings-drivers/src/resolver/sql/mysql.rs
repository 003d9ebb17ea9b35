//! MySQL and MariaDB: connections, parameters as texts, rows as JSON.
//!
//! Owns: the bounds on connecting, and stopping a query whose answer nobody waits for any more.

use super::json::{Object, is_json};
use super::{Ask, failed};
use bytes::Bytes;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, Row, Value};
use std::collections::HashMap;
use std::time::Duration;
use tidings_engine::entities::{Error, Rows};
use tokio::time::timeout;
use url::Url;

/// A connection must be there within this, new or from the pool.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CANCEL_WITHIN: Duration = Duration::from_secs(5);
/// How long an idle connection is kept. Without this time none is.
const IDLE_FOR: Duration = Duration::from_secs(300);
/// What every connection begins with.
const INTRODUCTION: [&str; 2] = ["set session transaction read only", "set time_zone = '+00:00'"];
/// The character set that means bytes.
const BINARY: u16 = 63;
/// A text that was compared with a number and is none, or not as a whole.
const TRUNCATED: u16 = 1292;

/// A MySQL or MariaDB server.
pub struct MySql {
    pool: Pool,
    opts: Opts,
}

/// A connection that is in use. Dropped before [`Lent::give_back`], what it does is cancelled.
struct Lent {
    connection: Option<Conn>,
    opts: Opts,
}

/// Why a query gave no answer.
enum Fault {
    Database(mysql_async::Error),
    /// The id is no number, and was compared with one.
    Truncated,
    Other(Error),
}

impl From<mysql_async::Error> for Fault {
    fn from(error: mysql_async::Error) -> Self {
        Self::Database(error)
    }
}

impl MySql {
    pub fn new(mut url: Url, connections_max: usize) -> Result<Self, super::Error> {
        let refused = || super::Error::Library("not understood by MySQL's client".into());
        url.set_scheme("mysql").map_err(|()| refused())?;
        // Without the library's text: it repeats parts of the URL.
        let opts = Opts::from_url(url.as_str()).map_err(|_| refused())?;
        let constraints = PoolConstraints::new(0, connections_max).expect("at least one connection");
        // Nothing is ever set on a connection after its start, so there is nothing to reset.
        let pool = PoolOpts::default()
            .with_constraints(constraints)
            .with_inactive_connection_ttl(IDLE_FOR)
            .with_reset_connection(false);
        let opts: Opts = OptsBuilder::from_opts(opts)
            .pool_opts(pool)
            .prefer_socket(false)
            .tcp_nodelay(true)
            .setup(INTRODUCTION.to_vec())
            .into();
        Ok(Self { pool: Pool::new(opts.clone()), opts })
    }

    pub async fn fetch(&self, queries: &[String], ask: Ask<'_>, out: Rows) -> Result<(), Error> {
        let connection = timeout(CONNECT_WITHIN, self.pool.get_conn()).await;
        let connection = connection.map_err(|_| failed("no connection in time"))?.map_err(failed)?;
        let mut lent = Lent { connection: Some(connection), opts: self.opts.clone() };
        let done = read_all(lent.connection(), queries, &ask, &out).await;
        // An error that the server has sent ends the query, and the connection is as good as before.
        let is_at_rest = match &done {
            Ok(()) => true,
            Err(Fault::Database(mysql_async::Error::Server(_)) | Fault::Truncated) => {
                queries.len() == 1 || lent.connection().query_drop("rollback").await.is_ok()
            }
            Err(Fault::Database(_) | Fault::Other(_)) => false,
        };
        if is_at_rest {
            lent.give_back();
        }
        done.map_err(|fault| match fault {
            Fault::Database(error) => failed(error),
            Fault::Truncated => Error::Refused,
            Fault::Other(error) => error,
        })
    }
}

impl MySql {
    /// The first two columns of each row that `query` finds with `texts` for its marks.
    pub async fn pairs(&self, query: &str, texts: &[&str]) -> Result<Vec<(String, String)>, Error> {
        let connection = timeout(CONNECT_WITHIN, self.pool.get_conn()).await;
        let connection = connection.map_err(|_| failed("no connection in time"))?.map_err(failed)?;
        let mut lent = Lent { connection: Some(connection), opts: self.opts.clone() };
        let values = texts.iter().map(|text| Value::Bytes(text.as_bytes().to_vec())).collect();
        let rows = lent.connection().exec(query, Params::Positional(values)).await;
        if rows.as_ref().map_or_else(|error| matches!(error, mysql_async::Error::Server(_)), |_| true) {
            lent.give_back();
        }
        rows.map_err(failed)
    }
}

impl Lent {
    fn connection(&mut self) -> &mut Conn {
        self.connection.as_mut().expect("taken only at the end")
    }

    fn give_back(mut self) {
        self.connection = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (id, opts) = (connection.id(), self.opts.clone());
        // Ends by itself within its bound.
        tokio::spawn(timeout(CANCEL_WITHIN, async move {
            let kill = async {
                let mut other = Conn::new(opts).await?;
                other.query_drop(format!("kill {id}")).await?;
                other.disconnect().await
            };
            if let Err(error) = kill.await {
                tracing::debug!(%error, "a query could not be cancelled");
            }
            drop(connection);
        }));
    }
}

async fn read_all(connection: &mut Conn, queries: &[String], ask: &Ask<'_>, out: &Rows) -> Result<(), Fault> {
    if let [query] = queries {
        return read(connection, query, ask, out).await;
    }
    connection.query_drop("start transaction with consistent snapshot, read only").await?;
    for query in queries {
        read(connection, query, ask, out).await?;
    }
    Ok(connection.query_drop("commit").await?)
}

async fn read(connection: &mut Conn, query: &str, ask: &Ask<'_>, out: &Rows) -> Result<(), Fault> {
    let statement = connection.prep(query).await?;
    let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    let parameters = if query.contains(":id") || query.contains(":secret") {
        let named = [(b"id".to_vec(), text(ask.id)), (b"secret".to_vec(), text(ask.secret))];
        Params::Named(HashMap::from(named))
    } else if statement.num_params() == 0 {
        Params::Empty
    } else {
        Params::Positional(vec![text(ask.id); usize::from(statement.num_params())])
    };
    let mut rows = connection.exec_iter(&statement, parameters).await?;
    while let Some(row) = rows.next().await? {
        object(row).and_then(|row| out.push(row)).map_err(Fault::Other)?;
    }
    drop(rows);
    // MySQL takes the text `1; drop table items` for the number 1 where it is compared with a number, and
    // says so in a warning only. Such an id is none of this table's.
    if connection.get_warnings() > 0 && !is_number(ask.id) && warns_of_truncation(connection).await? {
        return Err(Fault::Truncated);
    }
    Ok(())
}

fn is_number(id: &str) -> bool {
    id.parse::<i64>().is_ok() || id.parse::<u64>().is_ok()
}

async fn warns_of_truncation(connection: &mut Conn) -> Result<bool, Fault> {
    let warnings: Vec<(String, u16, String)> = connection.query("show warnings").await?;
    Ok(warnings.iter().any(|(_, code, _)| *code == TRUNCATED))
}

fn object(row: Row) -> Result<Bytes, Error> {
    let columns = row.columns();
    let mut object = Object::new();
    for (column, value) in columns.iter().zip(row.unwrap_raw()) {
        object.name(&column.name_str());
        let is_binary = column.character_set() == BINARY;
        match (value, column.column_type()) {
            (None | Some(Value::NULL), _) => object.null(),
            (Some(Value::Int(n)), _) => object.value(n),
            (Some(Value::UInt(n)), _) => object.value(n),
            (Some(Value::Float(n)), _) => object.value(n),
            (Some(Value::Double(n)), _) => object.value(n),
            (Some(Value::Date(year, month, day, ..)), ColumnType::MYSQL_TYPE_DATE) => {
                object.value(format!("{year:04}-{month:02}-{day:02}"));
            }
            (Some(Value::Date(year, month, day, hour, minute, second, micros)), kind) => {
                let fraction = fraction(micros);
                // Only a TIMESTAMP is a moment; a DATETIME is whatever its writer meant.
                let is_moment = column.flags().contains(ColumnFlags::TIMESTAMP_FLAG)
                    || matches!(kind, ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2);
                let zone = if is_moment { "Z" } else { "" };
                object.value(format!(
                    "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
                ));
            }
            (Some(Value::Time(is_negative, days, hours, minutes, seconds, micros)), _) => {
                let sign = if is_negative { "-" } else { "" };
                let hours = days * 24 + u32::from(hours);
                object.value(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros)));
            }
            // Digits, unless filled up with zeros, which JSON does not allow.
            (
                Some(Value::Bytes(text)),
                ColumnType::MYSQL_TYPE_NEWDECIMAL
                | ColumnType::MYSQL_TYPE_DECIMAL
                | ColumnType::MYSQL_TYPE_JSON,
            ) if is_json(&text) => object.raw(&text),
            (Some(Value::Bytes(bits)), ColumnType::MYSQL_TYPE_BIT) => {
                object.value(bits.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)));
            }
            (Some(Value::Bytes(bytes)), ColumnType::MYSQL_TYPE_GEOMETRY) => object.bytes(&bytes),
            (Some(Value::Bytes(bytes)), _) if is_binary => object.bytes(&bytes),
            (Some(Value::Bytes(text)), _) => object.value(std::str::from_utf8(&text).map_err(failed)?),
        }
    }
    Ok(object.end())
}

fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}") }
}
