//! Triggers: what they are called, what they write, and bringing the database to it.
//!
//! A trigger never fails the statement that fires it: what goes wrong is written down in short, or not at all.

use super::super::captured::Captured;
use super::super::connect::{Server, literal, quoted};
use super::super::fault::fault;
use super::super::schema::{Described, Field};
use super::outbox::Outbox;
use crate::source::Fault;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use std::fmt::Write as _;

/// Names have at most so many characters.
const NAME_CHARS: usize = 64;

/// The three triggers of a table.
const EVENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// Creates or renews the triggers of one table. Says whether there was anything to do.
pub async fn install(
    connection: &mut Conn,
    server: &Server,
    outbox: &Outbox,
    captured: &Captured,
    described: &Described,
) -> Result<bool, Fault> {
    let existing: Vec<(String, String)> = connection
        .exec(
            "select trigger_name, action_statement from information_schema.triggers \
             where event_object_schema = ? and event_object_table = ?",
            (&captured.schema, &captured.table),
        )
        .await
        .map_err(fault)?;
    let table = format!("{}.{}", quoted(&captured.schema), quoted(&captured.table));
    let ours = EVENTS.map(|event| trigger_name(&outbox.table, &captured.table, event));
    for (trigger, statement) in existing.iter().filter(|(name, _)| !ours.contains(name)) {
        if statement.to_lowercase().contains(&outbox.table.to_lowercase()) {
            let outbox = &outbox.table;
            tracing::warn!(
                table,
                trigger,
                outbox,
                "a trigger of somebody else's fills the same table; if it tells of changes too, each is told twice: drop it"
            );
        }
    }
    let mut is_changed = false;
    for event in EVENTS {
        let name = trigger_name(&outbox.table, &captured.table, event);
        let body = body(outbox, captured, described, event);
        let there = existing.iter().find(|(one, _)| *one == name);
        if there.is_some_and(|(_, statement)| *statement == body) {
            continue;
        }
        is_changed = true;
        let trigger = format!("{}.{}", quoted(&captured.schema), quoted(&name));
        let create = |how| format!("{how} {trigger} after {event} on {table} for each row {body}");
        if server.is_mariadb {
            connection.query_drop(create("create or replace trigger")).await.map_err(fault)?;
            continue;
        }
        // Nobody writes between the old one and the new.
        connection.query_drop(format!("lock tables {table} write")).await.map_err(fault)?;
        let mut done = Ok(());
        if there.is_some() {
            done = connection.query_drop(format!("drop trigger if exists {trigger}")).await;
        }
        if done.is_ok() {
            done = connection.query_drop(create("create trigger")).await;
        }
        connection.query_drop("unlock tables").await.map_err(fault)?;
        done.map_err(fault)?;
    }
    Ok(is_changed)
}

/// Whether a table has all its triggers: without them it changes unheard.
pub async fn hears(connection: &mut Conn, outbox: &Outbox, captured: &Captured) -> Result<bool, Fault> {
    let [insert, update, delete] = EVENTS.map(|event| trigger_name(&outbox.table, &captured.table, event));
    let query = "select count(*) from information_schema.triggers where event_object_schema = ? \
        and event_object_table = ? and trigger_name in (?, ?, ?)";
    let of = (&captured.schema, &captured.table, insert, update, delete);
    let found: Option<u64> = connection.exec_first(query, of).await.map_err(fault)?;
    Ok(found == Some(3))
}

/// Removes the triggers that fill this table from tables that are not captured any more.
pub async fn remove_others<'a>(
    connection: &mut Conn,
    outbox: &Outbox,
    captured: impl Iterator<Item = &'a Captured> + Clone,
) -> Result<(), Fault> {
    let all: Vec<(String, String, String, String, String)> = connection
        .query(
            "select trigger_schema, trigger_name, event_object_schema, event_object_table, action_statement \
             from information_schema.triggers",
        )
        .await
        .map_err(fault)?;
    let mark = outbox.mark();
    for (schema, name, of, table, statement) in all {
        if statement.contains(&mark) && !captured.clone().any(|one| one.schema == of && one.table == table) {
            let drop = format!("drop trigger if exists {}.{}", quoted(&schema), quoted(&name));
            connection.query_drop(drop).await.map_err(fault)?;
            tracing::info!(
                table,
                trigger = name,
                "removed a trigger of a table that is not captured any more"
            );
        }
    }
    Ok(())
}

/// What a trigger is called: after the table it fills and the one it watches, so that several may watch one.
fn trigger_name(outbox: &str, table: &str, event: &str) -> String {
    let name = format!("{outbox}_{table}_after_{}", event.to_lowercase());
    if name.chars().count() <= NAME_CHARS {
        return name;
    }
    // FNV-1a: it only tells long names apart.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let tail = format!("_{hash:016x}_{}", event.to_lowercase());
    let head: String = name.chars().take(NAME_CHARS - tail.len()).collect();
    head + &tail
}

fn body(outbox: &Outbox, captured: &Captured, described: &Described, event: &str) -> String {
    let row = if event == "DELETE" { "OLD" } else { "NEW" };
    let before = if event == "UPDATE" { whole(&described.columns, "OLD") } else { "NULL".into() };
    let data = whole(&described.columns, row);
    // An update that moves a row to another key says the old one.
    let keys = if event == "INSERT" { "NEW" } else { "OLD" };
    let key = object(&described.columns, keys, |field| described.primary_key.contains(&field.name));
    let (mark, name) = (outbox.mark(), literal(&outbox.name_of(captured)));
    // In full; if that fails, by its key; if that fails too, that there was something.
    format!(
        "BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN \
         DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN \
         DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; \
         {mark} (table_name, type) VALUES ({name}, '{event}'); END; \
         {mark} (table_name, type, key_data) VALUES ({name}, '{event}', {key}); END; \
         {mark} (table_name, type, key_data, data, before_data) VALUES ({name}, '{event}', {key}, {data}, {before}); \
         END"
    )
}

/// A row as JSON, or NULL where it would be too large: of bytes that are, the server would make a null and only warn.
fn whole(columns: &[Field], row: &str) -> String {
    let is_wide = |field: &&Field| field.is_bytes() && !field.full.contains('(');
    let too_large =
        |field: &Field| format!("OCTET_LENGTH({row}.{}) > @@max_allowed_packet * 0.7", quoted(&field.name));
    let too_large: Vec<_> = columns.iter().filter(is_wide).map(too_large).collect();
    let object = object(columns, row, |_| true);
    if too_large.is_empty() { object } else { format!("IF({}, NULL, {object})", too_large.join(" OR ")) }
}

/// Some columns of a row as JSON.
fn object(columns: &[Field], row: &str, is_wanted: impl Fn(&Field) -> bool) -> String {
    let mut text = String::from("JSON_OBJECT(");
    for (n, field) in columns.iter().filter(|field| is_wanted(field)).enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        let _ = write!(text, "{comma}{}, {}", literal(&field.name), value(field, row));
    }
    text + ")"
}

/// A column's value as the binary log's reader would say it.
fn value(field: &Field, row: &str) -> String {
    let column = format!("{row}.{}", quoted(&field.name));
    let zero = |text: &str| format!("IF({column} = 0, '0000-00-00T00:00:00Z', {text})");
    match field.kind.as_str() {
        "bit" | "year" => format!("{column} + 0"),
        "float" => format!("{column} + 0e0"),
        "double" => column,
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" => {
            // Zeros in front would be no JSON.
            if field.full.contains("zerofill") { format!("{column} + 0") } else { column }
        }
        "date" | "time" | "uuid" | "inet6" | "inet4" => format!("CAST({column} AS CHAR)"),
        "datetime" => format!("REPLACE(CAST({column} AS CHAR), ' ', 'T')"),
        "timestamp" => {
            // In UTC, whatever the zone of the session that writes.
            let digits = match field.digits() {
                0 => String::new(),
                digits => format!(", '.', RIGHT(CAST(UNIX_TIMESTAMP({column}) AS CHAR), {digits})"),
            };
            let whole = format!(
                "DATE_FORMAT(DATE_ADD('1970-01-01 00:00:00', INTERVAL FLOOR(UNIX_TIMESTAMP({column})) SECOND), \
                 '%Y-%m-%dT%H:%i:%s')"
            );
            zero(&format!("CONCAT({whole}{digits}, 'Z')"))
        }
        "json" => column,
        "tinyblob" | "blob" | "mediumblob" | "longblob" | "binary" | "varbinary" => {
            format!("REPLACE(TO_BASE64({column}), '\\n', '')")
        }
        _ if field.is_bytes() => format!("REPLACE(TO_BASE64(CAST({column} AS BINARY)), '\\n', '')"),
        _ if field.is_json => format!("JSON_EXTRACT({column}, '$')"),
        _ => format!("CONVERT({column} USING utf8mb4)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_different_and_short_enough() {
        let long = |n: u8| trigger_name("pub_events", &format!("{}{n}", "é".repeat(60)), "UPDATE");
        assert_eq!(trigger_name("pub_events", "users", "INSERT"), "pub_events_users_after_insert");
        assert_eq!(long(1).chars().count(), 64);
        assert_ne!(long(1), long(2));
    }
}
