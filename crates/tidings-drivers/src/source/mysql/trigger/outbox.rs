//! The table that triggers fill, and anybody else who wants something published.
//!
//! Owns: its columns, and taking rows out of it. Never: drops it.

use super::super::captured::Captured;
use super::super::connect::{Place, literal, quoted};
use super::super::fault::fault;
use crate::source::Fault;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// The usual name.
const TABLE: &str = "pub_events";
/// Rows looked at in one go, and the bytes of them that are taken.
const ROWS_MAX: usize = 1000;
const BYTES_MAX: u64 = 4 << 20;

/// Which table it is.
pub struct Outbox {
    pub table: String,
    database: String,
}

/// One row of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub table: String,
    pub kind: String,
    pub key: Option<String>,
    pub data: Option<String>,
    pub before: Option<String>,
    pub created_at: Option<String>,
}

/// Rows that are in the log, whether or not they are gone from the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Runs of numbers, first and last.
    pub ids: Vec<(u64, u64)>,
    /// When the newest was written. A table whose numbers begin anew has newer rows under the same ones.
    pub until: Option<String>,
}

/// Numbers and bytes of rows that wait. To size a row reads it, so it is done once.
pub struct Waiting(VecDeque<(u64, u64)>);

impl Waiting {
    /// The numbers of those that are taken together next.
    pub fn lot(&mut self) -> Option<Vec<String>> {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        while let Some((id, size)) = self.0.pop_front_if(|row| bytes == 0 || bytes + row.1 <= BYTES_MAX) {
            bytes += size;
            ids.push(id.to_string());
        }
        (!ids.is_empty()).then_some(ids)
    }
}

impl Outbox {
    pub fn new(place: &Place, name: Option<&str>) -> Self {
        Self { table: name.unwrap_or(TABLE).to_owned(), database: place.database.clone() }
    }

    /// What every statement begins with that fills it; known by that, triggers are found again.
    pub fn mark(&self) -> String {
        format!("INSERT INTO {}", self.full())
    }

    /// How a captured table is called in it.
    pub fn name_of(&self, captured: &Captured) -> String {
        if captured.schema == self.database {
            captured.table.clone()
        } else {
            format!("{}.{}", captured.schema, captured.table)
        }
    }

    /// Makes the table, or brings one of an older shape to what is needed.
    pub async fn prepare(&self, connection: &mut Conn) -> Result<(), Fault> {
        let table = self.full();
        let create = format!(
            "create table if not exists {table} (id bigint unsigned not null auto_increment primary key, \
             data longtext null, table_name varchar(160) not null, type varchar(64) not null, \
             created_at timestamp(6) not null default current_timestamp(6), key_data longtext null, \
             before_data longtext null) engine=InnoDB default charset=utf8mb4 collate=utf8mb4_bin"
        );
        let columns = "select column_name, data_type, is_nullable from information_schema.columns \
            where table_schema = ? and table_name = ?";
        let of_table = (&self.database, &self.table);
        let mut found: Vec<(String, String, String)> =
            connection.exec(columns, of_table).await.map_err(fault)?;
        if found.is_empty() {
            connection.query_drop(create).await.map_err(fault)?;
            found = connection.exec(columns, of_table).await.map_err(fault)?;
        }
        let column = |name: &str| found.iter().find(|(column, ..)| column == name);
        if ["id", "data", "table_name", "type"].iter().any(|name| column(name).is_none()) {
            return Err(Fault::setting(format!(
                "table {table} is there and has other columns than id, data, table_name and type; name another one in \
                 `outbox`"
            )));
        }
        let mut changes = Vec::new();
        if column("data").is_some_and(|(_, kind, nullable)| kind != "longtext" || nullable != "YES") {
            changes.push(
                "modify column data longtext character set utf8mb4 collate utf8mb4_bin null".to_owned(),
            );
        }
        for name in ["key_data", "before_data"] {
            if column(name).is_none() {
                changes.push(format!(
                    "add column {name} longtext character set utf8mb4 collate utf8mb4_bin null"
                ));
            }
        }
        if column("created_at").is_none() {
            changes
                .push("add column created_at timestamp(6) not null default current_timestamp(6)".to_owned());
        }
        if changes.is_empty() {
            return Ok(());
        }
        let alter = format!("alter table {table} {}", changes.join(", "));
        connection.query_drop(alter).await.map_err(fault)
    }

    /// Which rows are committed now, the oldest first, except those that were taken. Says whether there may be more.
    ///
    /// Two changes of one row are in their order: the second is numbered while its writer holds the row that the
    /// first has let go of at its commit. So what is seen together is sorted by number.
    pub async fn look(&self, connection: &mut Conn, taken: &Taken) -> Result<(Waiting, bool), Fault> {
        let sizes = format!(
            "select id, coalesce(octet_length(data), 0) + coalesce(octet_length(before_data), 0) from {} \
             order by id limit {ROWS_MAX}",
            self.full()
        );
        let mut rows: VecDeque<(u64, u64)> = connection.query(sizes).await.map_err(fault)?.into();
        let is_full = rows.len() == ROWS_MAX;
        rows.retain(|(id, _)| !taken.has(*id));
        let has_more = is_full && !rows.is_empty();
        Ok((Waiting(rows), has_more))
    }

    /// The rows with these numbers that are still there.
    pub async fn read(&self, connection: &mut Conn, ids: &[String]) -> Result<Vec<Entry>, Fault> {
        let table = self.full();
        let query = format!(
            "select id, table_name, type, key_data, data, before_data, cast(created_at as char) from {table} \
             where id in ({}) order by id",
            ids.join(",")
        );
        connection
            .query_map(query, |row: (u64, Value, Value, Value, Value, Value, Option<String>)| {
                let text = |value: Value| match value {
                    Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                    _ => None,
                };
                Entry {
                    id: row.0,
                    table: text(row.1).unwrap_or_default(),
                    kind: text(row.2).unwrap_or_default(),
                    key: text(row.3),
                    data: text(row.4),
                    before: text(row.5),
                    created_at: row.6,
                }
            })
            .await
            .map_err(fault)
    }

    /// Numbers of the rows that the triggers of some tables have written and a transaction sees.
    pub async fn seen(&self, connection: &mut Conn, tables: &[Arc<Captured>]) -> Result<Taken, Fault> {
        let names: Vec<_> = tables.iter().map(|one| literal(&self.name_of(one))).collect();
        let query = format!(
            "select id, cast(created_at as char) from {} where key_data is not null and table_name in ({}) order by id",
            self.full(),
            names.join(", ")
        );
        let rows: Vec<(u64, Option<String>)> = connection.query(query).await.map_err(fault)?;
        Ok(Taken::of(rows.into_iter()))
    }

    /// Removes rows that are in the log.
    pub async fn remove(&self, connection: &mut Conn, taken: &Taken) -> Result<(), Fault> {
        for runs in taken.ids.chunks(200) {
            let runs: Vec<_> =
                runs.iter().map(|(first, last)| format!("id between {first} and {last}")).collect();
            let mut delete = format!("delete from {} where ({})", self.full(), runs.join(" or "));
            if let Some(until) = &taken.until {
                delete += &format!(" and (created_at is null or created_at <= '{until}')");
            }
            connection.query_drop(delete).await.map_err(fault)?;
        }
        Ok(())
    }

    fn full(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.table))
    }
}

impl Taken {
    /// Rows in the order of their numbers.
    pub fn of(rows: impl Iterator<Item = (u64, Option<String>)>) -> Self {
        let mut taken = Self::default();
        for (id, created_at) in rows {
            match taken.ids.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => taken.ids.push((id, id)),
            }
            taken.until = taken.until.max(created_at);
        }
        taken
    }

    fn has(&self, id: u64) -> bool {
        self.ids.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_rows_part_what_waits() {
        let sizes = [10, 0, BYTES_MAX, BYTES_MAX + 1, 1, BYTES_MAX - 1, 1];
        let mut waiting = Waiting(sizes.into_iter().zip(1..).map(|(size, id)| (id, size)).collect());
        let lots: Vec<String> = std::iter::from_fn(|| waiting.lot()).map(|ids| ids.join(" ")).collect();
        assert_eq!(lots, ["1 2", "3", "4", "5 6", "7"]);
    }

    #[test]
    fn what_was_taken_is_kept_in_runs() {
        let rows = [1, 2, 3, 7, 9, 10].map(|id| (id, (id != 9).then(|| format!("2026-11-21 0{}", id % 10))));
        let taken = Taken::of(rows.into_iter());
        assert_eq!(taken.ids, [(1, 3), (7, 7), (9, 10)]);
        assert_eq!(taken.until.as_deref(), Some("2026-11-21 07"));
        assert!(taken.has(2) && taken.has(9) && !taken.has(8));
    }
}
