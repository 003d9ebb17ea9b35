//! The binary log as it comes from the server.
//!
//! Owns: the request, and noticing that nothing comes any more.

use super::super::connect::Place;
use super::super::fault::{fault, of_log_request};
use super::super::position::Position;
use crate::source::Fault;
use futures_util::StreamExt as _;
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};
use std::time::Duration;
use tokio::time::timeout;

const CHECKSUM_BYTES: usize = 4;
/// The sum of any bytes that end with their own sum.
const SUMMED: u32 = 0x2144_df1c;
/// The event with which the server describes all others.
const DESCRIPTION: u8 = 15;

/// Where to read from, and as whom.
#[derive(Debug, Clone)]
pub struct From {
    pub position: Position,
    /// Among the servers that read this log nobody else may have it.
    pub server_id: u32,
    pub heartbeat: Duration,
}

/// An event as it came, and how many bytes at its end are a checksum that the client's library has left there: it
/// takes them for data until the server has described its events, which is not the first thing that comes.
pub struct Arrived {
    pub raw: Event,
    pub tail: usize,
}

impl Arrived {
    /// One that came after the description of all others, or before it.
    pub fn new(raw: Event, is_described: &mut bool) -> Self {
        let arrived = if *is_described { Self { raw, tail: 0 } } else { Self::early(raw) };
        *is_described |= arrived.raw.header().event_type_raw() == DESCRIPTION;
        arrived
    }

    /// Servers differ in whether the first event has a checksum.
    fn early(raw: Event) -> Self {
        let is_summed = raw.data().len() >= CHECKSUM_BYTES
            && raw.calc_checksum(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32) == SUMMED;
        Self { raw, tail: if is_summed { CHECKSUM_BYTES } else { 0 } }
    }
}

/// A connection over which the log comes.
pub struct Stream {
    events: BinlogStream,
    is_described: bool,
    silence_max: Duration,
}

impl Stream {
    /// Reads from a position on, without an end.
    pub async fn open(place: &Place, from: &From) -> Result<Self, Fault> {
        Self::request(place, from, false).await
    }

    /// Reads from a position to what is there now.
    pub async fn open_to_end(place: &Place, from: &From) -> Result<Self, Fault> {
        Self::request(place, from, true).await
    }

    async fn request(place: &Place, from: &From, ends: bool) -> Result<Self, Fault> {
        let mut connection = place.connect().await?;
        let nanos = from.heartbeat.as_nanos();
        // Version 4 of MariaDB's replicas: they know its own events, so it sends them as they are.
        let mut words = format!("set @master_heartbeat_period = {nanos}, @mariadb_slave_capability = 4");
        let mut request = BinlogStreamRequest::new(from.server_id);
        let file;
        match &from.position {
            Position::MariaDb(_) => {
                words += &format!(
                    ", @slave_connect_state = '{}', @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0",
                    from.position
                );
            }
            Position::MySql(set) => {
                let server = |(server, runs): (&String, &Vec<(u64, u64)>)| {
                    let runs = runs.iter().map(|(first, last)| format!(":{first}-{last}"));
                    format!("{server}{}", runs.collect::<String>()).parse::<Sid<'static>>()
                };
                let sids = set.iter().map(server).collect::<Result<Vec<_>, _>>();
                let sids =
                    sids.map_err(|_| Fault::lost("the position kept in the log is none of MySQL's"))?;
                request = request.with_gtid().with_gtid_set(sids);
            }
            Position::File { name, place } => {
                file = name.clone();
                request = request.with_filename(file.as_bytes()).with_pos(*place);
            }
        }
        if ends {
            request = request.with_non_blocking();
        }
        connection.query_drop(words).await.map_err(fault)?;
        let events = connection.get_binlog_stream(request).await.map_err(of_log_request)?;
        Ok(Self { events, is_described: false, silence_max: 3 * from.heartbeat + Duration::from_secs(5) })
    }

    /// The next event; nothing at the end, where there is one.
    pub async fn next(&mut self) -> Result<Option<Arrived>, Fault> {
        match timeout(self.silence_max, self.events.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(event)) => {
                let raw = event.map_err(of_log_request)?;
                Ok(Some(Arrived::new(raw, &mut self.is_described)))
            }
            Err(_) => Err(Fault::lost("nothing came from the database for a while, not even a sign of life")),
        }
    }
}
