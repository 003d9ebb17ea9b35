//! Connections: their settings, and what kind of server answers.

use super::fault::fault;
use crate::source::{Error, Fault};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// A connection must be there within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The largest packet that the protocol allows: a row image may be larger than what clients may send.
const PACKET_MAX: usize = 1 << 30;
/// What every connection begins with. Without a mode, values that a stricter server would refuse are read as they
/// are, also within triggers. Whoever waits for a table's lock makes others wait behind it: never for long.
const INTRODUCTION: [&str; 3] = [
    "set time_zone = '+00:00', sql_mode = '', lock_wait_timeout = 5",
    "set session transaction isolation level read committed",
    "set names utf8mb4",
];

/// How a server is reached.
#[derive(Clone)]
pub struct Place {
    opts: Opts,
    /// The database in the URL: its tables need no name in front.
    pub database: String,
}

/// What kind of server it is, and how it is set.
#[derive(Debug)]
pub struct Server {
    pub is_mariadb: bool,
    pub version: (u16, u16, u16),
    variables: HashMap<String, String>,
}

impl Place {
    pub fn new(url: &str) -> Result<Self, Error> {
        // Without the library's text: it repeats parts of the URL.
        let refused =
            || Error::Url("the URL is not understood; it is mysql://USER:PASSWORD@HOST:PORT/DATABASE".into());
        let mut url = Url::parse(url).map_err(|_| refused())?;
        url.set_scheme("mysql").map_err(|()| refused())?;
        let opts = Opts::from_url(url.as_str()).map_err(|_| refused())?;
        let database = opts.db_name().map(str::to_owned);
        let database =
            database.ok_or_else(|| Error::Url("the URL of a mysql source ends with /DATABASE".into()))?;
        let opts = OptsBuilder::from_opts(opts)
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .max_allowed_packet(Some(PACKET_MAX))
            .wait_timeout(Some(28_800))
            .setup(INTRODUCTION.to_vec())
            .into();
        Ok(Self { opts, database })
    }

    pub async fn connect(&self) -> Result<Conn, Fault> {
        match timeout(CONNECT_WITHIN, Conn::new(self.opts.clone())).await {
            Ok(done) => done.map_err(fault),
            Err(_) => Err(Fault::lost("the database does not answer")),
        }
    }
}

impl Server {
    pub async fn ask(connection: &mut Conn) -> Result<Self, Fault> {
        let names = "'version','log_bin','binlog_format','binlog_row_image','binlog_row_metadata',\
            'binlog_row_value_options','log_bin_compress','gtid_mode','binlog_transaction_compression'";
        let query = format!("show global variables where variable_name in ({names})");
        let rows: Vec<(String, String)> = connection.query(query).await.map_err(fault)?;
        let variables: HashMap<_, _> =
            rows.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        let version = variables.get("version").cloned().unwrap_or_default();
        Ok(Self { is_mariadb: version.contains("MariaDB"), version: connection.server_version(), variables })
    }

    /// A setting of the server, in upper case; nothing where it has none of this name.
    pub fn is_set(&self, name: &str) -> String {
        self.variables.get(name).map(|value| value.to_uppercase()).unwrap_or_default()
    }

    /// What must be otherwise for the binary log to be read.
    pub fn check_log(&self) -> Result<(), Fault> {
        let set = |name: &str, expected: &str| {
            Fault::setting(format!(
                "the server's {name} is {}; set {name}={expected} there",
                self.is_set(name)
            ))
        };
        if self.is_set("log_bin") != "ON" {
            return Err(Fault::setting(
                "the server writes no binary log; start it with log_bin and binlog_format=ROW, or set \
                 mode = \"triggers\"",
            ));
        }
        if self.is_set("binlog_format") != "ROW" {
            return Err(Fault::setting(format!(
                "the server's binlog_format is {}; set binlog_format=ROW there and reconnect the application, or \
                 set mode = \"triggers\"",
                self.is_set("binlog_format")
            )));
        }
        if self.is_set("binlog_row_image") != "FULL" {
            return Err(set("binlog_row_image", "FULL"));
        }
        if self.is_set("log_bin_compress") == "ON" {
            return Err(set("log_bin_compress", "OFF"));
        }
        if self.is_set("binlog_transaction_compression") == "ON" {
            return Err(set("binlog_transaction_compression", "OFF"));
        }
        if !self.is_set("binlog_row_value_options").is_empty() {
            return Err(set("binlog_row_value_options", "''"));
        }
        Ok(())
    }
}

/// A name as SQL writes it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as SQL writes it, whatever the server's mode.
pub fn literal(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("_utf8mb4 x'{hex}'")
}
