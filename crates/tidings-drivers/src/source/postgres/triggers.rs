//! Triggers: one run from connecting to the break.
//!
//! Owns: which rows of the outbox are due, and in which order. A pass takes what one snapshot of the database sees and the
//! last did not: nobody can commit between two passes unseen, however long a transaction takes. Within a pass, transactions
//! come in the order of their last change, so that what builds on another's row comes after it.
//! Never: takes a row by the order of its number alone, since numbers are not committed in order.

use super::catalog::{Captured, Catalog, dropped, replaced};
use super::form::{Form, members};
use super::lsn::Lsn;
use super::outbox::Outbox;
use super::place;
use super::queue::Queue;
use super::row::{Change, Layout, Moment, Values, events};
use super::sentence::{failed, quoted};
use crate::source::roster::{self, Roster};
use crate::source::{Desk, Fault, Settings};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidings_engine::Capture;
use tidings_model::{NewEvent, Timestamp};
use tokio::sync::Notify;
use tokio_postgres::types::ToSql;

/// Rows of one pass that are deleted by their numbers; more, by the snapshot.
const IDS_MAX: usize = 10_000;

/// What is stored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stored {
    outbox: String,
    /// What this snapshot sees is in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// Of what this further one sees, everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<(String, Reached)>,
}

/// The last number of a transaction, and the number of a row in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reached {
    last: i64,
    id: i64,
}

/// One run.
struct Run<'a> {
    desk: &'a Desk,
    catalog: Catalog,
    tables: Vec<Captured>,
    /// Those that begin with the rows that they have.
    due: Vec<Captured>,
    outbox: Outbox,
    stored: Stored,
}

/// What is known of a table during one pass.
struct Known {
    table: Captured,
    forms: HashMap<String, Form>,
    layout: Option<Layout>,
}

pub async fn run(
    settings: &Settings,
    desk: &Desk,
    mut catalog: Catalog,
    bell: Arc<Notify>,
) -> Result<(), Fault> {
    let names: Vec<String> = settings.tables.iter().map(|table| table.name.clone()).collect();
    let tables = catalog.tables(&names, &settings.prefix).await?;
    catalog.take(desk, &tables, settings).await?;
    let outbox = Outbox::of(&catalog, name(settings)).await?;
    let stored = place::read::<Stored>(desk).await?.filter(|stored| stored.outbox == outbox.name);
    let entries = tables.iter().map(Captured::entry);
    let mut roster: Roster<Lsn> = match stored {
        None => Roster::begin(desk, entries, settings.snapshot).await?,
        Some(_) => Roster::read(desk, entries, settings.snapshot).await?,
    };
    let former = replaced(&roster, &tables);
    let is_anew = |table: &Captured| former.iter().any(|former| former.topic == table.topic);
    for table in tables.iter().filter(|table| stored.is_some() && !is_anew(table)) {
        let hears = outbox.hears(&catalog, table).await.map_err(|e| failed(&e))?;
        if !hears && roster.was_there(&table.topic) {
            // Said before the triggers are there, so that nothing is forgotten if this ends in between.
            roster.enter(desk, std::iter::once(table.entry()), true, None).await?;
        }
    }
    outbox.install(&mut catalog, &tables).await?;
    roster.settle(desk).await?;
    let is_due =
        |table: &&Captured| is_anew(table) || roster.of(&table.topic).is_some_and(|entry| entry.is_due);
    let due: Vec<Captured> = tables.iter().filter(is_due).cloned().collect();
    if stored.is_some() {
        due.iter().for_each(|table| roster::tell(desk, &table.quoted()));
    }
    let stored = match stored {
        Some(stored) => stored,
        None => {
            let stored = Stored { outbox: outbox.name.clone(), ..Stored::default() };
            // From here on the source has begun, whatever comes first.
            commit(desk, Vec::new(), &stored).await?;
            stored
        }
    };
    let known = [former, tables.clone()].concat();
    let mut run = Run { desk, catalog, tables: known, due, outbox, stored };
    while !run.due.is_empty() {
        desk.report.snapshot();
        run.pass().await?;
    }
    roster.enter(desk, tables.iter().map(Captured::entry), false, None).await?;
    run.tables = tables;
    if let Some(seen) = &run.stored.seen {
        // What a break has kept from being deleted.
        let delete = format!(
            "delete from {} where pg_visible_in_snapshot(xid, $1::text::pg_snapshot)",
            run.outbox.quoted()
        );
        run.catalog.client.execute(&delete, &[seen]).await.map_err(|e| failed(&e))?;
    }
    let listen = format!("listen {}", quoted(&run.outbox.name));
    run.catalog.client.batch_execute(&listen).await.map_err(|e| failed(&e))?;
    desk.report.streaming();
    let mut looked_at = Instant::now();
    loop {
        run.pass().await?;
        if looked_at.elapsed() >= Duration::from_secs(1) {
            looked_at = Instant::now();
            if let Some(fault) = run.catalog.gone(&run.tables).await?.map(dropped) {
                // What it said before.
                run.pass().await?;
                return Err(fault);
            }
        }
        let _ = tokio::time::timeout(Duration::from_millis(settings.poll_ms.max(1)), bell.notified()).await;
    }
}

/// What the outbox of a source is called.
pub fn name(settings: &Settings) -> String {
    settings.outbox.clone().unwrap_or_else(|| format!("tidings_{}", settings.name))
}

impl Run<'_> {
    /// Takes everything that is committed now and was not at the last pass. A table that begins with its rows has what
    /// this sees among them; unless the pass is the rest of an earlier one, they are taken with it.
    async fn pass(&mut self) -> Result<(), Fault> {
        let Self { desk, catalog, tables, due, outbox, stored } = self;
        // However long it takes: none of the tables read is one that others lock for long.
        let begin = "begin isolation level repeatable read; set local statement_timeout = 0; \
            set local lock_timeout = '30s'";
        catalog.client.batch_execute(begin).await.map_err(|e| failed(&e))?;
        let (now, after) = match &stored.part {
            Some((now, after)) => (now.clone(), *after),
            None => {
                let query = "select pg_current_snapshot()::text";
                let row = catalog.client.query_one(query, &[]).await.map_err(|e| failed(&e))?;
                (row.get(0), Reached::default())
            }
        };
        let waiting = format!(
            "from {} where pg_visible_in_snapshot(xid, $1::text::pg_snapshot) \
             and ($2::text is null or not pg_visible_in_snapshot(xid, $2::text::pg_snapshot))",
            outbox.quoted()
        );
        // All questions come before the rows: the answer to one would have to wait behind them.
        let query = format!("select distinct relation {waiting}");
        let found = catalog.client.query(&query, &[&now, &stored.seen]).await.map_err(|e| failed(&e))?;
        let is_rest = stored.part.is_some();
        if found.is_empty() && !is_rest && due.is_empty() {
            return catalog.client.batch_execute("rollback").await.map_err(|e| failed(&e));
        }
        let mut known: HashMap<u32, Known> = HashMap::new();
        for row in found {
            let relation: u32 = row.get(0);
            let is_due = |table: &Captured| due.iter().any(|d| d.id == table.id && d.topic == table.topic);
            if let Some(table) = tables.iter().find(|table| table.id == relation).filter(|t| !is_due(t)) {
                known.insert(relation, Known::ask(catalog, table).await?);
            }
        }
        let query = format!(
            "with due as materialized (select id, max(id) over (partition by xid) as last {waiting}) \
             select d.last, o.id, o.xid::text, o.made_at, o.relation, o.operation, o.old::text, o.new::text \
             from due d join {} o on o.id = d.id where (d.last, d.id) > ($3, $4) order by d.last, d.id",
            outbox.quoted()
        );
        let parameters: [&(dyn ToSql + Sync); 4] = [&now, &stored.seen, &after.last, &after.id];
        let statement = catalog.client.prepare(&query).await.map_err(|e| failed(&e))?;
        let mut queue: Queue<Reached> = Queue::default();
        let mut ids = Vec::new();
        {
            let rows = catalog.client.query_raw(&statement, parameters).await.map_err(|e| failed(&e))?;
            let mut rows = pin!(rows);
            while let Some(row) = rows.try_next().await.map_err(|e| failed(&e))? {
                let id: i64 = row.get(1);
                if ids.len() <= IDS_MAX {
                    ids.push(id);
                }
                if let Some(known) = known.get_mut(&row.get::<_, u32>(4)) {
                    let (xid, made_at): (&str, SystemTime) = (row.get(2), row.get(3));
                    let moment = Moment::new(
                        &desk.name,
                        xid.parse().unwrap_or(0),
                        timestamp(made_at),
                        &id.to_string(),
                    );
                    let change = (row.get::<_, &str>(5), row.get::<_, Option<&str>>(6), row.get(7));
                    known.events(&moment, change).into_iter().for_each(|event| queue.push(event, false));
                }
                queue.reached(Reached { last: row.get(0), id });
                while queue.is_full() {
                    let Some(piece) = queue.piece() else { break };
                    stored.part = Some((now.clone(), piece.place));
                    commit(desk, piece.events, stored).await?;
                }
            }
        }
        queue.complete();
        let mut rest = queue.piece();
        while let Some(piece) = rest {
            rest = queue.piece();
            stored.part = Some((now.clone(), piece.place));
            if rest.is_none() {
                (stored.seen, stored.part) = (Some(now.clone()), None);
            }
            commit(desk, piece.events, stored).await?;
        }
        if stored.part.is_some() || stored.seen.as_ref() != Some(&now) {
            (stored.seen, stored.part) = (Some(now.clone()), None);
            commit(desk, Vec::new(), stored).await?;
        }
        if !is_rest {
            self.take_rows(&now).await?;
        }
        let Self { desk, catalog, outbox, .. } = self;
        desk.report.position(now.clone());
        desk.report.lag(Some(Duration::ZERO));
        let table = outbox.quoted();
        let deleted = if ids.len() <= IDS_MAX {
            catalog.client.execute(&format!("delete from {table} where id = any($1)"), &[&ids]).await
        } else {
            let delete =
                format!("delete from {table} where pg_visible_in_snapshot(xid, $1::text::pg_snapshot)");
            catalog.client.execute(&delete, &[&now]).await
        };
        deleted.map_err(|e| failed(&e))?;
        catalog.client.batch_execute("commit").await.map_err(|e| failed(&e))
    }

    /// The rows of the tables that begin with them, as this pass sees the database.
    async fn take_rows(&mut self, now: &str) -> Result<(), Fault> {
        let Self { desk, catalog, due, stored, .. } = self;
        for table in due.drain(..) {
            let mut moment = Moment::new(&desk.name, 0, desk.tidings.clock().now(), now);
            moment.context.extend_from_slice(b",\"snapshot\":true");
            let mut known = Known::ask(catalog, &table).await?;
            let mut queue: Queue<()> = Queue::default();
            if desk.has_events(&table.topic) {
                let emptied = known.events(&moment, ("truncate", None, None));
                emptied.into_iter().for_each(|event| queue.push(event, false));
            }
            let only = if table.is_partitioned { "" } else { "only " };
            let query = format!("select row_to_json(t)::text from {only}{} t", table.quoted());
            let none: [&(dyn ToSql + Sync); 0] = [];
            let mut rows = pin!(catalog.client.query_raw(&query, none).await.map_err(|e| failed(&e))?);
            while let Some(row) = rows.try_next().await.map_err(|e| failed(&e))? {
                let inserted = known.events(&moment, ("insert", None, row.get(0)));
                inserted.into_iter().for_each(|event| queue.push(event, false));
                queue.reached(());
                while queue.is_full() {
                    let Some(piece) = queue.piece() else { break };
                    commit(desk, piece.events, stored).await?;
                }
            }
            queue.reached(());
            queue.complete();
            while let Some(piece) = queue.piece() {
                commit(desk, piece.events, stored).await?;
            }
        }
        Ok(())
    }
}

impl Known {
    async fn ask(catalog: &Catalog, table: &Captured) -> Result<Self, Fault> {
        let mut table = table.clone();
        table.key = catalog.key_of(&table).await?;
        let forms = catalog.columns_now(table.id).await?.into_iter().collect();
        Ok(Self { table, forms, layout: None })
    }

    /// The events of one change: its operation, and the row before and after as JSON.
    fn events(
        &mut self,
        moment: &Moment,
        (operation, old, new): (&str, Option<&str>, Option<&str>),
    ) -> Vec<NewEvent> {
        let (old, new) = (old.map(members), new.map(members));
        let names = || new.as_ref().or(old.as_ref()).into_iter().flatten().map(|(name, _)| name.as_ref());
        let usual = self.layout.take().filter(|layout| names().eq(layout.columns.iter().map(String::as_str)));
        let layout = usual.unwrap_or_else(|| {
            let columns: Vec<String> = names().map(str::to_owned).collect();
            let place = |name: &String| columns.iter().position(|column| column == name);
            let key = self.table.key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
            Layout { topic: self.table.topic.clone(), columns, key }
        });
        let value = |(name, json): (Cow<'_, str>, &RawValue)| {
            let mut out = Vec::new();
            self.forms.get(name.as_ref()).unwrap_or(&Form::Text).write_json(json.get(), &mut out);
            Some(Bytes::from(out))
        };
        let values = |row: Vec<(Cow<'_, str>, &RawValue)>| -> Values { row.into_iter().map(value).collect() };
        let change = match (operation, old.map(values), new.map(values)) {
            ("truncate", ..) | (_, None, None) => Change::Truncate,
            (_, None, Some(new)) => Change::Insert(new),
            (_, Some(old), Some(new)) => Change::Update { old: Some(old), new },
            (_, Some(old), None) => Change::Delete { old },
        };
        let all = events(&layout, moment, change).collect();
        self.layout = Some(layout);
        all
    }
}

async fn commit(desk: &Desk, events: Vec<NewEvent>, stored: &Stored) -> Result<(), Fault> {
    let marks = vec![place::mark(&desk.name, stored)];
    desk.capture(Capture { source: desk.name.as_str().into(), events, messages: Vec::new(), marks }).await
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(ms).unwrap_or_else(|| Timestamp::from_millis(0).expect("1970"))
}
