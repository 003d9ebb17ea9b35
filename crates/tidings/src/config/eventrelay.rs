//! Settings under `[eventrelay]`, and EventRelay's own variables.
//!
//! Owns: what an environment written for EventRelay means here. Whoever starts the program EventRelay's way gets
//! EventRelay's port where no other is named. Never: reads the environment itself; it is handed in.

use super::{ConfigError, Setting};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Settings under `[eventrelay]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventRelay {
    /// Whether its HTTP interface is there.
    pub enabled: bool,
}

impl Default for EventRelay {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// A shared secret that verifies beside all others.
pub const JWT_SECRET: &str = "ER_JWT_SECRET";
const PREFIX: &str = "ER_";
const WEB_PORT: &str = "ER_WEB_PORT";
const WEB_HOST: &str = "ER_WEB_HOST";
const DATABASE_URL: &str = "ER_DATABASE_URL";
const USE_WEB_TLS: &str = "ER_USE_WEB_TLS";
const TLS_CERT: &str = "ER_WEB_TLS_CRT_PATH";
const TLS_KEY: &str = "ER_WEB_TLS_KEY_PATH";
/// EventRelay needs these; whoever sets one starts the program its way.
const NEEDED: &[&str] = &[JWT_SECRET, WEB_PORT, DATABASE_URL];
/// Where EventRelay listens.
const PORT: &str = "9000";

/// What EventRelay's variables say.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// What they set; our own variables win over it.
    pub settings: Vec<Setting>,
    /// Those that mean nothing here.
    pub ignored: Vec<String>,
    /// The program was started EventRelay's way.
    pub is_way: bool,
}

/// Whether a variable is one of EventRelay's.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Variables {
    /// Reads all that are EventRelay's. `has_port` says that our own settings or variables name a port.
    pub fn read<'a>(
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
        has_port: bool,
    ) -> Result<Self, ConfigError> {
        let (mut read, mut port, mut host) = (Self::default(), None, None);
        let (mut uses_tls, mut cert, mut key) = (None, None, None);
        for (name, value) in variables.into_iter().filter(|(name, _)| is_ours(name)) {
            let value = value.trim();
            read.is_way |= NEEDED.contains(&name);
            match name {
                JWT_SECRET => {}
                WEB_PORT => port = Some(value.to_owned()),
                // EventRelay calls itself so in links; an address is also where to listen.
                WEB_HOST if value.parse::<IpAddr>().is_ok() => host = Some(value.to_owned()),
                USE_WEB_TLS => uses_tls = Some(truth(name, value)?),
                TLS_CERT => cert = Some(value.to_owned()),
                TLS_KEY => key = Some(value.to_owned()),
                _ => read.ignored.push(name.to_owned()),
            }
        }
        let mut set = |said_by: &str, place, value: String| {
            read.settings.push(Setting { said_by: said_by.to_owned(), place, values: vec![value] });
        };
        if let Some(host) = host.filter(|_| !has_port) {
            set(WEB_HOST, "http.listen", host);
        }
        match port {
            Some(port) if !has_port => set(WEB_PORT, "port", port),
            None if !has_port && read.is_way => set("EventRelay's port", "port", PORT.to_owned()),
            _ => {}
        }
        match (uses_tls, cert, key) {
            (Some(false) | None, None, None) | (Some(false), ..) => {}
            (_, Some(cert), Some(key)) => {
                read.settings.push(Setting::flag(TLS_CERT, "http.tls.cert", [cert]));
                read.settings.push(Setting::flag(TLS_KEY, "http.tls.key", [key]));
            }
            _ => {
                let what = format!("{USE_WEB_TLS} needs both {TLS_CERT} and {TLS_KEY}");
                return Err(ConfigError::Value { said_by: USE_WEB_TLS.to_owned(), what });
            }
        }
        Ok(read)
    }

    /// Says once what was found.
    pub fn tell(&self) {
        if self.is_way {
            tracing::info!("started as EventRelay is: its port holds where no other is named");
        }
        if !self.ignored.is_empty() {
            tracing::info!("of EventRelay's variables these mean nothing here: {}", self.ignored.join(", "));
        }
    }
}

fn truth(name: &str, value: &str) -> Result<bool, ConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(ConfigError::Value { said_by: name.to_owned(), what: "neither true nor false".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)], has_port: bool) -> Vec<(&'static str, String)> {
        let read = Variables::read(variables.iter().copied(), has_port).unwrap();
        read.settings.into_iter().map(|s| (s.place, s.values[0].clone())).collect()
    }

    #[test]
    fn whoever_starts_as_eventrelay_gets_its_port_unless_another_is_named() {
        let secret = ("ER_JWT_SECRET", "x");
        assert_eq!(places(&[secret], false), [("port", "9000".into())]);
        assert_eq!(places(&[secret, ("ER_WEB_PORT", "7")], false), [("port", "7".into())]);
        assert!(places(&[secret, ("ER_WEB_PORT", "7"), ("ER_WEB_HOST", "0.0.0.0")], true).is_empty());
        assert!(places(&[("ER_ECTO_IPV6", "true"), ("HOME", "/")], false).is_empty());
        let host = places(&[("ER_WEB_HOST", "::1"), ("ER_WEB_PORT", "7")], false);
        assert_eq!(host, [("http.listen", "::1".into()), ("port", "7".into())]);
        assert!(places(&[("ER_WEB_HOST", "example.com")], false).is_empty());
    }

    #[test]
    fn tls_needs_both_files_and_other_variables_are_named_once() {
        let files = [("ER_WEB_TLS_KEY_PATH", "k"), ("ER_WEB_TLS_CRT_PATH", "c")];
        let both = [("http.tls.cert", "c".to_owned()), ("http.tls.key", "k".to_owned())];
        assert_eq!(places(&files, true), both);
        assert_eq!(places(&[files[0], files[1], ("ER_USE_WEB_TLS", "TRUE")], true), both);
        assert!(places(&[files[0], files[1], ("ER_USE_WEB_TLS", "false")], true).is_empty());
        for bad in [&[("ER_USE_WEB_TLS", "true")][..], &[files[0]], &[("ER_USE_WEB_TLS", "perhaps")]] {
            assert!(Variables::read(bad.iter().copied(), true).is_err(), "{bad:?}");
        }
        let read = Variables::read([("ER_DATABASE_URL", "x"), ("ER_HAMMER_BACKEND", "ETS")], true).unwrap();
        assert_eq!(read.ignored, ["ER_DATABASE_URL", "ER_HAMMER_BACKEND"]);
    }
}
