//! Looks whether a table is about to change, before its columns are taken from the schema.
//!
//! Without names in the binary log, rows that were written before a change would get the names from after it.

use super::super::connect::Place;
use super::super::schema;
use super::event::Event;
use super::statement::{Statement, names_table};
use super::stream::{From, Stream};
use crate::source::Fault;

/// Reads from here to what is there now.
///
/// # Errors
/// When a statement on the way may change `table`.
pub async fn expect_no_change(place: &Place, from: &From, table: &str) -> Result<(), Fault> {
    // The main connection reads under its own number at the same time.
    let from = From { server_id: from.server_id ^ 1, ..from.clone() };
    let mut stream = Stream::open_to_end(place, &from).await?;
    while let Some(arrived) = stream.next().await? {
        if let Ok(Event::Query { text, .. }) = Event::read(&arrived)
            && matches!(Statement::read(&text), Statement::Other | Statement::Emptied(_))
            && names_table(&text, table)
        {
            return Err(Fault::setting(schema::Error::Changed(table.to_owned()).to_string()));
        }
    }
    Ok(())
}
