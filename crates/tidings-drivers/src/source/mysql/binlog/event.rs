//! Events of the binary log, as far as they matter here.
//!
//! Owns: their bytes. Never: keeps anything from one event to the next.

use super::super::position::Gtid;
use super::super::row::image::Verb;
use super::super::row::input::{Input, Malformed};
use super::stream::Arrived;
use mysql_async::binlog::events::{Event as Raw, GtidEvent};
use std::borrow::Cow;

/// One event.
pub enum Event<'a> {
    /// What follows is in another file.
    Rotate {
        file: String,
        place: u64,
    },
    /// A transaction begins.
    Gtid(Begin),
    Query {
        schema: Cow<'a, str>,
        text: Cow<'a, str>,
    },
    /// The transaction is committed.
    Commit,
    /// The transaction is kept under this name until somebody says what becomes of it.
    Prepared(String),
    /// The table that rows with this number are of; what follows the number.
    Table {
        id: u64,
        input: Input<'a>,
    },
    Rows {
        verb: Verb,
        table: u64,
        input: Input<'a>,
    },
    /// What cannot be read here, and why it is there.
    Unreadable(&'static str),
    Other,
}

/// How a transaction begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// `None` where transactions have no numbers.
    pub gtid: Option<Gtid>,
    /// It is one statement that ends it too.
    pub is_standalone: bool,
    pub committed_us: u64,
}

const QUERY: u8 = 2;
const ROTATE: u8 = 4;
const XID: u8 = 16;
const TABLE_MAP: u8 = 19;
const INCIDENT: u8 = 26;
const GTID: u8 = 33;
const ANONYMOUS_GTID: u8 = 34;
const XA_PREPARE: u8 = 38;
const PARTIAL_UPDATE: u8 = 39;
const PAYLOAD: u8 = 40;
const GTID_TAGGED: u8 = 42;
const MARIADB_GTID: u8 = 162;
const COMPRESSED: std::ops::RangeInclusive<u8> = 165..=171;

/// A flag of MariaDB's transactions: one statement, which ends it too.
const STANDALONE: u8 = 1;

impl<'a> Event<'a> {
    pub fn read(arrived: &'a Arrived) -> Result<Self, Malformed> {
        let Arrived { raw, tail } = arrived;
        let header = raw.header();
        let len = raw.data().len().checked_sub(*tail).ok_or(Malformed("an event"))?;
        let mut input = Input(&raw.data()[..len]);
        Ok(match header.event_type_raw() {
            QUERY => query(input)?,
            ROTATE => {
                let place = input.little(8)?;
                let file = std::str::from_utf8(input.0).map_err(|_| Malformed("a file's name"))?;
                Self::Rotate { file: file.to_owned(), place }
            }
            XID => Self::Commit,
            TABLE_MAP => Self::Table { id: input.little(6)?, input },
            kind @ (23 | 30) => rows(Verb::Insert, kind, input)?,
            kind @ (24 | 31) => rows(Verb::Update, kind, input)?,
            kind @ (25 | 32) => rows(Verb::Delete, kind, input)?,
            GTID | GTID_TAGGED | ANONYMOUS_GTID => {
                let is_anonymous = header.event_type_raw() == ANONYMOUS_GTID;
                Self::Gtid(mysql_begin(raw, is_anonymous, header.timestamp())?)
            }
            MARIADB_GTID => Self::Gtid(mariadb_begin(input, header.server_id(), header.timestamp())?),
            XA_PREPARE => {
                let is_one_phase = input.byte()? != 0;
                input.take(4)?;
                let (global, branch) = (input.little(4)? as usize, input.little(4)? as usize);
                let name = xa_name(input.take(global)?, input.take(branch)?);
                if is_one_phase { Self::Commit } else { Self::Prepared(name) }
            }
            INCIDENT => Self::Unreadable(
                "the server says that it could not write all changes to its binary log (an incident)",
            ),
            PARTIAL_UPDATE => {
                Self::Unreadable("changes to JSON are logged in part: set binlog_row_value_options=''")
            }
            PAYLOAD => Self::Unreadable(
                "transactions are compressed: set binlog_transaction_compression=OFF for all sessions",
            ),
            kind if COMPRESSED.contains(&kind) => {
                Self::Unreadable("events of the binary log are compressed: set log_bin_compress=OFF")
            }
            _ => Self::Other,
        })
    }
}

/// The two parts of a transaction's name, in hex.
pub fn xa_name(global: &[u8], branch: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}-{}", hex(global), hex(branch))
}

fn query(mut input: Input<'_>) -> Result<Event<'_>, Malformed> {
    input.take(8)?;
    let schema_len = usize::from(input.byte()?);
    input.take(2)?;
    let status_len = input.little(2)? as usize;
    input.take(status_len)?;
    let schema = String::from_utf8_lossy(input.take(schema_len)?);
    input.take(1)?;
    Ok(Event::Query { schema, text: String::from_utf8_lossy(input.0) })
}

/// The second version has a length of what is not for us between the flags and the rows.
fn rows(verb: Verb, kind: u8, mut input: Input<'_>) -> Result<Event<'_>, Malformed> {
    let table = input.little(6)?;
    input.take(2)?;
    if kind >= 30 {
        let len = input.little(2)? as usize;
        input.take(len.checked_sub(2).ok_or(Malformed("rows"))?)?;
    }
    Ok(Event::Rows { verb, table, input })
}

fn mysql_begin(raw: &Raw, is_anonymous: bool, seconds: u32) -> Result<Begin, Malformed> {
    let begin = |gtid, micros: u64| {
        let committed_us = if micros > 0 { micros } else { u64::from(seconds) * 1_000_000 };
        Begin { gtid, is_standalone: false, committed_us }
    };
    if is_anonymous {
        return Ok(begin(None, 0));
    }
    let event: GtidEvent = raw.read_event().map_err(|_| Malformed("a transaction's number"))?;
    let mut server = uuid::Uuid::from_bytes(event.sid()).to_string();
    if let Some(tag) = event.tag() {
        server = format!("{server}:{tag}");
    }
    Ok(begin(Some(Gtid::MySql { server, sequence: event.gno() }), event.immediate_commit_timestamp()))
}

fn mariadb_begin(mut input: Input<'_>, server: u32, seconds: u32) -> Result<Begin, Malformed> {
    let sequence = input.little(8)?;
    let domain = input.little(4)? as u32;
    let flags = input.byte()?;
    Ok(Begin {
        gtid: Some(Gtid::MariaDb { domain, server, sequence }),
        is_standalone: flags & STANDALONE != 0,
        committed_us: u64::from(seconds) * 1_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql_async::binlog::BinlogVersion;
    use mysql_async::binlog::events::FormatDescriptionEvent;

    /// An event as the server frames it.
    fn raw(kind: u8, body: &[u8]) -> Arrived {
        let mut bytes = 1_795_262_400_u32.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend(7_u32.to_le_bytes());
        bytes.extend((19 + body.len() as u32).to_le_bytes());
        bytes.extend(1000_u32.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(body);
        let raw = Raw::read(&FormatDescriptionEvent::new(BinlogVersion::Version4), &bytes[..]).unwrap();
        Arrived { raw, tail: 0 }
    }

    #[test]
    fn transactions_of_both_kinds_of_servers_say_their_numbers() {
        let mut body = 42_u64.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0, 1, 0, 0]);
        let event = raw(162, &body);
        let Ok(Event::Gtid(begin)) = Event::read(&event) else { panic!() };
        assert_eq!(begin.gtid.unwrap().to_string(), "1-7-42");
        assert!(begin.is_standalone);
        let mut body = vec![1];
        body.extend([0x3e; 16]);
        body.extend(9_u64.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend(&1_795_262_400_123_456_u64.to_le_bytes()[..7]);
        body.push(200);
        body.extend(80_400_u32.to_le_bytes());
        let event = raw(33, &body);
        let Ok(Event::Gtid(begin)) = Event::read(&event) else { panic!() };
        assert_eq!(begin.gtid.unwrap().to_string(), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e:9");
        assert_eq!(begin.committed_us, 1_795_262_400_123_456);
    }

    #[test]
    fn events_of_many_kinds_are_read_and_cut_ones_refused() {
        let mut query = vec![0; 8];
        query.extend(b"\x04\0\0\x02\0..shop\0truncate items");
        let event = raw(2, &query);
        let Ok(Event::Query { schema, text }) = Event::read(&event) else { panic!() };
        assert_eq!((&*schema, &*text), ("shop", "truncate items"));
        let event = raw(31, &[5, 0, 0, 0, 0, 0, 1, 0, 4, 0, 1, 2, 9]);
        let Ok(Event::Rows { verb: Verb::Update, table: 5, input }) = Event::read(&event) else { panic!() };
        assert_eq!(input.0, [9]);
        let mut prepared = vec![0, 1, 0, 0, 0];
        prepared.extend([1, 0, 0, 0, 1, 0, 0, 0]);
        prepared.extend(b"ab");
        let event = raw(38, &prepared);
        assert!(matches!(Event::read(&event), Ok(Event::Prepared(name)) if name == "61-62"));
        let mut rotate = raw(4, b"\x04\0\0\0\0\0\0\0bin.000001\xff\xfe\xfd\xfc");
        rotate.tail = 4;
        assert!(matches!(Event::read(&rotate), Ok(Event::Rotate { file, place: 4 }) if file == "bin.000001"));
        assert!(matches!(Event::read(&raw(166, &[])), Ok(Event::Unreadable(_))));
        for kind in [2, 4, 19, 23, 30, 33, 38, 162] {
            assert!(Event::read(&raw(kind, &[1, 2, 3])).is_err(), "{kind}");
        }
    }
}
