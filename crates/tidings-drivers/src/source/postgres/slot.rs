//! Publication and replication slot: made where they are missing, kept otherwise.
//!
//! Owns: what has to be right in the database before a stream can begin, and the sentence for each thing that is not.
//! Never: drops a slot that may still be needed to go on.

use super::catalog::{Captured, Catalog};
use super::line::{self, Line};
use super::lsn::Lsn;
use super::sentence::{failed, literal, quoted};
use crate::source::Fault;

/// What the server and the role can do.
pub struct Abilities {
    pub user: String,
    pub wal_level: String,
    pub version: i32,
    pub may_replicate: bool,
}

impl Abilities {
    pub async fn ask(catalog: &Catalog) -> Result<Self, Fault> {
        // Hosted databases grant replication by membership.
        let query = "select current_user::text, current_setting('wal_level'), \
            current_setting('server_version_num')::int, rolsuper or rolreplication or exists (select from pg_roles r \
            where r.rolname in ('rds_replication', 'rds_superuser') and pg_has_role(r.oid, 'member')) \
            from pg_roles where rolname = current_user";
        let row = catalog.client.query_one(query, &[]).await.map_err(|e| failed(&e))?;
        Ok(Self { user: row.get(0), wal_level: row.get(1), version: row.get(2), may_replicate: row.get(3) })
    }

    pub fn can_stream(&self) -> bool {
        self.wal_level == "logical" && self.may_replicate && self.version >= 140_000
    }

    /// Why there can be no stream, if so.
    pub fn check_stream(&self) -> Result<(), Fault> {
        let Self { user, wal_level, version, may_replicate } = self;
        if *version < 140_000 {
            return Err(Fault::setting(
                "mode = \"logical\" needs PostgreSQL 14 or later; set mode = \"triggers\"",
            ));
        }
        if wal_level != "logical" {
            return Err(Fault::setting(format!(
                "wal_level is {wal_level}: set wal_level = logical in postgresql.conf and restart PostgreSQL, or set \
                 mode = \"triggers\" for this source"
            )));
        }
        if !may_replicate {
            return Err(Fault::setting(format!(
                "role {user} may not replicate: run alter role {} replication, or set mode = \"triggers\" for this source",
                quoted(user)
            )));
        }
        Ok(())
    }
}

/// Refuses tables whose updates and deletes PostgreSQL would refuse once they are published.
pub fn check_identity(tables: &[Captured]) -> Result<(), Fault> {
    let lacks = |t: &&Captured| t.identity == 'n' || (t.identity == 'd' && t.key.is_empty());
    if let Some(table) = tables.iter().find(|t| t.identity == 'i') {
        return Err(Fault::setting(format!(
            "table {0} says by an index which row has changed, and not by its primary key: run alter table {0} replica \
             identity default, or full",
            table.quoted()
        )));
    }
    match tables.iter().find(lacks) {
        None => Ok(()),
        Some(table) => Err(Fault::setting(format!(
            "table {0} has no primary key, so PostgreSQL would refuse the application's updates and deletes once it is \
             captured: run alter table {0} replica identity full, or take it out of `tables`",
            table.quoted()
        ))),
    }
}

/// Makes PostgreSQL say of each row that changes how it was. It waits only briefly for the table's lock: behind it all
/// who write would wait.
pub async fn say_full_rows(catalog: &Catalog, tables: &mut [Captured]) -> Result<(), Fault> {
    for table in tables.iter_mut().filter(|table| table.identity != 'f') {
        let command = format!("alter table {} replica identity full", table.quoted());
        let batch = format!("begin; set local lock_timeout = '1s'; {command}; commit");
        catalog.client.batch_execute(&batch).await.map_err(|error| {
            match error.code().map(|code| code.code()) {
                Some("42501") => Fault::setting(format!(
                    "the role may not make table {} say its full rows: make it the table's owner, or let somebody who \
                     may run: {command}",
                    table.quoted()
                )),
                _ => failed(&error),
            }
        })?;
        table.identity = 'f';
    }
    Ok(())
}

/// Makes the publication name just `tables`.
pub async fn publish(catalog: &Catalog, publication: &str, tables: &[Captured]) -> Result<(), Fault> {
    let query = "select p.puballtables, coalesce((select array_agg(r.prrelid) from pg_publication_rel r \
        where r.prpubid = p.oid), '{}'), p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate \
        from pg_publication p where p.pubname = $1";
    let found = catalog.client.query_opt(query, &[&publication]).await.map_err(|e| failed(&e))?;
    let names: Vec<String> = tables.iter().map(Captured::quoted).collect();
    let names = names.join(", ");
    let wanted: Vec<u32> = tables.iter().map(|t| t.id).collect();
    let command = match found {
        None if tables.is_empty() => format!("create publication {}", quoted(publication)),
        None => format!(
            "create publication {} for table {names} with (publish_via_partition_root = true)",
            quoted(publication)
        ),
        Some(row) => {
            let (is_all, has, is_whole): (bool, Vec<u32>, bool) = (row.get(0), row.get(1), row.get(2));
            let has_all = is_all || wanted.iter().all(|id| has.contains(id));
            if !is_whole {
                return Err(Fault::setting(format!(
                    "publication {publication} leaves out some of insert, update, delete and truncate: run alter \
                     publication {} set (publish = 'insert, update, delete, truncate')",
                    quoted(publication)
                )));
            }
            if has_all && (is_all || has.len() == wanted.len() || wanted.is_empty()) {
                return Ok(());
            }
            let command = format!("alter publication {} set table {names}", quoted(publication));
            if has_all {
                // Tables that are no longer wanted cost only what they send; somebody else may own the publication.
                let _ = catalog.client.batch_execute(&command).await;
                return Ok(());
            }
            command
        }
    };
    catalog.client.batch_execute(&command).await.map_err(|error| match error.code().map(|c| c.code()) {
        Some("42501") => Fault::setting(format!(
            "the role may not publish these tables ({}): make it their owner and grant it create on the database, or \
             let somebody who may run: {command}",
            error.as_db_error().map_or_else(String::new, |e| e.message().to_owned())
        )),
        _ => failed(&error),
    })
}

/// A slot as the server knows it.
#[derive(Debug)]
pub struct Slot {
    pub confirmed: Lsn,
    /// `lost`: the server has let go of what it needs.
    pub is_lost: bool,
    pub retained_bytes: Option<u64>,
    pub lag_bytes: Option<u64>,
}

/// Looks a slot up.
pub async fn find(catalog: &Catalog, name: &str) -> Result<Option<Slot>, Fault> {
    let query = "select plugin::text, database::text = current_database(), active, \
        coalesce(confirmed_flush_lsn::text, '0/0'), coalesce(wal_status, '') = 'lost', \
        (pg_current_wal_lsn() - restart_lsn)::int8, (pg_current_wal_lsn() - confirmed_flush_lsn)::int8 \
        from pg_replication_slots where slot_name = $1";
    let Some(row) = catalog.client.query_opt(query, &[&name]).await.map_err(|e| failed(&e))? else {
        return Ok(None);
    };
    let (plugin, is_ours): (Option<&str>, Option<bool>) = (row.get(0), row.get(1));
    if plugin != Some("pgoutput") || is_ours != Some(true) {
        return Err(Fault::setting(format!(
            "replication slot {name} belongs to another database or plugin; name another one in `slot`"
        )));
    }
    let bytes = |i| row.get::<_, Option<i64>>(i).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Some(Slot {
        confirmed: row.get::<_, &str>(3).parse().unwrap_or_default(),
        is_lost: row.get(4),
        retained_bytes: bytes(5),
        lag_bytes: bytes(6),
    }))
}

/// What a slot is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stream alone.
    Bare,
    /// The rows that are there, and then the stream.
    WithSnapshot,
    /// Only the rows that are there: it is gone with the line.
    Temporary,
}

/// Makes a slot, and answers where its stream begins. Unless it is [`Kind::Bare`], the line is then in a transaction that
/// sees exactly what was committed before.
pub async fn create(line: &mut Line, name: &str, kind: Kind) -> Result<Lsn, line::Error> {
    if kind != Kind::Bare {
        line.query("begin transaction isolation level repeatable read read only").await?;
    }
    let temporary = if kind == Kind::Temporary { "TEMPORARY " } else { "" };
    let snapshot = if kind == Kind::Bare { "NOEXPORT_SNAPSHOT" } else { "USE_SNAPSHOT" };
    let command = format!("CREATE_REPLICATION_SLOT {} {temporary}LOGICAL pgoutput {snapshot}", quoted(name));
    let rows = line.query(&command).await?;
    Ok(rows.first().and_then(|row| row.text(1).parse().ok()).unwrap_or_default())
}

/// Drops a slot that nothing depends on.
pub async fn remove(catalog: &Catalog, name: &str) -> Result<(), Fault> {
    let done = catalog.client.execute("select pg_drop_replication_slot($1)", &[&name]).await;
    done.map(|_| ()).map_err(|e| failed(&e))
}

/// The slot has let go of changes that this log does not have.
pub fn ahead(name: &str, since: Lsn, confirmed: Lsn) -> Fault {
    Fault::setting(format!(
        "replication slot {name} stands at {confirmed} and this log at {since}: this data directory is an older copy, or \
         another server has read the slot meanwhile, and the changes between are not to be had here any more. To begin \
         anew, name another slot in `slot`; with snapshot = true the rows that are there now come first, after an event \
         that empties each topic's state. Each server needs a slot of its own"
    ))
}

/// The stream cannot go on where it stopped.
pub fn gone(name: &str, since: Lsn, is_lost: bool) -> Fault {
    let what = match is_lost {
        true => format!(
            "PostgreSQL has let go of what replication slot {name} still needed (max_slot_wal_keep_size)"
        ),
        false => format!("replication slot {name} is gone"),
    };
    Fault::setting(format!(
        "{what}, so changes after {since} cannot be had any more. To begin anew, name another slot in `slot`; with \
         snapshot = true the rows that are there now come first, after an event that empties each topic's state{}",
        if is_lost {
            format!(". Then drop the old one: select pg_drop_replication_slot({})", literal(name))
        } else {
            String::new()
        }
    ))
}
