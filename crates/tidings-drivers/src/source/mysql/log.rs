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
        let known = known(desk, &name).await?;
        let mark = match known {
            Some(mark) if !mark.snapshot => mark,
            None if !self.settings.snapshot => {
                let mark = Mark::at(snapshot::now(&mut connection, &server).await?, false);
                keep(desk, &name, Vec::new(), &mark).await?;
                mark
            }
            begun => self.snapshot(desk, &mut connection, &server, &captured, begun.is_some()).await?,
        };
        drop(connection);
        if matches!(mark.position, Position::MariaDb(_)) != server.is_mariadb {
            return Err(Fault::setting(
                "the source stood in the binary log of another kind of server; give it another name",
            ));
        }
        let heartbeat = Duration::from_millis(self.settings.heartbeat_ms.max(100));
        let from = From { position: mark.position.clone(), server_id: self.server_id, heartbeat };
        let mut stream = Stream::open(&self.place, &from).await?;
        let visible = Visible::new(&self.place, &mark.position, self.settings.wait_until_seen).await?;
        desk.report.position(mark.position.to_string());
        desk.report.streaming();
        let (tx, rx) = mpsc::channel(delivery::QUEUE);
        let tables = Tables::new(captured.clone(), collations, self.place.clone(), server.is_mariadb);
        let mut reader = Reader::new(&desk.name, self.place.clone(), from, captured, tables, mark, tx);
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

    async fn snapshot(
        &self,
        desk: &Desk,
        connection: &mut Conn,
        server: &Server,
        captured: &[Arc<Captured>],
        is_again: bool,
    ) -> Result<Mark, Fault> {
        desk.report.snapshot();
        let position = snapshot::begin_at(connection, server).await?;
        let name = mark_name(&desk.name);
        let (source, position_text) = (desk.name.as_str().into(), Some(position.to_string()));
        let origin = Origin { source, position: position_text, is_snapshot: true, ..Origin::default() };
        let emptied = |one: &Arc<Captured>| change::truncate(one, &origin);
        let emptied = if is_again { captured.iter().map(emptied).collect() } else { Vec::new() };
        let mut lots = Lots { desk, name: &name, mark: Mark::at(position, true) };
        lots.take(emptied, 0).await?;
        for one in captured {
            snapshot::rows(connection, one, &origin, &mut lots).await?;
        }
        let mark = Mark::at(lots.mark.position, false);
        keep(desk, &name, Vec::new(), &mark).await?;
        Ok(mark)
    }
}

impl crate::source::Driver for Driver {
    async fn run(&mut self, desk: &Desk) -> Fault {
        self.stream(desk).await.unwrap_or_else(|fault| fault)
    }
}

impl Mark {
    fn at(position: Position, snapshot: bool) -> Self {
        Self { position, snapshot, piece: None, prepared: BTreeMap::new() }
    }
}

/// Where the rows of a snapshot go.
struct Lots<'a> {
    desk: &'a Desk,
    name: &'a str,
    mark: Mark,
}

impl Sink for Lots<'_> {
    async fn take(&mut self, events: Vec<NewEvent>, _: usize) -> Result<(), Fault> {
        keep(self.desk, self.name, events, &self.mark).await
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
