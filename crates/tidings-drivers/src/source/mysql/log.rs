//! One run over the binary log: checks, the snapshot where it is asked for, then transactions as they come.
//!
//! Owns: the mark that says where the source stands.

use super::binlog::stream::{From, Stream};
use super::binlog::{Reader, Tables};
use super::captured::{self, Captured};
use super::change::{self, Origin};
use super::connect::{Place, Server};
use super::delivery::{self, Delivery};
use super::fault::fault;
use super::position::{Mark, Position};
use super::snapshot::Sink;
use super::visible::Visible;
use super::{schema, snapshot};
use crate::source::roster::{self, Roster};
use crate::source::{Desk, Fault, Settings};
use mysql_async::Conn;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;
use tidings_model::NewEvent;
use tokio::sync::mpsc;

/// The lowest of the numbers that we give ourselves: small ones are those of real servers.
const SERVER_ID_MIN: u32 = 1 << 30;

pub struct Driver {
    place: Place,
    settings: Settings,
    /// The same for as long as the process lives, so that the server ends a dead connection of ours.
    server_id: u32,
}

impl Driver {
    pub fn new(place: Place, settings: Settings) -> Self {
        let random = getrandom::u32().unwrap_or(std::process::id());
        Self { place, settings, server_id: SERVER_ID_MIN | random >> 2 << 1 }
    }

    async fn stream(&mut self, desk: &Desk) -> Result<Fault, Fault> {
        desk.report.connecting();
        let name = mark_name(&desk.name);
        let mut connection = self.place.connect().await?;
        let server = Server::ask(&mut connection).await?;
        server.check_log()?;
        let captured = captured::find(&mut connection, &self.place, &self.settings).await?;
        desk.take(captured.iter().map(|one| one.topic.clone()).collect(), &self.settings.tables).await?;
        let collations = schema::collations(&mut connection).await.map_err(fault)?;
        let entries = || captured.iter().map(|one| one.entry());
        let known = known(desk, &name).await?;
        let has_begun = known.is_some();
        let (mut mark, mut roster) = match known {
            Some(mark) => (mark, Roster::read(desk, entries(), self.settings.snapshot).await?),
            None => {
                let roster = Roster::begin(desk, entries(), self.settings.snapshot).await?;
                let mark = Mark::at(snapshot::now(&mut connection, &server).await?);
                keep(desk, &name, Vec::new(), &mark).await?;
                (mark, roster)
            }
        };
        if matches!(mark.position, Position::MariaDb(_)) != server.is_mariadb {
            return Err(Fault::setting(
                "the source stood in the binary log of another kind of server; give it another name",
            ));
        }
        roster.settle(desk).await?;
        let is_due = |one: &&Arc<Captured>| roster.of(&one.topic).is_some_and(|entry| entry.is_due);
        let due: Vec<_> = captured.iter().filter(is_due).cloned().collect();
        if !due.is_empty() {
            if has_begun {
                due.iter().for_each(|one| roster::tell(desk, &one.table));
            }
            let at = take_rows(desk, &mut connection, &server, &due, &mark).await?;
            if due.len() == captured.len() && mark.prepared.is_empty() {
                // Nothing from before is needed, which the server may have removed meanwhile.
                mark = Mark::at(at.clone());
                keep(desk, &name, Vec::new(), &mark).await?;
            }
            roster.enter(desk, due.iter().map(|one| one.entry()), false, Some(at)).await?;
        }
        let since = |one: &Arc<Captured>| Some((Arc::clone(one), roster.of(&one.topic)?.since.clone()?));
        let mut joined: Vec<(Arc<Captured>, Position)> = captured.iter().filter_map(since).collect();
        joined.retain(|(_, since)| !mark.position.contains(since));
        drop(connection);
        let heartbeat = Duration::from_millis(self.settings.heartbeat_ms.max(100));
        let from = From { position: mark.position.clone(), server_id: self.server_id, heartbeat };
        let mut stream = Stream::open(&self.place, &from).await?;
        let visible = Visible::new(&self.place, &mark.position, self.settings.wait_until_seen).await?;
        desk.report.position(mark.position.to_string());
        desk.report.streaming();
        let (tx, rx) = mpsc::channel(delivery::QUEUE);
        let tables = Tables::new(captured.clone(), collations, self.place.clone(), server.is_mariadb);
        let mut reader =
            Reader::new(&desk.name, self.place.clone(), from, captured, tables, mark, tx).joining(joined);
        let committing = delivery::commit_all(desk, &name, rx, visible);
        let reading = async move { reader.run(&mut stream).await };
        tokio::pin!(committing);
        tokio::select! {
            biased;
            fault = &mut committing => Ok(fault),
            fault = reading => {
                // What was read whole is still committed: the next run asks for the position only after it.
                committing.await;
                Ok(fault)
            }
        }
    }
}

/// The rows of tables that begin with them. Answers with the position that they belong to: what the binary log says of
/// them from before that is passed over.
async fn take_rows(
    desk: &Desk,
    connection: &mut Conn,
    server: &Server,
    due: &[Arc<Captured>],
    mark: &Mark,
) -> Result<Position, Fault> {
    desk.report.snapshot();
    let position = snapshot::begin_at(connection, server).await?;
    let (source, position_text) = (desk.name.as_str().into(), Some(position.to_string()));
    let origin = Origin { source, position: position_text, is_snapshot: true, ..Origin::default() };
    let mut lots = Lots { desk, name: &mark_name(&desk.name), mark };
    for one in due {
        if desk.has_events(&one.topic) {
            lots.take(vec![change::truncate(one, &origin)], 0).await?;
        }
        snapshot::rows(connection, one, &origin, &mut lots).await?;
    }
    Ok(position)
}

impl crate::source::Driver for Driver {
    async fn run(&mut self, desk: &Desk) -> Fault {
        self.stream(desk).await.unwrap_or_else(|fault| fault)
    }
}

impl Mark {
    fn at(position: Position) -> Self {
        Self { position, piece: None, prepared: BTreeMap::new() }
    }
}

/// Where the rows of a snapshot go.
struct Lots<'a> {
    desk: &'a Desk,
    name: &'a str,
    mark: &'a Mark,
}

impl Sink for Lots<'_> {
    async fn take(&mut self, events: Vec<NewEvent>, _: usize) -> Result<(), Fault> {
        keep(self.desk, self.name, events, self.mark).await
    }
}

async fn keep(desk: &Desk, name: &str, events: Vec<NewEvent>, mark: &Mark) -> Result<(), Fault> {
    let delivery =
        Delivery { events, bytes: 0, mark: mark.clone(), file: String::new(), end: 0, committed_at: None };
    delivery::commit(desk, name, delivery, ready(Ok(())), true).await
}

async fn known(desk: &Desk, name: &str) -> Result<Option<Mark>, Fault> {
    let found =
        desk.tidings.position(name).await.map_err(|why| Fault::lost(format!("the log refuses: {why}")))?;
    let read = |bytes: bytes::Bytes| {
        serde_json::from_slice(&bytes).map_err(|_| {
            Fault::setting("the position kept in the log is of another mode; give the source another name")
        })
    };
    found.map(read).transpose()
}

fn mark_name(source: &str) -> String {
    format!("source:{source}")
}
