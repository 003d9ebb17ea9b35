//! The running stream: changes in, commits out.
//!
//! Owns: reading on while a commit is under way, pieces of large transactions, what was taken before a break, and telling
//! the server what is safe. One commit at a time; what arrives meanwhile goes together into the next.
//! Never: confirms what is not in the log.

use super::catalog::{Captured, Catalog};
use super::form::Form;
use super::line::{Frame, Line};
use super::lsn::Lsn;
use super::monitor::Ending;
use super::pgoutput::{self, Message, Old, Relation, Tuple, Value};
use super::place::{self, Place, Stored};
use super::queue::{Piece, Queue};
use super::row::{Change, Layout, Moment, Values, events};
use super::snapshot::value_of;
use super::visible;
use crate::source::{Desk, Fault, gather};
use bytes::Bytes;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidings_engine::Capture;
use tidings_model::{NewEvent, Timestamp, Topic};
use tokio_util::task::AbortOnDropHandle;

/// Commits in quick succession are confirmed together.
const CONFIRM_EVERY: Duration = Duration::from_millis(20);
/// While it gathers, one read takes many transactions; but the server need not wait until we read.
const GATHER_BYTES: usize = 64 << 10;
/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// What a prefix says that names no topic: the content does.
const PREFIX: &str = "tidings";

/// Answers with the place that is reached, and when the newest change was committed in the database.
type Commit = Pin<Box<dyn Future<Output = Result<(Place, Option<Timestamp>), Fault>> + Send>>;

pub struct Stream<'a, S> {
    desk: &'a Desk,
    line: Line,
    catalog: Catalog,
    tables: Vec<Captured>,
    stored: S,
    relations: HashMap<u32, Known>,
    queue: Queue<Place>,
    /// The place after the newest message read.
    read: Place,
    /// The place that the log holds.
    safe: Place,
    /// What the server was told.
    confirmed: Lsn,
    confirmed_at: Instant,
    heard_at: Instant,
    open: Option<Open>,
    /// The transactions of what is in the queue; whether other sessions see them was not asked yet.
    unseen: Vec<u32>,
    /// Events have left the queue and are not yet in the log.
    is_committing: bool,
    /// Nothing is committed before that: many transactions come at the time.
    gather_until: Instant,
}

/// A transaction being read.
struct Open {
    moment: Moment,
    /// Changes that the log holds already, still to come again.
    skip: u64,
    is_known: bool,
}

/// What is known of a table for as long as it does not change.
enum Known {
    /// Not captured.
    Other,
    Table {
        layout: Arc<Layout>,
        forms: Vec<Form>,
        /// What was committed before this is in the log already.
        since: Lsn,
    },
}

impl<'a, S: Fn(Place) -> Stored> Stream<'a, S> {
    pub fn new(
        desk: &'a Desk,
        line: Line,
        catalog: Catalog,
        tables: Vec<Captured>,
        place: Place,
        stored: S,
    ) -> Self {
        let now = Instant::now();
        Self {
            desk,
            line,
            catalog,
            tables,
            stored,
            relations: HashMap::new(),
            queue: Queue::default(),
            read: place,
            safe: place,
            confirmed: Lsn::default(),
            confirmed_at: now,
            heard_at: now,
            open: None,
            unseen: Vec::new(),
            is_committing: false,
            gather_until: now,
        }
    }

    /// Runs until something breaks, or until everything up to `until` is in the log, or up to where `ending` says.
    pub async fn run(
        mut self,
        heartbeat_ms: u64,
        mut until: Option<Lsn>,
        mut ending: AbortOnDropHandle<Ending>,
    ) -> Result<(), Fault> {
        let mut done = Ok(());
        let heartbeat = Duration::from_millis(heartbeat_ms.max(10));
        let mut commit: Option<Commit> = None;
        loop {
            let is_gathering = Instant::now() < self.gather_until && !self.queue.is_full();
            self.line.wake_at(if is_gathering { GATHER_BYTES } else { 1 });
            if commit.is_none() && !is_gathering {
                let piece = self.queue.piece();
                commit = piece.map(|piece| self.commit(piece));
                self.is_committing = commit.is_some();
            }
            if until.is_some_and(|until| self.safe.whole >= until) && !self.is_committing {
                return done;
            }
            let unconfirmed = self.safe.whole > self.confirmed;
            let pause = if unconfirmed || until.is_some() { CONFIRM_EVERY } else { heartbeat };
            let frame = tokio::select! {
                biased;
                done = async { commit.as_mut().expect("checked").await }, if commit.is_some() => {
                    (commit, self.is_committing) = (None, false);
                    self.committed(done?).await?;
                    continue;
                }
                said = &mut ending, if done.is_ok() => {
                    let said = said.map_err(|_| Fault::lost("nobody looks after the slot any more"))?;
                    (until, done) = (Some(said.at), Err(said.fault));
                    continue;
                }
                frame = self.line.frame(), if !self.queue.is_full() => frame?,
                () = tokio::time::sleep_until(self.gather_until.into()), if is_gathering => {
                    continue;
                }
                () = tokio::time::sleep_until((self.confirmed_at + pause).into()) => {
                    if self.heard_at.elapsed() > heartbeat * 3 + Duration::from_secs(5) && !self.queue.is_full() {
                        return Err(Fault::lost("PostgreSQL has fallen silent"));
                    }
                    self.keep_up().await?;
                    self.confirm(!unconfirmed).await?;
                    continue;
                }
            };
            self.heard_at = Instant::now();
            self.take(frame).await?;
            // What has arrived already is read without asking who else has something to say.
            while !self.queue.is_full() {
                let Some(frame) = self.line.buffered()? else { break };
                self.take(frame).await?;
            }
        }
    }

    fn commit(&mut self, piece: Piece<Place>) -> Commit {
        let desk = self.desk.clone();
        let (client, unseen) = (Arc::clone(&self.catalog.client), std::mem::take(&mut self.unseen));
        if let Some(pause) = gather(piece.events.len()).filter(|_| unseen.len() > 1) {
            self.gather_until = Instant::now() + pause;
        }
        let (place, marks) = (piece.place, vec![place::mark(&self.desk.name, &(self.stored)(piece.place))]);
        let newest = piece.events.last().and_then(|event| event.occurred_at);
        let source = self.desk.name.as_str().into();
        Box::pin(async move {
            let capture = Capture { source, events: piece.events, messages: piece.messages, marks };
            desk.capture_once(visible::wait(&client, &unseen), capture).await.map(|()| (place, newest))
        })
    }

    async fn committed(&mut self, (place, newest): (Place, Option<Timestamp>)) -> Result<(), Fault> {
        self.safe = place;
        let now = self.desk.tidings.clock().now();
        let age = |at: Timestamp| u64::try_from(now.as_millis() - at.as_millis()).unwrap_or(0);
        let behind = newest.filter(|_| !self.queue.is_empty()).map_or(0, age);
        self.desk.report.lag(Some(Duration::from_millis(behind)));
        self.desk.report.position(place.whole.to_string());
        if self.confirmed_at.elapsed() >= CONFIRM_EVERY { self.confirm(false).await } else { Ok(()) }
    }

    /// With nothing waiting, what was read without events is safe too, once the log says so: a slot that is ahead of the
    /// log has let go of something that the log does not have.
    async fn keep_up(&mut self) -> Result<(), Fault> {
        let is_level = self.queue.is_empty() && !self.is_committing && self.open.is_none();
        if is_level && self.read.whole > self.safe.whole {
            self.desk.mark(place::mark(&self.desk.name, &(self.stored)(self.read))).await?;
            self.safe = self.read;
        }
        Ok(())
    }

    async fn confirm(&mut self, wants_answer: bool) -> Result<(), Fault> {
        (self.confirmed, self.confirmed_at) = (self.safe.whole, Instant::now());
        Ok(self.line.confirm(self.confirmed, wants_answer).await?)
    }

    async fn take(&mut self, frame: Frame) -> Result<(), Fault> {
        match frame {
            Frame::Alive { end, wants_answer } => {
                if self.open.is_none() && self.queue.is_empty() && !self.is_committing {
                    self.read.whole = self.read.whole.max(end);
                }
                if !wants_answer {
                    return Ok(());
                }
                // It may be shutting down, and waits until everything is confirmed.
                self.keep_up().await?;
                self.confirm(false).await
            }
            Frame::Change(bytes) => {
                let message = pgoutput::decode(bytes).map_err(Fault::lost)?;
                self.change(message).await
            }
        }
    }

    async fn change(&mut self, message: Message) -> Result<(), Fault> {
        match message {
            Message::Begin { commit, at_micros, xid } => {
                let at = (at_micros + EPOCH_MICROS).div_euclid(1000);
                let at = Timestamp::from_millis(at).unwrap_or_else(|| self.desk.tidings.clock().now());
                let moment = Moment::new(&self.desk.name, xid.into(), at, &commit.to_string());
                self.unseen.push(xid);
                let skip = if commit == self.read.part { self.read.taken } else { 0 };
                self.read = Place { part: commit, taken: 0, ..self.read };
                self.open = Some(Open { moment, skip, is_known: commit < self.read.whole });
            }
            Message::Commit { end } => {
                let is_known = self.open.take().is_some_and(|open| open.is_known);
                if self.queue.is_empty() {
                    self.unseen.clear();
                }
                if !is_known {
                    self.read = Place { whole: end, ..Place::default() };
                    if self.queue.reached(self.read) {
                        self.queue.complete();
                    }
                }
            }
            Message::Relation(relation) => {
                let known = self.know(&relation).await?;
                self.relations.insert(relation.id, known);
            }
            Message::Insert { relation, new } => {
                self.row(relation, |forms| Change::Insert(values(new, forms)));
            }
            Message::Update { relation, old, new } => self.row(relation, |forms| {
                let old = match old {
                    Old::Unsaid => None,
                    Old::Row(old) => Some(values(old, forms)),
                    Old::Key(old) => Some(known_only(values(old, forms))),
                };
                Change::Update { old, new: values(new, forms) }
            }),
            Message::Delete { relation, old } => self.row(relation, |forms| {
                let old = match old {
                    Old::Key(old) => known_only(values(old, forms)),
                    Old::Row(old) => values(old, forms),
                    Old::Unsaid => Vec::new(),
                };
                Change::Delete { old }
            }),
            Message::Truncate { relations } => {
                // One change for the server, an event for each table here.
                let is_new = self.is_new();
                for relation in relations.iter().filter(|_| is_new) {
                    self.push(*relation, |_| Change::Truncate);
                }
                self.counted();
            }
            Message::Said { is_transactional, end, prefix, content } => {
                self.said(is_transactional, end, &prefix, &content);
            }
            Message::Other => {}
        }
        Ok(())
    }

    /// Whether the next change of the open transaction is one that the log does not hold yet.
    fn is_new(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        if open.is_known || self.read.taken < open.skip {
            return false;
        }
        true
    }

    /// The next change is dealt with.
    fn counted(&mut self) {
        let is_new = self.is_new();
        self.read.taken += 1;
        if is_new {
            self.queue.reached(self.read);
        }
    }

    fn row(&mut self, relation: u32, change: impl FnOnce(&[Form]) -> Change) {
        if self.is_new() {
            self.push(relation, change);
        }
        self.counted();
    }

    fn push(&mut self, relation: u32, change: impl FnOnce(&[Form]) -> Change) {
        let (Some(Known::Table { layout, forms, since }), Some(open)) =
            (self.relations.get(&relation), &self.open)
        else {
            return;
        };
        if self.read.part < *since {
            return;
        }
        for event in events(layout, &open.moment, change(forms)) {
            self.queue.push(event, false);
        }
    }

    /// An application said something itself, in its transaction or at once.
    fn said(&mut self, is_transactional: bool, end: Lsn, prefix: &str, content: &Bytes) {
        let is_new = if is_transactional { self.is_new() } else { end > self.read.whole };
        if is_new {
            let checked = message(prefix, content, &self.desk.name).and_then(|event| {
                self.desk.tidings.check_message(&event).map_err(|why| why.to_string()).map(|()| event)
            });
            match checked {
                Ok(event) => self.queue.push(event, true),
                Err(why) => {
                    tracing::warn!(source = self.desk.name, prefix, why, "a message was left out");
                    let said = format!("a message with the prefix {prefix:?} was left out: {why}");
                    self.desk.report.complain(&said);
                }
            }
        }
        if is_transactional {
            self.counted();
        } else if is_new {
            self.read = Place { whole: end, ..Place::default() };
            if self.queue.reached(self.read) {
                self.queue.complete();
            }
        }
    }

    async fn know(&mut self, relation: &Relation) -> Result<Known, Fault> {
        let Some(table) = self.tables.iter_mut().find(|table| table.id == relation.id) else {
            return Ok(Known::Other);
        };
        table.key = self.catalog.key_of(table).await?;
        // With `replica identity full` every column is one that a row is known by.
        let are_keys = !relation.columns.iter().all(|column| column.is_key);
        self.desk.tidings.deletes_are_keys(&table.topic, are_keys);
        let mut forms = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            forms.push(self.catalog.form(column.type_id).await?);
        }
        let columns: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        let place = |name: &String| columns.iter().position(|column| column == name);
        let key: Option<Vec<usize>> = table.key.iter().map(place).collect();
        // The catalog tells of now, the relation of then: a key that was renamed since is told by the flags.
        let flagged = || (0..columns.len()).filter(|i| relation.columns[*i].is_key).collect();
        let key = match key {
            Some(key) => key,
            None if table.identity == 'd' => flagged(),
            None => Vec::new(),
        };
        let layout = Arc::new(Layout { topic: table.topic.clone(), columns, key });
        Ok(Known::Table { layout, forms, since: table.since })
    }
}

/// The values of a row as JSON.
fn values(tuple: Tuple, forms: &[Form]) -> Values {
    let value = |(value, form): (Value, &Form)| match value {
        Value::Unchanged => None,
        Value::Null => Some(Bytes::from_static(b"null")),
        Value::Text(text) => Some(value_of(Some(&text), form)),
    };
    tuple.into_iter().zip(forms).map(value).collect()
}

/// Of a row of which only the key is said, everything else is unknown.
fn known_only(values: Values) -> Values {
    values.into_iter().map(|value| value.filter(|json| &json[..] != b"null")).collect()
}

/// What `pg_logical_emit_message` said, as an event: the prefix is the address and the content its data; or the prefix is
/// `tidings` and the content a whole event with its topic.
fn message(prefix: &str, content: &Bytes, source: &str) -> Result<NewEvent, String> {
    if prefix == PREFIX {
        return NewEvent::parse_addressed(content).map_err(|e| e.to_string());
    }
    let topic = Topic::parse(prefix).map_err(|e| format!("the prefix is no topic: {e}"))?;
    let data: &serde_json::value::RawValue =
        serde_json::from_slice(content).map_err(|_| "its content is no JSON".to_owned())?;
    let mut event = NewEvent::new(topic, data.get().as_bytes().to_vec());
    event.source = Some(source.into());
    Ok(event)
}
