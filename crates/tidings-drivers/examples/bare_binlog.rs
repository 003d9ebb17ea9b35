//! A bare replication client of MySQL and MariaDB: from now on, what the binary log says goes to standard output as it
//! comes. Measurements are taken beside it.
//!
//! Never: understands what it reads, or keeps a position.

use futures_util::StreamExt as _;
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStreamRequest, Conn, Opts, Row};
use std::error::Error;
use std::io::Write as _;

/// Small, so that it is not taken for one of the hub's own.
const SERVER_ID: u32 = 4711;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("usage: bare_binlog mysql://USER@HOST:PORT/DATABASE")?;
    let mut connection = Conn::new(Opts::from_url(&url)?).await?;
    let now: Row = connection.query_first("show master status").await?.ok_or("there is no binary log")?;
    let (file, place): (String, u64) = now.get(0).zip(now.get(1)).ok_or("no file and place")?;
    connection.query_drop("set @mariadb_slave_capability = 4").await?;
    let request = BinlogStreamRequest::new(SERVER_ID).with_filename(file.as_bytes()).with_pos(place);
    let mut events = connection.get_binlog_stream(request).await?;
    let mut out = std::io::stdout().lock();
    out.write_all(b"ready\n")?;
    while let Some(event) = events.next().await {
        out.write_all(event?.data())?;
        out.flush()?;
    }
    Ok(())
}
