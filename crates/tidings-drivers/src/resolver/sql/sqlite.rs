//! SQLite: files opened read-only, asked on threads that may block.
//!
//! Owns: idle connections, and stopping a query whose answer nobody waits for any more.

use super::json::{Object, is_json};
use super::{Ask, failed};
use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle, OpenFlags, Row, Statement, ToSql};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidings_engine::entities::{Error, Rows};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How long a query waits for somebody who writes.
const BUSY_WITHIN: Duration = Duration::from_secs(5);

/// A database file.
pub struct Sqlite {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// Stops the query when dropped.
struct Interrupt(Option<InterruptHandle>);

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

impl Sqlite {
    /// `file` is what follows `sqlite:`, with or without the two slashes of a URL.
    pub fn new(file: &str, connections_max: usize) -> Self {
        let path = file.strip_prefix("//").unwrap_or(file).into();
        Self { path, idle: Mutex::default(), permits: Arc::new(Semaphore::new(connections_max)) }
    }

    pub async fn fetch(&self, queries: &[String], ask: Ask<'_>, out: Rows) -> Result<(), Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("never closed");
        let idle = self.idle.lock().expect("no panic while holding the lock").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let path = self.path.clone();
                spawn_blocking(move || open(&path)).await.expect("no panic").map_err(failed)?
            }
        };
        let mut interrupt = Interrupt(Some(connection.get_interrupt_handle()));
        let (queries, id, secret) = (queries.to_vec(), ask.id.to_owned(), ask.secret.to_owned());
        let work = move || {
            // Held by the thread, not by the caller: who gives up does not make room at once.
            let _permit = permit;
            let done = read(&connection, &queries, &id, &secret, &out);
            (connection, done)
        };
        let (connection, done) = spawn_blocking(work).await.expect("no panic");
        interrupt.0 = None;
        self.idle.lock().expect("no panic while holding the lock").push(connection);
        done
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WITHIN)?;
    Ok(connection)
}

fn read(
    connection: &Connection,
    queries: &[String],
    id: &str,
    secret: &str,
    out: &Rows,
) -> Result<(), Error> {
    // Dropped at the end, which ends it: there is nothing to commit.
    let _transaction = connection.unchecked_transaction().map_err(failed)?;
    for query in queries {
        let mut statement = connection.prepare_cached(query).map_err(failed)?;
        let is_json: Vec<bool> = statement.columns().map(|c| is_json_type(c.decl_type())).collect();
        bind(&mut statement, id, secret)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            out.push(object(row, &is_json)?)?;
        }
    }
    Ok(())
}

fn is_json_type(declared: Option<&str>) -> bool {
    declared.is_some_and(|name| name.eq_ignore_ascii_case("json"))
}

fn bind(statement: &mut Statement<'_>, id: &str, secret: &str) -> Result<(), Error> {
    for index in 1..=statement.parameter_count() {
        let value: &dyn ToSql = match statement.parameter_name(index) {
            None | Some("?1" | ":id") => &id,
            Some("?2" | ":secret") => &secret,
            Some(other) => return Err(failed(format!("a query asks for {other}, which is not known"))),
        };
        statement.raw_bind_parameter(index, value).map_err(failed)?;
    }
    Ok(())
}

fn object(row: &Row<'_>, is_json_column: &[bool]) -> Result<Bytes, Error> {
    let mut object = Object::new();
    for (index, is_json_column) in is_json_column.iter().enumerate() {
        object.name(row.as_ref().column_name(index).map_err(failed)?);
        match row.get_ref(index).map_err(failed)? {
            ValueRef::Null => object.null(),
            ValueRef::Integer(n) => object.value(n),
            ValueRef::Real(n) => object.value(n),
            ValueRef::Text(text) if *is_json_column && is_json(text) => object.raw(text),
            ValueRef::Text(text) => object.value(std::str::from_utf8(text).map_err(failed)?),
            ValueRef::Blob(bytes) => object.bytes(bytes),
        }
    }
    Ok(object.end())
}
