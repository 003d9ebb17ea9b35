//! Where a source stands in the binary log, as the log of events keeps it.
//!
//! A position names transactions that are complete. Of one that is delivered in pieces, the mark says besides how
//! many rows of each table have been delivered.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Everything up to here has been taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// MariaDB: of each domain the newest transaction's server and number.
    MariaDb(BTreeMap<u32, (u32, u64)>),
    /// MySQL: of each server (and tag) the numbers of transactions, first and last of each run.
    MySql(BTreeMap<String, Vec<(u64, u64)>>),
    /// A place in a file; also where transactions have no numbers.
    File { name: String, place: u64 },
}

/// A transaction's own number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gtid {
    MariaDb { domain: u32, server: u32, sequence: u64 },
    MySql { server: String, sequence: u64 },
}

/// What is committed together with events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub position: Position,
    /// What has been delivered of the transaction that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Piece>,
    /// Transactions of two phases that wait for their second: by name, the file and place where each begins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prepared: BTreeMap<String, (String, u64)>,
}

/// Rows delivered of a transaction that is not complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub transaction: String,
    /// By topic. Only the rows of tables that are captured count.
    pub taken: BTreeMap<String, u64>,
}

impl Position {
    /// MariaDB's list of transactions: `0-1-100,1-1-5`.
    pub fn mariadb(text: &str) -> Option<Self> {
        let one = |text: &str| {
            let mut parts = text.trim().splitn(3, '-');
            let domain = parts.next()?.parse().ok()?;
            Some((domain, (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)))
        };
        let texts = text.split(',').filter(|text| !text.trim().is_empty());
        texts.map(one).collect::<Option<_>>().map(Self::MariaDb)
    }

    /// MySQL's set of transactions: `uuid:1-5:7,uuid:tag:1`.
    pub fn mysql(text: &str) -> Option<Self> {
        let mut set = BTreeMap::<String, Vec<(u64, u64)>>::new();
        for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let (uuid, rest) = text.split_once(':')?;
            let mut server = uuid.to_ascii_lowercase();
            for part in rest.split(':') {
                if part.starts_with(|c: char| c.is_ascii_digit()) {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    let run = (first.parse().ok()?, last.parse().ok()?);
                    set.entry(server.clone()).or_default().push(run);
                } else {
                    server = format!("{}:{part}", uuid.to_ascii_lowercase());
                }
            }
        }
        set.values_mut().for_each(join);
        Some(Self::MySql(set))
    }

    /// Whether a transaction is complete here; it begins at a place of a file.
    pub fn covers(&self, gtid: Option<&Gtid>, (file, begins): (&str, u64)) -> bool {
        match (self, gtid) {
            (Self::MariaDb(domains), Some(Gtid::MariaDb { domain, sequence, .. })) => {
                domains.get(domain).is_some_and(|(_, newest)| sequence <= newest)
            }
            (Self::MySql(set), Some(Gtid::MySql { server, sequence })) => {
                let has = |(first, last): &(u64, u64)| (*first..=*last).contains(sequence);
                set.get(server).is_some_and(|runs| runs.iter().any(has))
            }
            // A file's number has more digits when they are used up.
            (Self::File { name, place }, _) => {
                (file.len(), file, begins) < (name.len(), name.as_str(), *place)
            }
            (Self::MariaDb(_) | Self::MySql(_), _) => false,
        }
    }

    /// Whether everything that is complete at `other` is complete here.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MariaDb(here), Self::MariaDb(other)) => other
                .iter()
                .all(|(domain, (_, newest))| here.get(domain).is_some_and(|(_, here)| newest <= here)),
            (Self::MySql(here), Self::MySql(other)) => other.iter().all(|(server, runs)| {
                let here = here.get(server).map(Vec::as_slice).unwrap_or_default();
                runs.iter().all(|(first, last)| here.iter().any(|(a, b)| a <= first && last <= b))
            }),
            (Self::File { name, place }, Self::File { name: other, place: at }) => {
                (other.len(), other, at) <= (name.len(), name, place)
            }
            _ => false,
        }
    }

    /// A transaction is complete; it ended at a place of a file.
    pub fn pass(&mut self, gtid: Option<&Gtid>, file: &str, end: u64) {
        match (self, gtid) {
            (Self::MariaDb(domains), Some(Gtid::MariaDb { domain, server, sequence })) => {
                domains.insert(*domain, (*server, *sequence));
            }
            (Self::MySql(set), Some(Gtid::MySql { server, sequence })) => {
                let runs = set.entry(server.clone()).or_default();
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == *sequence => *last = *sequence,
                    _ => {
                        runs.push((*sequence, *sequence));
                        join(runs);
                    }
                }
            }
            (Self::File { name, place }, _) => {
                if name != file {
                    file.clone_into(name);
                }
                *place = end;
            }
            (Self::MariaDb(_) | Self::MySql(_), _) => {}
        }
    }
}

/// Puts runs of numbers into their order, without overlaps.
fn join(runs: &mut Vec<(u64, u64)>) {
    runs.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
    for (first, last) in runs.drain(..) {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    *runs = joined;
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb(domains) => {
                for (n, (domain, (server, sequence))) in domains.iter().enumerate() {
                    write!(f, "{}{domain}-{server}-{sequence}", if n > 0 { "," } else { "" })?;
                }
                Ok(())
            }
            Self::MySql(set) => {
                for (n, (server, runs)) in set.iter().enumerate() {
                    write!(f, "{}{server}", if n > 0 { "," } else { "" })?;
                    for (first, last) in runs {
                        if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
                    }
                }
                Ok(())
            }
            Self::File { name, place } => write!(f, "{name}:{place}"),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb { domain, server, sequence } => write!(f, "{domain}-{server}-{sequence}"),
            Self::MySql { server, sequence } => write!(f, "{server}:{sequence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mariadb_keeps_the_newest_of_each_domain() {
        let mut position = Position::mariadb("0-1-100, 7-2-5").unwrap();
        position.pass(Some(&Gtid::MariaDb { domain: 0, server: 3, sequence: 101 }), "f", 4);
        position.pass(Some(&Gtid::MariaDb { domain: 1, server: 3, sequence: 1 }), "f", 4);
        assert_eq!(position.to_string(), "0-3-101,1-3-1,7-2-5");
        assert_eq!(Position::mariadb("").unwrap().to_string(), "");
        assert_eq!(Position::mariadb("0-1"), None);
    }

    #[test]
    fn mysql_keeps_a_set_of_runs() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mut position = Position::mysql(&format!("{uuid}:1-3:5:tag:9,\n{uuid}:6")).unwrap();
        assert_eq!(position.to_string(), format!("{uuid}:1-3:5-6,{uuid}:tag:9"));
        position.pass(Some(&Gtid::MySql { server: uuid.into(), sequence: 4 }), "f", 4);
        assert_eq!(position.to_string(), format!("{uuid}:1-6,{uuid}:tag:9"));
        position.pass(Some(&Gtid::MySql { server: uuid.into(), sequence: 7 }), "f", 4);
        let text = position.to_string();
        assert_eq!(Position::mysql(&text), Some(position));
    }

    #[test]
    fn a_position_covers_what_was_complete_there() {
        let spot = ("bin.000002", 100);
        let mariadb = Position::mariadb("0-1-100,7-2-5").unwrap();
        let gtid = |domain, sequence| Gtid::MariaDb { domain, server: 9, sequence };
        let covered =
            [(0, 100), (0, 101), (7, 5), (1, 1)].map(|(d, n)| mariadb.covers(Some(&gtid(d, n)), spot));
        assert_eq!(covered, [true, false, true, false]);
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mysql = Position::mysql(&format!("{uuid}:1-3:5")).unwrap();
        let gtid = |sequence| Gtid::MySql { server: uuid.into(), sequence };
        assert_eq!([3, 4, 5, 6].map(|n| mysql.covers(Some(&gtid(n)), spot)), [true, false, true, false]);
        let file = Position::File { name: "bin.000002".into(), place: 100 };
        let spots = [("bin.000002", 99), ("bin.000002", 100), ("bin.000001", 900), ("bin.1000000", 4)];
        assert_eq!(spots.map(|spot| file.covers(None, spot)), [true, false, true, false]);
        for (earlier, later) in [
            (Position::mariadb("0-1-99").unwrap(), mariadb),
            (Position::mysql(&format!("{uuid}:2-3:5")).unwrap(), mysql),
            (Position::File { name: "bin.000002".into(), place: 4 }, file),
        ] {
            assert!(later.contains(&earlier) && later.contains(&later) && !earlier.contains(&later));
        }
    }

    #[test]
    fn marks_come_back_as_they_were() {
        for position in [
            Position::mariadb("0-1-100").unwrap(),
            Position::mysql("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3").unwrap(),
            Position::File { name: "bin.000001".into(), place: 4 },
        ] {
            let taken = BTreeMap::from([("items".to_owned(), 7)]);
            let piece = Some(Piece { transaction: "0-1-101".into(), taken });
            let mark = Mark { position, piece, prepared: BTreeMap::new() };
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark, "{text}");
        }
    }
}
