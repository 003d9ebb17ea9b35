//! The rows that were there before: read as of the slot's beginning, so that the stream joins without gap or duplicate.
//!
//! A snapshot that was broken off is begun anew: the slot is made again, and an event `truncate` in each topic says that
//! what follows is everything.
//! Never: holds a table in memory.

use super::catalog::{Captured, Catalog};
use super::form::Form;
use super::line::Line;
use super::lsn::Lsn;
use super::place::{self, Place, Stored};
use super::queue::Queue;
use super::row::{Change, Layout, Moment, events};
use super::sentence::quoted;
use crate::source::{Desk, Fault};
use bytes::Bytes;
use tidings_engine::Capture;

/// Reads all `tables` over `line`, which is in the transaction of the slot's snapshot, and commits them.
pub async fn take(
    line: &mut Line,
    catalog: &mut Catalog,
    desk: &Desk,
    tables: &[Captured],
    at: Lsn,
    stored: &Stored,
) -> Result<(), Fault> {
    let mut moment = Moment::new(&desk.name, 0, desk.tidings.clock().now(), &at.to_string());
    moment.context.extend_from_slice(b",\"snapshot\":true");
    for table in tables {
        let columns = catalog.columns(table.id, false).await?;
        let (layout, forms) = layout(table, columns);
        let mut queue: Queue<Place> = Queue::default();
        if desk.has_events(&table.topic) {
            events(&layout, &moment, Change::Truncate).for_each(|event| queue.push(event, false));
        }
        let list: Vec<String> = layout.columns.iter().map(|name| quoted(name)).collect();
        // Of a table with children only its own rows; they are captured by themselves where they are wanted.
        let only = if table.is_partitioned { "" } else { "only " };
        line.ask(&format!("select {} from {only}{}", list.join(", "), table.quoted())).await?;
        while let Some(row) = line.row().await? {
            let values = row.values().zip(&forms).map(|(value, form)| Some(value_of(value, form))).collect();
            events(&layout, &moment, Change::Insert(values)).for_each(|event| queue.push(event, false));
            queue.reached(Place::default());
            if queue.is_full() {
                commit(desk, &mut queue, stored).await?;
            }
        }
        queue.reached(Place::default());
        queue.complete();
        commit(desk, &mut queue, stored).await?;
    }
    line.query("commit").await?;
    Ok(())
}

async fn commit(desk: &Desk, queue: &mut Queue<Place>, stored: &Stored) -> Result<(), Fault> {
    while let Some(piece) = queue.piece() {
        let marks = vec![place::mark(&desk.name, stored)];
        let capture =
            Capture { source: desk.name.as_str().into(), events: piece.events, messages: Vec::new(), marks };
        desk.capture(capture).await?;
    }
    Ok(())
}

/// How a table's rows are told, and how its values are written.
pub fn layout(table: &Captured, columns: Vec<(String, Form)>) -> (Layout, Vec<Form>) {
    let (columns, forms): (Vec<String>, Vec<Form>) = columns.into_iter().unzip();
    let key = table.key.iter().filter_map(|name| columns.iter().position(|column| column == name)).collect();
    (Layout { topic: table.topic.clone(), columns, key }, forms)
}

/// A value as JSON.
pub fn value_of(value: Option<&[u8]>, form: &Form) -> Bytes {
    match value {
        None => Bytes::from_static(b"null"),
        Some(value) => {
            let mut out = Vec::with_capacity(value.len() + 2);
            form.write_text(&String::from_utf8_lossy(value), &mut out);
            out.into()
        }
    }
}
