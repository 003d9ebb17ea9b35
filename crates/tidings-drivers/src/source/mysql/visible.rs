//! A commit that the binary log has told, and that other sessions see.
//!
//! The server sends a transaction when it is in its binary log, and lets others see it a moment later. Owns: waiting for
//! that moment, so that whoever gets an event and asks the database finds what the event says. Never: waits for long (a
//! transaction that waits for a replica is told before it is seen), or stops a source whose server has no answer.

use super::connect::Place;
use super::delivery::Delivery;
use super::fault::fault;
use super::position::{Mark, Position};
use crate::source::Fault;
use crate::source::looks::{Looks, WITHIN};
use mysql_async::prelude::{FromRow, Queryable as _};
use mysql_async::{Conn, Error};

/// Asks over a connection of its own, once for what is committed together.
pub struct Visible {
    place: Place,
    connection: Option<Conn>,
    can_answer: bool,
    /// What was committed up to here is seen.
    seen: Option<Spot>,
    /// Not after a wait in vain, until a commit is seen in time again: one that hangs delays no other.
    is_patient: bool,
}

/// Whether others see what was read.
pub enum Question {
    /// In MySQL's words.
    Executed(String),
    /// MariaDB: up to a place in the log whose files have this name.
    Spot { base: String, spot: Spot },
}

/// A file of the log by its number, and a place in it.
type Spot = (u64, u64);

impl Visible {
    /// For a source that stands at `position`; asks nothing unless that is wanted. A place in a file says nothing to
    /// MySQL's sessions.
    pub async fn new(place: &Place, position: &Position, is_wanted: bool) -> Result<Self, Fault> {
        let can_answer = is_wanted && !matches!(position, Position::File { .. });
        let connection = if can_answer { Some(place.connect().await?) } else { None };
        Ok(Self { place: place.clone(), connection, can_answer, seen: None, is_patient: true })
    }

    /// What there is to ask about everything that was read up to and with `delivery`; `None` if nothing.
    pub fn question(&self, delivery: &Delivery) -> Option<Question> {
        if !self.can_answer || delivery.events.is_empty() {
            return None;
        }
        if let Position::MySql(_) = delivery.mark.position {
            return Some(Question::Executed(executed(&delivery.mark)));
        }
        let (base, number) = numbered(&delivery.file)?;
        Some(Question::Spot { base: base.to_owned(), spot: (number, delivery.end) })
    }

    /// Waits until other sessions see what is asked for.
    pub async fn wait(&mut self, question: Option<Question>) -> Result<(), Fault> {
        let Some(question) = question else { return Ok(()) };
        let mut looks = Looks::begin();
        while self.can_answer {
            let Some(is_seen) = self.sees(&question).await? else {
                self.can_answer = false;
                break;
            };
            if is_seen || !self.is_patient || !looks.again().await {
                self.is_patient = is_seen;
                break;
            }
        }
        Ok(())
    }

    /// Nothing where the server has no answer.
    async fn sees(&mut self, question: &Question) -> Result<Option<bool>, Fault> {
        let (base, asked) = match question {
            Question::Executed(query) => {
                // Zero, unless time is up.
                let rows = self.ask::<Option<i64>>(query).await?;
                return Ok(rows.and_then(|rows| rows.first().copied().flatten()).map(|answer| answer == 0));
            }
            Question::Spot { base, spot } => (base, *spot),
        };
        if self.seen.is_some_and(|seen| seen >= asked) {
            return Ok(Some(true));
        }
        // Where the engine's newest commit stands in the log: both are changed under one lock of the server's.
        let rows = self.ask::<(String, String)>("show status like 'binlog_snapshot_%'").await?;
        self.seen = rows.and_then(|rows| spot(&rows, base));
        Ok(self.seen.map(|seen| seen >= asked))
    }

    /// What the server answers; nothing if it refuses.
    async fn ask<T: FromRow + Send + 'static>(&mut self, query: &str) -> Result<Option<Vec<T>>, Fault> {
        // Servers end connections that have been silent for long: then over a new one.
        if let Some(connection) = &mut self.connection
            && let Ok(rows) = connection.query(query).await
        {
            return Ok(Some(rows));
        }
        let connection = self.connection.insert(self.place.connect().await?);
        match connection.query(query).await {
            Ok(rows) => Ok(Some(rows)),
            Err(Error::Server(_)) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }
}

/// MySQL: waits by itself. Of a transaction that comes in pieces the position does not know yet.
fn executed(mark: &Mark) -> String {
    let piece = mark.piece.iter().map(|piece| format!(",{}", piece.transaction));
    let set = format!("{}{}", mark.position, piece.collect::<String>());
    format!("select wait_for_executed_gtid_set('{set}', {})", WITHIN.as_secs())
}

/// Of MariaDB's status, if it speaks of the log that is read.
fn spot(rows: &[(String, String)], base: &str) -> Option<Spot> {
    let value = |name: &str| rows.iter().find(|row| row.0.eq_ignore_ascii_case(name)).map(|row| &row.1);
    let (found, number) = numbered(value("binlog_snapshot_file")?)?;
    let place = value("binlog_snapshot_position")?.parse().ok()?;
    (found == base).then_some((number, place))
}

/// A file's name and number: `bin.000007`.
fn numbered(file: &str) -> Option<(&str, u64)> {
    let (base, number) = file.rsplit_once('.')?;
    Some((base, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::position::Piece;
    use std::collections::BTreeMap;

    #[test]
    fn a_place_in_a_later_file_is_later() {
        let rows = |file: &str, place: &str| {
            vec![
                ("Binlog_snapshot_file".to_owned(), file.to_owned()),
                ("Binlog_snapshot_position".to_owned(), place.to_owned()),
            ]
        };
        assert_eq!(spot(&rows("bin.000009", "700"), "bin"), Some((9, 700)));
        assert!(spot(&rows("my.bin.1000000", "4"), "my.bin") > Some((999_999, 500)));
        // Another server's log, one that is not written, and a server that has no such status.
        assert_eq!(spot(&rows("other.000009", "700"), "bin"), None);
        assert_eq!(spot(&rows("", "0"), "bin"), None);
        assert_eq!(spot(&[], "bin"), None);
    }

    #[test]
    fn mysql_is_asked_for_the_transaction_in_pieces_too() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let position = Position::mysql(&format!("{uuid}:1-7")).unwrap();
        let piece = Some(Piece { transaction: format!("{uuid}:9"), taken: BTreeMap::new() });
        let mark = Mark { position, piece, prepared: BTreeMap::new() };
        let query = format!("select wait_for_executed_gtid_set('{uuid}:1-7,{uuid}:9', 1)");
        assert_eq!(executed(&mark), query);
    }
}
