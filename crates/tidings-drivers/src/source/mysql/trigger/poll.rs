//! One run over the table that triggers fill: looks, delivers, removes, and looks again after a pause.
//!
//! Owns: the mark that says which rows are in the log but perhaps still in the table, so that each is one event.

use super::super::captured::{self, Captured};
use super::super::change::{self, Origin};
use super::super::connect::{Place, Server};
use super::super::fault::fault;
use super::super::schema::{self, Described};
use super::super::snapshot::{self, Sink};
use super::definition;
use super::outbox::{Outbox, Taken};
use super::row;
use crate::source::roster::{self, Roster};
use crate::source::{Desk, Fault, Settings};
use bytes::Bytes;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidings_engine::Capture;
use tidings_model::{NewEvent, TopicName};

/// How often tables are compared with their triggers: a new column is in events from then on.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// Names in the table that are none of ours: so many may become topics.
const OTHERS_MAX: usize = 1000;

pub struct Driver {
    place: Place,
    settings: Settings,
}

/// What one run knows.
struct Run<'a> {
    desk: &'a Desk,
    place: &'a Place,
    settings: &'a Settings,
    outbox: Outbox,
    server: Server,
    /// Captured tables as they are described, by their names in the table that triggers fill.
    tables: HashMap<String, (Arc<Captured>, Described)>,
    /// Other names in that table. `None`: it cannot be a topic.
    others: HashMap<String, Option<Arc<Captured>>>,
    mark: String,
    taken: Taken,
    roster: Roster<()>,
    /// The first run is over, so that nothing of its tables should be missing.
    has_begun: bool,
    /// When tables were compared with their triggers.
    compared: Instant,
}

impl Driver {
    pub fn new(place: Place, settings: Settings) -> Self {
        Self { place, settings }
    }
}

impl crate::source::Driver for Driver {
    async fn run(&mut self, desk: &Desk) -> Fault {
        desk.report.connecting();
        match begin(desk, &self.place, &self.settings).await {
            Ok((mut run, mut connection)) => match run.follow(&mut connection).await {
                Ok(never) => match never {},
                Err(fault) => fault,
            },
            Err(fault) => fault,
        }
    }
}

async fn begin<'a>(
    desk: &'a Desk,
    place: &'a Place,
    settings: &'a Settings,
) -> Result<(Run<'a>, Conn), Fault> {
    let mut connection = place.connect().await?;
    let server = Server::ask(&mut connection).await?;
    if server.is_set("log_bin") == "ON" && server.is_set("binlog_format") == "STATEMENT" {
        // A weaker level would be refused there: our own deletes are logged as statements.
        let level = "set session transaction isolation level repeatable read";
        connection.query_drop(level).await.map_err(fault)?;
    }
    let captured = captured::find(&mut connection, place, settings).await?;
    let outbox = Outbox::new(place, settings.outbox.as_deref());
    let mark = format!("source:{}", desk.name);
    let found =
        desk.tidings.position(&mark).await.map_err(|why| Fault::lost(format!("the log refuses: {why}")))?;
    let known: Option<Taken> =
        found.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|_| {
            Fault::setting("the position kept in the log is of another mode; give the source another name")
        })?;
    desk.take(captured.iter().map(|one| one.topic.clone()).collect(), &settings.tables).await?;
    outbox.prepare(&mut connection).await?;
    let entries = captured.iter().map(|one| one.entry());
    let roster = match known {
        None => Roster::begin(desk, entries, settings.snapshot).await?,
        Some(_) => Roster::read(desk, entries, settings.snapshot).await?,
    };
    let names = captured.into_iter().map(|one| (outbox.name_of(&one), (one, Described::default())));
    let mut run = Run {
        desk,
        place,
        settings,
        tables: names.collect(),
        outbox,
        server,
        others: HashMap::new(),
        mark,
        has_begun: known.is_some(),
        taken: known.unwrap_or_default(),
        roster,
        compared: Instant::now(),
    };
    run.remove_others(&mut connection).await?;
    run.compare(&mut connection).await?;
    if !run.has_begun {
        run.keep(Vec::new(), Taken::default()).await?;
    }
    run.remove(&mut connection).await?;
    run.take_due(&mut connection).await?;
    run.has_begun = true;
    run.roster.settle(desk).await?;
    desk.report.streaming();
    Ok((run, connection))
}

impl Run<'_> {
    async fn follow(&mut self, connection: &mut Conn) -> Result<std::convert::Infallible, Fault> {
        let pause = Duration::from_millis(self.settings.poll_ms.max(1));
        loop {
            let began = Instant::now();
            let (mut waiting, has_more) = self.outbox.look(connection, &self.taken).await?;
            while let Some(ids) = waiting.lot() {
                self.deliver(connection, &ids).await?;
                self.compare_in_time(connection).await?;
            }
            self.compare_in_time(connection).await?;
            if !has_more {
                self.desk.report.lag(Some(Duration::ZERO));
                tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
            }
        }
    }

    async fn compare_in_time(&mut self, connection: &mut Conn) -> Result<(), Fault> {
        if self.compared.elapsed() < COMPARE_EVERY {
            return Ok(());
        }
        // A trigger waits for a lock in vain while a long transaction holds its table: another time, then.
        let done = self.compare(connection).await;
        self.compared = Instant::now();
        match done {
            Err(Fault::Lost(why)) => {
                self.desk.report.complain(&why);
                Ok(())
            }
            Ok(()) => self.take_due(connection).await,
            fault => fault,
        }
    }

    /// Delivers the rows with these numbers; somebody else may have removed them.
    async fn deliver(&mut self, connection: &mut Conn, ids: &[String]) -> Result<(), Fault> {
        let entries = self.outbox.read(connection, ids).await?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut events = Vec::with_capacity(entries.len());
        for entry in &entries {
            let origin = Origin {
                source: self.desk.name.as_str().into(),
                committed_at: entry.created_at.as_deref().and_then(row::moment),
                position: Some(format!("{}:{}", self.outbox.table, entry.id)),
                ..Origin::default()
            };
            let done = match self.table_of(&entry.table).await {
                Some((captured, key)) => row::push(&mut events, &captured, &key, entry, &origin),
                None => Err("its table_name cannot be a topic here".to_owned()),
            };
            if let Err(why) = done {
                let said = format!("row {} of `{}` was left out: {why}", entry.id, self.outbox.table);
                tracing::warn!(source = self.desk.name, row = entry.id, why, "a row cannot be an event");
                self.desk.report.complain(&said);
            }
        }
        let taken = Taken::of(entries.into_iter().map(|entry| (entry.id, entry.created_at)));
        self.keep(events, taken).await?;
        self.remove(connection).await
    }

    /// Removes what is in the log. What is there under one of its numbers from now on is another row: somebody has
    /// made the table anew.
    async fn remove(&mut self, connection: &mut Conn) -> Result<(), Fault> {
        self.outbox.remove(connection, &self.taken).await?;
        self.taken = Taken::default();
        Ok(())
    }

    /// Commits events together with the numbers of their rows.
    async fn keep(&mut self, events: Vec<NewEvent>, taken: Taken) -> Result<(), Fault> {
        let value = Bytes::from(serde_json::to_vec(&taken).expect("numbers into memory"));
        let mark = tidings_log::Mark { name: self.mark.clone(), value: Some(value) };
        let source = self.desk.name.as_str().into();
        let capture = Capture { source, events, messages: Vec::new(), marks: vec![mark] };
        self.desk.capture(capture).await?;
        if let Some((_, last)) = taken.ids.last() {
            self.desk.report.position(format!("{}:{last}", self.outbox.table));
        }
        self.taken = taken;
        Ok(())
    }

    /// The table that a row names, and the columns of its key.
    async fn table_of(&mut self, name: &str) -> Option<(Arc<Captured>, Vec<String>)> {
        if let Some((captured, described)) = self.tables.get(name) {
            return Some((Arc::clone(captured), described.primary_key.clone()));
        }
        if let Some(known) = self.others.get(name) {
            return known.clone().map(|captured| (captured, Vec::new()));
        }
        if self.others.len() >= OTHERS_MAX {
            return None;
        }
        let topic = TopicName::captured(None, name, &self.settings.prefix).ok();
        let mut found = topic.map(|topic| {
            Arc::new(Captured { schema: self.place.database.clone(), table: name.to_owned(), topic })
        });
        if let Some(captured) = &found {
            let own_ones = self.tables.values().map(|(one, _)| one);
            let all = own_ones.chain(self.others.values().flatten()).chain([captured]);
            let topics: Vec<TopicName> = all.map(|one| one.topic.clone()).collect();
            if self.desk.own(topics).await.is_err() {
                found = None;
            }
        }
        self.others.insert(name.to_owned(), found.clone());
        found.map(|captured| (captured, Vec::new()))
    }

    async fn remove_others(&self, connection: &mut Conn) -> Result<(), Fault> {
        let own = self.tables.values().map(|(one, _)| &**one);
        definition::remove_others(connection, &self.outbox, own).await
    }

    /// Brings triggers to what their tables look like now.
    async fn compare(&mut self, connection: &mut Conn) -> Result<(), Fault> {
        let all: Vec<Arc<Captured>> = self.tables.values().map(|(one, _)| Arc::clone(one)).collect();
        for (captured, known) in self.tables.values_mut() {
            let described =
                schema::describe(connection, &captured.schema, &captured.table).await.map_err(fault)?;
            if described.columns.is_empty() {
                return Err(Fault::setting(format!(
                    "table `{}` is gone, or the database user may not see it any more; correct `tables`",
                    captured.table
                )));
            }
            let hears = definition::hears(connection, &self.outbox, captured).await?;
            if !hears && self.has_begun && self.roster.was_there(&captured.topic) {
                // Said before the triggers are there, so that nothing is forgotten if this ends in between.
                self.roster.enter(self.desk, std::iter::once(captured.entry()), true, None).await?;
                // They may have gone with a table that was renamed, and would keep their names.
                let all = all.iter().map(|one| &**one);
                definition::remove_others(connection, &self.outbox, all).await?;
            }
            if described != *known || !hears {
                definition::install(connection, &self.server, &self.outbox, captured, &described).await?;
                *known = described;
            }
        }
        Ok(())
    }

    /// Delivers what waits, until there is nothing more.
    async fn deliver_all(&mut self, connection: &mut Conn) -> Result<(), Fault> {
        let mut has_more = true;
        while has_more {
            let (mut waiting, more) = self.outbox.look(connection, &self.taken).await?;
            while let Some(ids) = waiting.lot() {
                self.deliver(connection, &ids).await?;
            }
            has_more = more;
        }
        Ok(())
    }

    /// Delivers the rows of tables that begin with them. What their triggers have written until then is part of it.
    async fn take_due(&mut self, connection: &mut Conn) -> Result<(), Fault> {
        let roster = &self.roster;
        let is_due = |one: &Arc<Captured>| roster.of(&one.topic).is_some_and(|entry| entry.is_due);
        let all = self.tables.values().map(|(captured, _)| Arc::clone(captured));
        let due: Vec<Arc<Captured>> = all.filter(is_due).collect();
        if due.is_empty() {
            return Ok(());
        }
        self.desk.report.snapshot();
        if self.has_begun {
            due.iter().for_each(|one| roster::tell(self.desk, &one.table));
        }
        // What was said of a table before it was made anew.
        if self.has_begun && due.iter().any(|one| self.roster.was_there(&one.topic)) {
            self.deliver_all(connection).await?;
        }
        let origin =
            Origin { source: self.desk.name.as_str().into(), is_snapshot: true, ..Origin::default() };
        let mut aside = self.place.connect().await?;
        snapshot::begin(&mut aside).await?;
        let seen = self.outbox.seen(&mut aside, &due).await?;
        for captured in &due {
            if self.desk.has_events(&captured.topic) {
                self.keep(vec![change::truncate(captured, &origin)], Taken::default()).await?;
            }
            snapshot::rows(&mut aside, captured, &origin, &mut Lots(self)).await?;
        }
        self.keep(Vec::new(), seen).await?;
        self.roster.enter(self.desk, due.iter().map(|one| one.entry()), false, None).await?;
        self.remove(connection).await?;
        self.desk.report.streaming();
        Ok(())
    }
}

/// Where the rows of a snapshot go.
struct Lots<'a, 'b>(&'a mut Run<'b>);

impl Sink for Lots<'_, '_> {
    async fn take(&mut self, events: Vec<NewEvent>, _: usize) -> Result<(), Fault> {
        self.0.keep(events, Taken::default()).await
    }
}
