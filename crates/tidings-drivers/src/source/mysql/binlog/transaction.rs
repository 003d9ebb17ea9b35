//! One transaction while it is read: its events, and how many rows of each table it has had.

use super::super::captured::Captured;
use super::super::change::{self, Origin, Table};
use super::super::position::{Gtid, Piece};
use super::super::row::column::Error;
use super::super::row::image::Rows;
use super::event::Begin;
use std::sync::Arc;
use tidings_model::{NewEvent, Timestamp};

/// From here on what there is of a transaction is delivered as a piece.
const PIECE_BYTES: usize = 4 << 20;

/// A transaction that is not complete.
#[derive(Debug, Default)]
pub struct Transaction {
    pub gtid: Option<Gtid>,
    /// Its next statement ends it.
    pub is_alone: bool,
    /// It goes on until something ends it.
    pub has_begun: bool,
    /// The file and place where it begins.
    pub begins: (String, u64),
    pub origin: Origin,
    pub events: Vec<NewEvent>,
    pub bytes: usize,
    counts: Vec<Count>,
    savepoints: Vec<(String, usize)>,
    /// Whether a piece of it has been delivered, now or earlier.
    pub is_split: bool,
}

#[derive(Debug)]
struct Count {
    captured: Arc<Captured>,
    taken: u64,
    /// Delivered earlier.
    skip: u64,
}

impl Transaction {
    /// `piece` is what was delivered of the transaction that the source last had in hand.
    pub fn new(
        source: &str,
        begin: Begin,
        begins: (String, u64),
        piece: Option<&Piece>,
        captured: &[Arc<Captured>],
    ) -> Self {
        let name = begin.gtid.as_ref().map_or_else(|| format!("{}:{}", begins.0, begins.1), Gtid::to_string);
        let mut counts = Vec::new();
        if let Some(piece) = piece.filter(|piece| piece.transaction == name) {
            for one in captured {
                if let Some(skip) = piece.taken.get(one.topic.as_str()) {
                    counts.push(Count { captured: Arc::clone(one), taken: 0, skip: *skip });
                }
            }
        }
        let origin = Origin {
            source: source.into(),
            transaction: Some(name),
            committed_at: Timestamp::from_millis((begin.committed_us / 1000) as i64),
            ..Origin::default()
        };
        Self {
            is_alone: begin.is_standalone,
            has_begun: matches!(begin.gtid, Some(Gtid::MariaDb { .. })) && !begin.is_standalone,
            gtid: begin.gtid,
            begins,
            origin,
            is_split: !counts.is_empty(),
            counts,
            ..Self::default()
        }
    }

    /// Takes rows in until there are none, or enough for a piece. Says whether there may be more.
    pub fn take(&mut self, table: &Table, rows: &mut Rows<'_>) -> Result<bool, Error> {
        let n = match self.counts.iter().position(|count| Arc::ptr_eq(&count.captured, &table.captured)) {
            Some(n) => n,
            None => {
                self.counts.push(Count { captured: Arc::clone(&table.captured), taken: 0, skip: 0 });
                self.counts.len() - 1
            }
        };
        let count = &mut self.counts[n];
        while self.bytes < PIECE_BYTES {
            if count.taken < count.skip {
                if !rows.skip()? {
                    return Ok(false);
                }
            } else {
                let Some(change) = rows.next()? else { return Ok(false) };
                let before = self.events.len();
                change::push(&mut self.events, table, change, &self.origin);
                self.bytes += self.events[before..].iter().map(change::weight).sum::<usize>();
            }
            count.taken += 1;
        }
        Ok(true)
    }

    /// An event that no row stands for.
    pub fn push(&mut self, event: NewEvent) {
        self.bytes += change::weight(&event);
        self.events.push(event);
    }

    /// What has been read of it, for a mark that stands before it.
    pub fn piece(&self) -> Piece {
        let taken = self.counts.iter().map(|count| (count.captured.topic.to_string(), count.taken));
        Piece { transaction: self.origin.transaction.clone().unwrap_or_default(), taken: taken.collect() }
    }

    /// Rows from here on may be taken back.
    pub fn savepoint(&mut self, name: String) {
        self.savepoints.push((name, self.events.len()));
    }

    /// Takes back what followed a savepoint; says whether that was possible.
    pub fn roll_back_to(&mut self, name: &str) -> bool {
        let Some((_, len)) = self.savepoints.iter().rev().find(|(n, _)| n == name) else {
            return self.events.is_empty() && !self.is_split;
        };
        if self.is_split {
            return false;
        }
        self.events.truncate(*len);
        self.bytes = self.events.iter().map(change::weight).sum();
        true
    }
}
