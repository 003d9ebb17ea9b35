//! The rows that are there when a source begins.
//!
//! Owns: that the rows and the position belong together, so that what follows joins without a gap or a repetition.
//! A snapshot that was cut short begins anew, and says so with a truncate event.

use super::captured::Captured;
use super::change::{self, Origin};
use super::connect::{Server, quoted};
use super::fault::fault;
use super::position::Position;
use super::row::column::{base64, is_json, label};
use super::row::image::Row;
use super::schema::{self, Described, Field};
use crate::source::Fault;
use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Column, Conn, Value};
use std::future::Future;
use std::io::Write as _;
use tidings_model::NewEvent;

/// Rows are handed on in lots of so many bytes.
const LOT_BYTES: usize = 4 << 20;
/// The character set that means bytes.
const BINARY: u16 = 63;

/// Takes lots of rows in.
pub trait Sink {
    fn take(&mut self, events: Vec<NewEvent>, bytes: usize)
    -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Opens a transaction that sees everything as it is now, and only that.
pub async fn begin(connection: &mut Conn) -> Result<(), Fault> {
    let words = [
        "set session transaction isolation level repeatable read",
        "start transaction with consistent snapshot, read only",
    ];
    for word in words {
        connection.query_drop(word).await.map_err(fault)?;
    }
    Ok(())
}

/// The same, and where the binary log stands at that moment.
pub async fn begin_at(connection: &mut Conn, server: &Server) -> Result<Position, Fault> {
    if server.is_mariadb {
        begin(connection).await?;
        let query = "select variable_value from information_schema.session_status where variable_name like \
            'binlog_snapshot_%' and variable_name <> 'binlog_snapshot_gtid_executed' order by variable_name";
        let place: Vec<String> = connection.query(query).await.map_err(fault)?;
        let [file, at] = &place[..] else {
            return Err(Fault::setting("the server does not say where its binary log stands in a snapshot"));
        };
        let found: Option<Option<String>> =
            connection.exec_first("select binlog_gtid_pos(?, ?)", (file, at)).await.map_err(fault)?;
        let text = found.flatten().ok_or_else(|| Fault::lost("the binary log was switched meanwhile"))?;
        return Position::mariadb(&text).ok_or_else(|| Fault::lost(format!("{text:?} is no position")));
    }
    // MySQL: nobody may commit between the two.
    connection.query_drop("flush tables with read lock").await.map_err(|error| match fault(error) {
        Fault::Setting(why) => {
            Fault::setting(format!("a snapshot needs the privilege RELOAD for a moment's lock: {why}"))
        }
        lost => lost,
    })?;
    begin(connection).await?;
    let position = now(connection, server).await;
    connection.query_drop("unlock tables").await.map_err(fault)?;
    position
}

/// Where the binary log stands now.
pub async fn now(connection: &mut Conn, server: &Server) -> Result<Position, Fault> {
    let strange = |text: &str| Fault::lost(format!("{text:?} is no position"));
    if server.is_mariadb {
        let text: Option<String> =
            connection.query_first("select @@global.gtid_binlog_pos").await.map_err(fault)?;
        let text = text.unwrap_or_default();
        return Position::mariadb(&text).ok_or_else(|| strange(&text));
    }
    if server.is_set("gtid_mode") == "ON" {
        let text: Option<String> =
            connection.query_first("select @@global.gtid_executed").await.map_err(fault)?;
        let text = text.unwrap_or_default();
        return Position::mysql(&text).ok_or_else(|| strange(&text));
    }
    let query = if server.version >= (8, 4, 0) { "show binary log status" } else { "show master status" };
    let row: Option<mysql_async::Row> = connection.query_first(query).await.map_err(fault)?;
    let place = row.and_then(|row| Some((row.get::<String, _>(0)?, row.get::<u64, _>(1)?)));
    let (name, place) =
        place.ok_or_else(|| Fault::lost("the server does not say where its binary log stands"))?;
    Ok(Position::File { name, place })
}

/// Reads all rows of a table within the transaction that is open.
pub async fn rows(
    connection: &mut Conn,
    captured: &Captured,
    origin: &Origin,
    sink: &mut impl Sink,
) -> Result<(), Fault> {
    let described = schema::describe(connection, &captured.schema, &captured.table).await.map_err(fault)?;
    let names: Vec<String> = described.columns.iter().map(|field| quoted(&field.name)).collect();
    let labels: Vec<Vec<u8>> = described.columns.iter().map(|field| label(&field.name)).collect();
    let key = key(&described);
    let name = |n: usize| described.columns[n].name.as_str();
    let table = format!("{}.{}", quoted(&captured.schema), quoted(&captured.table));
    let query = format!("select {} from {table}", names.join(", "));
    // A prepared statement sends numbers and times as they are stored, not as text.
    let mut rows = connection.exec_iter(query, ()).await.map_err(fault)?;
    let columns = rows.columns().ok_or_else(|| Fault::lost("no columns"))?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(found) = rows.next().await.map_err(fault)? {
        let mut values = found.unwrap().into_iter();
        let mut strange = None;
        let row = Row::build(&labels, |n, out| {
            let value = values.next().unwrap_or(Value::NULL);
            if write(value, &columns[n], &described.columns[n], out).is_err() {
                strange = Some(n);
                out.extend_from_slice(b"null");
            }
        });
        if let Some(n) = strange {
            return Err(Fault::setting(format!("column {} of {table} holds what is no text", names[n])));
        }
        let event = change::present(captured, &key, &name, row, origin);
        bytes += change::weight(&event);
        events.push(event);
        if bytes >= LOT_BYTES {
            sink.take(std::mem::take(&mut events), std::mem::take(&mut bytes)).await?;
        }
    }
    drop(rows);
    if events.is_empty() { Ok(()) } else { sink.take(events, bytes).await }
}

/// The places of the primary key's columns.
fn key(described: &Described) -> Vec<usize> {
    let place = |name: &String| described.columns.iter().position(|field| field.name == *name);
    described.primary_key.iter().filter_map(place).collect()
}

/// A value as the binary log's reader writes it.
fn write(value: Value, column: &Column, field: &Field, out: &mut Vec<u8>) -> Result<(), std::str::Utf8Error> {
    match (value, column.column_type()) {
        (Value::NULL, _) => out.extend_from_slice(b"null"),
        (Value::Int(n), _) => json(n, out),
        (Value::UInt(n), _) => json(n, out),
        (Value::Float(n), _) => json(n, out),
        (Value::Double(n), _) => json(n, out),
        (Value::Date(year, month, day, ..), ColumnType::MYSQL_TYPE_DATE) => {
            let _ = write!(out, "\"{year:04}-{month:02}-{day:02}\"");
        }
        (Value::Date(year, month, day, hour, minute, second, micros), kind) => {
            let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            fraction(micros, column.decimals(), out);
            let is_moment = column.flags().contains(ColumnFlags::TIMESTAMP_FLAG)
                || kind == ColumnType::MYSQL_TYPE_TIMESTAMP;
            out.extend_from_slice(if is_moment { b"Z\"" } else { b"\"" });
        }
        (Value::Time(is_negative, days, hours, minutes, seconds, micros), _) => {
            let (sign, hours) = (if is_negative { "-" } else { "" }, days * 24 + u32::from(hours));
            let _ = write!(out, "\"{sign}{hours:02}:{minutes:02}:{seconds:02}");
            fraction(micros, column.decimals(), out);
            out.push(b'"');
        }
        (Value::Bytes(digits), ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL) => {
            // JSON allows no zeros in front.
            let digits = std::str::from_utf8(&digits)?;
            let (sign, whole) = digits.strip_prefix('-').map_or(("", digits), |whole| ("-", whole));
            let zeros = whole.bytes().take_while(|digit| *digit == b'0').count();
            let is_bare = whole.as_bytes().get(zeros).is_none_or(|next| *next == b'.');
            let _ = write!(out, "{sign}{}", &whole[zeros - usize::from(is_bare && zeros > 0)..]);
        }
        (Value::Bytes(bits), ColumnType::MYSQL_TYPE_BIT) => {
            json(bits.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)), out);
        }
        (Value::Bytes(bytes), ColumnType::MYSQL_TYPE_GEOMETRY) => base64(&bytes, out),
        (Value::Bytes(bytes), ColumnType::MYSQL_TYPE_JSON) => out.extend_from_slice(&bytes),
        (Value::Bytes(bytes), _) if column.character_set() == BINARY => base64(&bytes, out),
        (Value::Bytes(bytes), _) => {
            let text = std::str::from_utf8(&bytes)?;
            if field.is_json && is_json(text) {
                out.extend_from_slice(text.as_bytes());
            } else {
                json(text, out);
            }
        }
    }
    Ok(())
}

fn json(value: impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value).expect("a plain value into memory");
}

fn fraction(micros: u32, digits: u8, out: &mut Vec<u8>) {
    if (1..=6).contains(&digits) {
        let digits = usize::from(digits);
        let _ = write!(out, ".{:0digits$}", micros / 10_u32.pow(6 - digits as u32));
    }
}
