//! Reads the binary log from a position on and delivers its transactions, each as a whole or in pieces.
//!
//! Owns: the position, the transaction that is being read, and the ones of two phases that wait.
//! Never: delivers what was rolled back, or guesses what it cannot read: then it ends with a sentence.

use super::super::captured::Captured;
use super::super::change;
use super::super::connect::Place;
use super::super::delivery::Delivery;
use super::super::position::{Mark, Position};
use super::super::row::image::Rows;
use super::super::row::input::Malformed;
use super::event::{Begin, Event};
use super::statement::Statement;
use super::stream::{Arrived, From, Stream};
use super::tables::Tables;
use super::transaction::Transaction;
use crate::source::Fault;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Where it reads, and what it has in hand.
pub struct Reader {
    source: Box<str>,
    place: Place,
    from: From,
    captured: Vec<Arc<Captured>>,
    /// Of tables whose rows came first, the positions that these belong to.
    joined: Vec<(Arc<Captured>, Position)>,
    tables: Tables,
    mark: Mark,
    file: String,
    /// Where the newest event ends in it.
    end: u64,
    open: Option<Transaction>,
    deliveries: mpsc::Sender<Delivery>,
    /// When a position was last delivered, with events or without.
    delivered_at: Instant,
    is_moved: bool,
}

impl Reader {
    pub fn new(
        source: &str,
        place: Place,
        from: From,
        captured: Vec<Arc<Captured>>,
        tables: Tables,
        mark: Mark,
        deliveries: mpsc::Sender<Delivery>,
    ) -> Self {
        let file = match &mark.position {
            Position::File { name, .. } => name.clone(),
            _ => String::new(),
        };
        Self {
            source: source.into(),
            place,
            from,
            captured,
            joined: Vec::new(),
            tables,
            mark,
            file,
            end: 0,
            open: None,
            deliveries,
            delivered_at: Instant::now(),
            is_moved: false,
        }
    }

    /// What was done to these tables up to these positions is in the log already.
    pub fn joining(mut self, joined: Vec<(Arc<Captured>, Position)>) -> Self {
        self.joined = joined;
        self
    }

    /// Reads until something breaks.
    pub async fn run(&mut self, stream: &mut Stream) -> Fault {
        loop {
            let done = match stream.next().await {
                Ok(Some(arrived)) => {
                    self.end = u64::from(arrived.raw.header().log_pos());
                    self.take(&arrived).await
                }
                Ok(None) => Err(Fault::lost("the database ended the binary log")),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = done {
                return fault;
            }
        }
    }

    /// Takes one event.
    pub async fn take(&mut self, arrived: &Arrived) -> Result<(), Fault> {
        let header = arrived.raw.header();
        let end = u64::from(header.log_pos());
        match Event::read(arrived).map_err(unread)? {
            Event::Rotate { file, place } => {
                if let (Position::File { name, place: at }, None) = (&mut self.mark.position, &self.open) {
                    (*name, *at) = (file.clone(), place);
                }
                self.file = file;
            }
            Event::Gtid(begin) => self.begin(begin, end - u64::from(header.event_size()).min(end)),
            Event::Table { id, input } => {
                self.from.position.clone_from(&self.mark.position);
                if !self.joined.is_empty()
                    && self.tables.captured(input)?.is_some_and(|one| self.came_first(one))
                {
                    // Nor need its rows be understood, which its columns of now may not fit.
                    self.tables.forget(id);
                } else {
                    self.tables.map(id, input, &self.from).await?;
                }
            }
            Event::Rows { verb, table, input } => {
                let Some(table) = self.tables.of(table).cloned() else { return Ok(()) };
                let broken = |why: &dyn std::fmt::Display| {
                    Fault::setting(format!("rows of `{}` cannot be read: {why}", table.captured.table))
                };
                let mut rows = Rows::new(verb, &table.layout.columns, input).map_err(|why| broken(&why))?;
                self.open_at(header.timestamp(), end - u64::from(header.event_size()).min(end));
                if self.came_first(&table.captured) {
                    return Ok(());
                }
                loop {
                    let open = self.open.as_mut().expect("opened just now");
                    open.origin.position = Some(format!("{}:{end}", self.file));
                    if !open.take(&table, &mut rows).map_err(|why| broken(&why))? {
                        break;
                    }
                    self.deliver_piece().await?;
                }
            }
            Event::Query { schema, text } => {
                let begins = end - u64::from(header.event_size()).min(end);
                self.query(&schema, &text, header.timestamp(), begins, end).await?;
            }
            Event::Commit => self.end(end).await?,
            Event::Prepared(name) => self.prepare(name, end).await?,
            Event::Unreadable(why) => return Err(Fault::setting(why)),
            Event::Other => {}
        }
        self.say_where().await
    }

    /// Whether what the open transaction has done to a table is among the rows that it began with.
    fn came_first(&self, captured: &Arc<Captured>) -> bool {
        let Some(open) = &self.open else { return false };
        let is_in = |since: &Position| since.covers(open.gtid.as_ref(), (&open.begins.0, open.begins.1));
        self.joined.iter().any(|(one, since)| Arc::ptr_eq(one, captured) && is_in(since))
    }

    fn begin(&mut self, begin: Begin, at: u64) {
        // A transaction that is still open was cut off by a crash of the server: it never was.
        let begins = (self.file.clone(), at);
        self.open =
            Some(Transaction::new(&self.source, begin, begins, self.mark.piece.as_ref(), &self.captured));
    }

    /// Servers without numbers for transactions begin them with a statement, or with nothing.
    fn open_at(&mut self, seconds: u32, at: u64) {
        if self.open.is_none() {
            let committed_us = u64::from(seconds) * 1_000_000;
            self.begin(Begin { gtid: None, is_standalone: false, committed_us }, at);
        }
    }

    async fn query(
        &mut self,
        schema: &str,
        text: &str,
        seconds: u32,
        at: u64,
        end: u64,
    ) -> Result<(), Fault> {
        let statement = Statement::read(text);
        let is_begin = statement == Statement::Begin;
        if self.open.is_none() {
            self.open_at(seconds, at);
            self.open.as_mut().expect("opened just now").is_alone = !is_begin;
        }
        let open = self.open.as_mut().expect("opened just now");
        match statement {
            Statement::Begin | Statement::Within => {
                open.has_begun = true;
                return Ok(());
            }
            Statement::Commit => return self.end(end).await,
            Statement::Rollback => {
                open.events.clear();
                return self.end(end).await;
            }
            Statement::Savepoint(name) => open.savepoint(name),
            Statement::RollbackTo(name) => {
                if !open.roll_back_to(&name) {
                    return Err(Fault::setting(
                        "a large transaction was rolled back in part after its beginning had been delivered, since it \
                         also changed tables without transactions; use InnoDB for them",
                    ));
                }
            }
            Statement::XaCommit(name) => self.decide(&name, true).await?,
            Statement::XaRollback(name) => self.decide(&name, false).await?,
            Statement::Emptied(names) => {
                open.origin.position = Some(format!("{}:{end}", self.file));
                for (of, table) in names {
                    let named = self.tables.named(of.as_deref().unwrap_or(schema), &table).cloned();
                    if let Some(captured) = named.filter(|captured| !self.came_first(captured)) {
                        let open = self.open.as_mut().expect("opened above");
                        let event = change::truncate(&captured, &open.origin);
                        open.push(event);
                    }
                }
                self.tables.changed_by(text);
            }
            Statement::Change => {
                let mentioned = self.tables.mentioned(text).filter(|captured| !self.came_first(captured));
                if let Some(captured) = mentioned {
                    return Err(Fault::setting(format!(
                        "a change of table `{}` was logged as a statement, not as rows: somebody has changed \
                         binlog_format for a session; take that back, give the source another name, and set \
                         snapshot = true to begin anew",
                        captured.table
                    )));
                }
            }
            Statement::Other => self.tables.changed_by(text),
        }
        let open = self.open.as_ref().expect("opened above");
        if open.is_alone || !open.has_begun { self.end(end).await } else { Ok(()) }
    }

    /// The transaction that is open is complete.
    async fn end(&mut self, end: u64) -> Result<(), Fault> {
        let open = self.open.take();
        let gtid = open.as_ref().and_then(|open| open.gtid.as_ref());
        self.mark.position.pass(gtid, &self.file, end);
        self.mark.piece = None;
        self.is_moved = true;
        self.joined.retain(|(_, since)| !self.mark.position.contains(since));
        match open.filter(|open| !open.events.is_empty()) {
            Some(open) => {
                let committed_at = open.origin.committed_at;
                self.deliver(open.events, open.bytes, committed_at).await
            }
            None => Ok(()),
        }
    }

    async fn deliver_piece(&mut self) -> Result<(), Fault> {
        let open = self.open.as_mut().expect("rows belong to a transaction");
        open.is_split = true;
        let (events, bytes) = (std::mem::take(&mut open.events), std::mem::take(&mut open.bytes));
        let committed_at = open.origin.committed_at;
        self.mark.piece = Some(open.piece());
        self.deliver(events, bytes, committed_at).await
    }

    async fn deliver(
        &mut self,
        events: Vec<tidings_model::NewEvent>,
        bytes: usize,
        committed_at: Option<tidings_model::Timestamp>,
    ) -> Result<(), Fault> {
        (self.delivered_at, self.is_moved) = (Instant::now(), false);
        let (mark, file) = (self.mark.clone(), self.file.clone());
        let delivery = Delivery { events, bytes, mark, file, end: self.end, committed_at };
        self.deliveries.send(delivery).await.map_err(|_| Fault::lost("the log takes nothing more"))
    }

    /// Others' changes move the position too; it is kept now and then, so that little is read again.
    async fn say_where(&mut self) -> Result<(), Fault> {
        let is_due =
            self.is_moved && self.open.is_none() && self.delivered_at.elapsed() > self.from.heartbeat;
        if is_due { self.deliver(Vec::new(), 0, None).await } else { Ok(()) }
    }

    /// The first phase of two: what was read is kept in the server's log only.
    async fn prepare(&mut self, name: String, end: u64) -> Result<(), Fault> {
        if let Some(open) = &mut self.open {
            self.mark.prepared.insert(name, open.begins.clone());
            (open.events, open.bytes) = (Vec::new(), 0);
        }
        self.end(end).await
    }

    /// The second phase: what was prepared happens now, or never.
    async fn decide(&mut self, name: &str, is_committed: bool) -> Result<(), Fault> {
        let Some((file, at)) = self.mark.prepared.get(name).cloned() else { return Ok(()) };
        if is_committed {
            self.replay(file, at).await?;
        }
        self.mark.prepared.remove(name);
        Ok(())
    }

    /// Reads a prepared transaction again, as part of the one that is open.
    async fn replay(&mut self, file: String, at: u64) -> Result<(), Fault> {
        let position = Position::File { name: file, place: at };
        let from = From { position, server_id: self.from.server_id ^ 1, heartbeat: self.from.heartbeat };
        let mut stream = Stream::open_to_end(&self.place, &from).await?;
        while let Some(arrived) = stream.next().await? {
            match Event::read(&arrived).map_err(unread)? {
                Event::Prepared(_) | Event::Commit => return Ok(()),
                Event::Table { .. } | Event::Rows { .. } => Box::pin(self.take(&arrived)).await?,
                _ => {}
            }
        }
        Err(Fault::lost("the binary log ends within a transaction"))
    }
}

/// Bytes that mean nothing here will not mean more the next time.
pub fn unread(why: Malformed) -> Fault {
    Fault::setting(format!(
        "the server's binary log cannot be read here ({why}); set mode = \"triggers\", or leave tables with unusual \
         columns out of `tables`"
    ))
}
