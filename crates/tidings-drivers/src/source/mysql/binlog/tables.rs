//! Tables by the numbers that the binary log gives them, and how their rows are read.
//!
//! Owns: what is known of each table until a statement changes it.

use super::super::captured::Captured;
use super::super::change::Table;
use super::super::connect::Place;
use super::super::fault::fault;
use super::super::row::input::Input;
use super::super::row::map::TableMap;
use super::super::schema::{self, Collations, Layout};
use super::lookahead;
use super::reader::unread;
use super::statement::names_table;
use super::stream::From;
use crate::source::Fault;
use mysql_async::Conn;
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers remembered at once; the log gives new ones with every change of a table and every restart.
const NUMBERS_MAX: usize = 4096;

/// What is known.
pub struct Tables {
    captured: Vec<Arc<Captured>>,
    collations: Collations,
    by_number: HashMap<u64, Mapped>,
    /// Layouts by table, with what the log said of it.
    layouts: HashMap<Arc<Captured>, (TableMap, Arc<Table>)>,
    place: Place,
    is_mariadb: bool,
    /// For questions about the schema; made when one comes up.
    connection: Option<Conn>,
}

struct Mapped {
    bytes: Vec<u8>,
    /// `None`: a table that is not captured.
    table: Option<Arc<Table>>,
}

impl Tables {
    pub fn new(captured: Vec<Arc<Captured>>, collations: Collations, place: Place, is_mariadb: bool) -> Self {
        Self {
            captured,
            collations,
            by_number: HashMap::new(),
            layouts: HashMap::new(),
            place,
            is_mariadb,
            connection: None,
        }
    }

    /// The table that rows with this number belong to, if it is captured.
    pub fn of(&self, number: u64) -> Option<&Arc<Table>> {
        self.by_number.get(&number)?.table.as_ref()
    }

    /// The captured table that the log speaks of.
    pub fn captured(&self, input: Input<'_>) -> Result<Option<&Arc<Captured>>, Fault> {
        let map = TableMap::read(input).map_err(unread)?;
        Ok(self.captured.iter().find(|one| one.schema == map.schema && one.table == map.table))
    }

    /// Rows with this number are nobody's.
    pub fn forget(&mut self, number: u64) {
        self.by_number.remove(&number);
    }

    /// Takes note of what the log says of a table; `from` is where what follows begins.
    pub async fn map(&mut self, number: u64, input: Input<'_>, from: &From) -> Result<(), Fault> {
        if self.by_number.get(&number).is_some_and(|mapped| mapped.bytes == input.0) {
            return Ok(());
        }
        let map = TableMap::read(input).map_err(unread)?;
        let captured = self.captured.iter().find(|one| one.schema == map.schema && one.table == map.table);
        let table = match captured.cloned() {
            None => None,
            Some(captured) => Some(self.layout(captured, map, from).await?),
        };
        if self.by_number.len() >= NUMBERS_MAX {
            self.by_number.clear();
        }
        self.by_number.insert(number, Mapped { bytes: input.0.to_vec(), table });
        Ok(())
    }

    /// A statement may have changed how tables look.
    pub fn changed_by(&mut self, statement: &str) {
        let layouts = &mut self.layouts;
        let is_named = |one: &Arc<Captured>| names_table(statement, &one.table);
        layouts.retain(|one, _| !is_named(one));
        self.by_number
            .retain(|_, mapped| !mapped.table.as_ref().is_some_and(|table| is_named(&table.captured)));
    }

    /// A captured table by its names, the schema being the statement's own where it names none.
    pub fn named(&self, schema: &str, table: &str) -> Option<&Arc<Captured>> {
        self.captured.iter().find(|one| one.schema == schema && one.table == table)
    }

    /// The captured table that a statement names, if there is one.
    pub fn mentioned(&self, statement: &str) -> Option<&Arc<Captured>> {
        self.captured.iter().find(|one| names_table(statement, &one.table))
    }

    async fn layout(
        &mut self,
        captured: Arc<Captured>,
        map: TableMap,
        from: &From,
    ) -> Result<Arc<Table>, Fault> {
        if let Some((known, table)) = self.layouts.get(&captured)
            && *known == map
        {
            return Ok(Arc::clone(table));
        }
        // MySQL's full metadata leave nothing to ask; MariaDB's do not say which texts are JSON.
        let described = if map.known.is_some() && !self.is_mariadb {
            schema::Described::default()
        } else {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                None => self.connection.insert(self.place.connect().await?),
            };
            let done = schema::describe(connection, &captured.schema, &captured.table).await;
            if done.is_err() {
                self.connection = None;
            }
            done.map_err(fault)?
        };
        if map.known.is_none() {
            // The schema is that of now; it counts only if no change of it is still to come.
            lookahead::expect_no_change(&self.place, from, &captured.table).await?;
        }
        let layout = Layout::new(&map, &described, &self.collations);
        let layout = layout.map_err(|why| Fault::setting(format!("table `{}`: {why}", captured.table)))?;
        let table = Arc::new(Table { captured: Arc::clone(&captured), layout });
        self.layouts.insert(captured, (map, Arc::clone(&table)));
        Ok(table)
    }
}
