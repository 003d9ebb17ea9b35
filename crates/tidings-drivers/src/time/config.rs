//! What can be set for the time.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Settings under `[time]`. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether time servers are asked; without, the machine's clock counts alone.
    pub ntp: bool,
    /// `HOST` or `HOST:PORT`, at most [`Config::SERVERS_MAX`].
    pub servers: Servers,
    /// How often they are asked while they answer, at least a second. While none does, the wait between two
    /// tries grows up to this.
    pub every_ms: u64,
    /// How long one server may take.
    pub timeout_ms: u64,
    /// An answer further than this from the machine's clock is not believed.
    pub step_max_ms: u64,
}

/// The servers to ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Vec<Server>")]
pub struct Servers(pub Vec<Server>);

/// A time server's name and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    pub host: String,
    pub port: u16,
}

/// A text that names no time server, or too many of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    #[error("not a time server: {0:?}; write HOST or HOST:PORT")]
    Name(String),
    #[error("at most {max} time servers, not {found}")]
    TooMany { found: usize, max: usize },
}

impl Config {
    pub const SERVERS_MAX: usize = 8;
}

impl Default for Config {
    fn default() -> Self {
        let server = |host: &str| Server { host: host.into(), port: Server::PORT };
        Self {
            ntp: true,
            servers: Servers(vec![server("time.cloudflare.com"), server("pool.ntp.org")]),
            every_ms: 1_024_000,
            timeout_ms: 2_000,
            step_max_ms: 86_400_000,
        }
    }
}

impl TryFrom<Vec<Server>> for Servers {
    type Error = ServerError;

    fn try_from(servers: Vec<Server>) -> Result<Self, ServerError> {
        let (found, max) = (servers.len(), Config::SERVERS_MAX);
        if found > max { Err(ServerError::TooMany { found, max }) } else { Ok(Self(servers)) }
    }
}

impl Server {
    const PORT: u16 = 123;
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let refuse = || ServerError::Name(text.chars().take(80).collect());
        let (host, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
            (Some(rest), _) => {
                let (host, port) = rest.split_once(']').ok_or_else(refuse)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(refuse)?) };
                (host, port)
            }
            // More than one colon and no bracket: an IPv6 address alone.
            (None, Some((host, _))) if host.contains(':') => {
                text.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
                (text, None)
            }
            (None, Some((host, port))) => (host, Some(port)),
            (None, None) => (text, None),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_host) {
            return Err(refuse());
        }
        let port =
            port.map_or(Ok(Self::PORT), str::parse).ok().filter(|port| *port > 0).ok_or_else(refuse)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, Self::PORT) => f.write_str(host),
            (host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl TryFrom<String> for Server {
    type Error = ServerError;

    fn try_from(text: String) -> Result<Self, ServerError> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("time.example.com", "time.example.com", 123),
            ("127.0.0.1:9", "127.0.0.1", 9),
            ("::1", "::1", 123),
            ("[::1]", "::1", 123),
            ("[::1]:9", "::1", 9),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port));
            assert_eq!(server.to_string().parse(), Ok(server));
        }
        for text in ["", ":9", "a:", "a:0", "a:65536", "a b", "a:b:c", "[a]:1", "[::1]9", "ntp://a"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
