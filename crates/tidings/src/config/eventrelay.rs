//! Settings under `[eventrelay]`, and EventRelay's own variables.
//!
//! Owns: what an environment written for EventRelay means here. Whoever starts the program EventRelay's way gets
//! EventRelay's port where no other is named. Never: reads the environment itself; it is handed in.

use super::{Config, ConfigError, Setting};
use crate::secret;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tidings_server::{GrpcConfig, TlsFiles};

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
const USE_GRPC_TLS: &str = "ER_USE_GRPC_TLS";
const GRPC_CERT: &str = "ER_GRPC_SERVER_CRT";
const GRPC_KEY: &str = "ER_GRPC_SERVER_KEY";
const GRPC_CA: &str = "ER_CA_CRT";
/// EventRelay needs these; whoever sets one starts the program its way.
const NEEDED: &[&str] = &[JWT_SECRET, WEB_PORT, DATABASE_URL];
/// Where EventRelay listens.
const PORT: &str = "9000";
const GRPC_PORT: u16 = 50051;

/// What EventRelay's variables say.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// What they set; our own variables win over it.
    pub settings: Vec<Setting>,
    /// Those that mean nothing here.
    pub ignored: Vec<String>,
    /// The program was started EventRelay's way.
    pub is_way: bool,
    grpc: Pem,
}

/// What the port of gRPC is served with, as PEM texts. They are never printed.
#[derive(Clone, Default)]
pub struct Pem {
    cert: Option<String>,
    key: Option<String>,
    /// Only clients with a certificate of this authority may connect.
    authority: Option<String>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(PEM)")
    }
}

impl Pem {
    /// Writes the texts into `dir`, for its owner alone, and has `grpc` read them there.
    pub fn put(&self, dir: &Path, grpc: &mut GrpcConfig) -> io::Result<()> {
        let dir = dir.join("tls");
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            secret::make_dir(&dir)?;
            let cert = put(&dir, "grpc.pem", cert)?;
            grpc.tls = Some(TlsFiles { cert, key: put(&dir, "grpc.key", key)? });
        }
        if let Some(authority) = &self.authority {
            secret::make_dir(&dir)?;
            grpc.client_ca = Some(put(&dir, "grpc-authority.pem", authority)?);
        }
        Ok(())
    }
}

/// Replaces a file as a whole.
fn put(dir: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let (path, aside) = (dir.join(name), dir.join(format!("{name}.{}", std::process::id())));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(aside, &path)?;
    Ok(path)
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
        let (mut grpc, mut uses_grpc_tls) = (Pem::default(), None);
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
                USE_GRPC_TLS => uses_grpc_tls = Some(truth(name, value)?),
                GRPC_CERT => grpc.cert = Some(value.to_owned()),
                GRPC_KEY => grpc.key = Some(value.to_owned()),
                GRPC_CA => grpc.authority = Some(value.to_owned()),
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
            None if !has_port && read.is_way => set(WEB_PORT, "port", PORT.to_owned()),
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
        if uses_grpc_tls == Some(false) {
            return Ok(read);
        }
        let is_whole = grpc.cert.is_some() && grpc.key.is_some();
        let is_wanted = uses_grpc_tls.is_some() || grpc.cert.is_some() || grpc.key.is_some();
        if is_wanted && !is_whole {
            let what = format!("{USE_GRPC_TLS} needs both {GRPC_CERT} and {GRPC_KEY}, as PEM texts");
            return Err(ConfigError::Value { said_by: USE_GRPC_TLS.to_owned(), what });
        }
        read.grpc = grpc;
        Ok(read)
    }

    /// What holds where our own words say nothing else; says once what was found.
    pub fn finish(self, config: &mut Config, has_port: bool) {
        let grpc = &mut config.grpc;
        if self.is_way && !has_port && !grpc.off && grpc.listen.is_none() {
            grpc.listen = Some(SocketAddr::new(config.http.listen.ip(), GRPC_PORT));
        }
        self.tell();
        if grpc.tls.is_none() && !grpc.plaintext && grpc.client_ca.is_none() {
            config.grpc_pem = self.grpc;
        }
    }

    fn tell(&self) {
        if self.is_way {
            tracing::info!("started as EventRelay is: its ports hold where no other is named");
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
    fn grpc_gets_its_port_and_what_it_is_served_with() {
        let pem = [("ER_GRPC_SERVER_CRT", "cert"), ("ER_GRPC_SERVER_KEY", "key"), ("ER_CA_CRT", "ca")];
        let finish = |variables: &[(&str, &str)], has_port| {
            let mut config = Config::default();
            let read = Variables::read(variables.iter().copied(), has_port).unwrap();
            read.finish(&mut config, has_port);
            config
        };
        let config = finish(&[pem[0], pem[1], pem[2], ("ER_DATABASE_URL", "x")], false);
        assert_eq!(config.grpc.listen.unwrap().to_string(), "127.0.0.1:50051");
        assert_eq!(format!("{:?}", config.grpc_pem), "(PEM)");
        let dir = tempfile::tempdir().unwrap();
        let mut grpc = config.grpc.clone();
        config.grpc_pem.put(dir.path(), &mut grpc).unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let files = grpc.tls.unwrap();
        let authority = grpc.client_ca.unwrap();
        assert_eq!(
            (read(&files.cert), read(&files.key), read(&authority)),
            ("cert".into(), "key".into(), "ca".into())
        );
        let mode = std::fs::metadata(&files.key).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        assert_eq!(finish(&[("ER_WEB_PORT", "7")], true).grpc.listen, None, "a port of ours is the only one");
        let off = finish(&[pem[0], pem[1], pem[2], ("ER_USE_GRPC_TLS", "false")], false);
        let mut plain = GrpcConfig::default();
        off.grpc_pem.put(dir.path(), &mut plain).unwrap();
        assert!(plain.tls.is_none() && plain.client_ca.is_none());
        for bad in [&pem[..1], &[("ER_USE_GRPC_TLS", "true")]] {
            assert!(Variables::read(bad.iter().copied(), false).is_err(), "{bad:?}");
        }
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
