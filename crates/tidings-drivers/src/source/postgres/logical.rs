//! Logical replication: one run from connecting to the break.
//!
//! Owns: how the pieces go together: what must be right, where to begin, the stream. Each run begins where the log says
//! that the last one ended.

use super::catalog::{Captured, Catalog, replaced};
use super::line::{self, Line};
use super::lsn::Lsn;
use super::place::{self, Place, Stored};
use super::sentence::{literal, quoted};
use super::slot::{self, Abilities};
use super::stream::Stream;
use super::{monitor, snapshot};
use crate::postgres::Address;
use crate::source::roster::{self, Roster};
use crate::source::{Desk, Fault, Settings};
use std::pin::pin;
use std::time::Duration;

/// A snapshot is made within this, if nobody has a transaction open for longer.
const WITHIN: Duration = Duration::from_secs(30);
const WAITS: &str = "the snapshot of a table waits for transactions that were open before, and the stream for the \
    snapshot; look for old ones in pg_stat_activity and pg_prepared_xacts, and end them";

pub struct Logical {
    pub settings: Settings,
    pub address: Address,
}

impl Logical {
    pub async fn run(
        &mut self,
        desk: &Desk,
        mut catalog: Catalog,
        abilities: &Abilities,
    ) -> Result<(), Fault> {
        abilities.check_stream()?;
        let settings = &self.settings;
        let names: Vec<String> = settings.tables.iter().map(|table| table.name.clone()).collect();
        let mut tables = catalog.tables(&names, &settings.prefix).await?;
        if settings.full_rows {
            slot::say_full_rows(&catalog, &mut tables).await?;
        }
        slot::check_identity(&tables)?;
        catalog.take(desk, &tables, settings).await?;
        slot::publish(&catalog, &self.publication(), &tables).await?;
        let mut line = Line::connect(&self.address).await?;
        let system = line.query("IDENTIFY_SYSTEM").await?.first().map(|row| row.text(0)).unwrap_or_default();
        let stored: Option<Stored> = place::read(desk).await?;
        let name = self.slot();
        let stored = stored.filter(|stored| stored.slot == name && !stored.is_unfinished);
        let is_begun = stored.is_none();
        let entries = tables.iter().map(Captured::entry);
        let mut roster: Roster<Lsn> = match is_begun {
            true => Roster::begin(desk, entries, false).await?,
            false => Roster::read(desk, entries, settings.snapshot).await?,
        };
        let place = match stored {
            Some(stored) if stored.system != system => {
                return Err(Fault::setting(format!(
                    "this is another database cluster than the one captured so far (or a restored one); name another \
                     slot in `slot` of source {} to begin anew",
                    desk.name
                )));
            }
            Some(stored) => {
                let place = stored.place();
                match slot::find(&catalog, &name).await? {
                    Some(found) if !found.is_lost && found.confirmed > place.whole => {
                        return Err(slot::ahead(&name, place.whole, found.confirmed));
                    }
                    Some(found) if !found.is_lost => place,
                    found => return Err(slot::gone(&name, place.whole, found.is_some())),
                }
            }
            None => self.begin(desk, &mut catalog, &mut line, &tables, &system).await?,
        };
        let stored = |place| Stored::new(&name, &system, place, false);
        roster.settle(desk).await?;
        let replaced = replaced(&roster, &tables);
        let until = if replaced.is_empty() {
            self.take_rows(desk, &mut catalog, &mut line, &mut roster, &tables, &stored(place)).await?;
            None
        } else {
            Some(catalog.written().await?)
        };
        for table in &mut tables {
            table.since = roster.of(&table.topic).and_then(|entry| entry.since).unwrap_or_default();
        }
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, messages {})",
            quoted(&name),
            place.whole,
            literal(&quoted(&self.publication())),
            literal(if settings.messages { "true" } else { "false" }),
        );
        line.start(&command).await?;
        desk.report.streaming();
        desk.report.position(place.whole.to_string());
        let is_own = |table: &&Captured| replaced.iter().all(|other| other.topic != table.topic);
        let others: Vec<Captured> = tables.iter().filter(is_own).cloned().collect();
        let own: Vec<u32> = others.iter().map(|table| table.id).collect();
        let watch = monitor::start(&self.address, &desk.report, &name, settings, others.clone());
        let stream = Stream::new(desk, line, catalog, [others, replaced].concat(), place, stored);
        stream.run(settings.heartbeat_ms, until, watch).await?;
        // All that tables said that were replaced is in the log; the next run begins with what these have.
        let made_anew = tables.iter().filter(|table| !own.contains(&table.id)).map(Captured::entry);
        roster.enter(desk, made_anew, true, None).await
    }

    /// Tables that came later begin with the rows that they have, as a slot made for it sees them: what the stream says of
    /// them from before that is passed over.
    async fn take_rows(
        &self,
        desk: &Desk,
        catalog: &mut Catalog,
        line: &mut Line,
        roster: &mut Roster<Lsn>,
        tables: &[Captured],
        stored: &Stored,
    ) -> Result<(), Fault> {
        let is_due = |table: &&Captured| roster.of(&table.topic).is_some_and(|entry| entry.is_due);
        let due: Vec<Captured> = tables.iter().filter(is_due).cloned().collect();
        if due.is_empty() {
            return Ok(());
        }
        due.iter().for_each(|table| roster::tell(desk, &table.quoted()));
        desk.report.snapshot();
        let name = format!("tidings_rows_{:08x}", getrandom::u32().unwrap_or(std::process::id()));
        let at = {
            let mut made = pin!(slot::create(line, &name, slot::Kind::Temporary));
            let waits = || desk.report.complain(WAITS);
            let in_time = tokio::time::timeout(WITHIN, &mut made).await;
            match in_time.inspect_err(|_| waits()) {
                Ok(made) => made?,
                Err(_) => made.await?,
            }
        };
        snapshot::take(line, catalog, desk, &due, at, stored).await?;
        line.query(&format!("DROP_REPLICATION_SLOT {}", quoted(&name))).await?;
        roster.enter(desk, due.iter().map(Captured::entry), false, Some(at)).await
    }

    /// The first run with this slot: from now on, or from the rows that are there.
    async fn begin(
        &self,
        desk: &Desk,
        catalog: &mut Catalog,
        line: &mut Line,
        tables: &[Captured],
        system: &str,
    ) -> Result<Place, Fault> {
        let name = self.slot();
        let stored = |place, is_unfinished| Stored::new(&name, system, place, is_unfinished);
        let found = slot::find(catalog, &name).await?;
        let at = match found {
            // Nothing of it is in the log yet; all that it keeps comes.
            Some(found) if !self.settings.snapshot && !found.is_lost => found.confirmed,
            found => {
                if found.is_some() {
                    slot::remove(catalog, &name).await?;
                }
                if self.settings.snapshot {
                    // Said before the first row, so that a broken snapshot is begun anew.
                    desk.mark(place::mark(&desk.name, &stored(Place::default(), true))).await?;
                    desk.report.snapshot();
                }
                let kind = if self.settings.snapshot { slot::Kind::WithSnapshot } else { slot::Kind::Bare };
                slot::create(line, &name, kind).await.map_err(|error| match error {
                    line::Error::Refused(refusal) if refusal.state == "42501" => Fault::setting(format!(
                        "{}; run alter role ... replication, or set mode = \"triggers\" for this source",
                        refusal.text
                    )),
                    error => error.into(),
                })?
            }
        };
        let place = Place { whole: at, ..Place::default() };
        if self.settings.snapshot {
            snapshot::take(line, catalog, desk, tables, at, &stored(Place::default(), true)).await?;
        }
        desk.mark(place::mark(&desk.name, &stored(place, false))).await?;
        Ok(place)
    }

    fn slot(&self) -> String {
        self.settings.slot.clone().unwrap_or_else(|| format!("tidings_{}", self.settings.name))
    }

    fn publication(&self) -> String {
        self.settings.publication.clone().unwrap_or_else(|| format!("tidings_{}", self.settings.name))
    }
}
