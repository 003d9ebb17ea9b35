//! What can be set for gRPC.

use crate::TlsFiles;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Settings under `[grpc]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is none at all.
    pub off: bool,
    /// A port for gRPC alone, beside the one it shares with HTTP; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// Certificate and key of that port; without them it has those of `[http]`.
    pub tls: Option<TlsFiles>,
    /// Serves that port without TLS although `[http]` has it.
    pub plaintext: bool,
    /// Certificate authorities (PEM). Only clients with a certificate of theirs may connect: that port then needs
    /// TLS, and the port of HTTP serves no gRPC.
    pub client_ca: Option<PathBuf>,
}

/// Why these settings do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("grpc.client_ca needs a port of its own: set grpc.listen")]
    AuthoritiesWithoutPort,
    #[error("grpc.client_ca needs TLS: set grpc.tls.cert and grpc.tls.key")]
    AuthoritiesWithoutTls,
    #[error("grpc.plaintext and grpc.tls exclude each other")]
    PlaintextWithTls,
}

impl Config {
    /// The files that the own port is served with; `http` has the other port's.
    pub fn files<'a>(&'a self, http: Option<&'a TlsFiles>) -> Result<Option<&'a TlsFiles>, ConfigError> {
        let files = match (&self.tls, self.plaintext) {
            (Some(_), true) => return Err(ConfigError::PlaintextWithTls),
            (None, true) => None,
            (own, false) => own.as_ref().or(http),
        };
        match &self.client_ca {
            Some(_) if self.listen.is_none() => Err(ConfigError::AuthoritiesWithoutPort),
            Some(_) if files.is_none() => Err(ConfigError::AuthoritiesWithoutTls),
            _ => Ok(files),
        }
    }

    /// Whether the port of HTTP serves gRPC too.
    pub fn is_shared(&self) -> bool {
        !self.off && self.client_ca.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_never_stand_beside_a_way_around_them() {
        let files = || Some(TlsFiles { cert: "c".into(), key: "k".into() });
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let ours = Config { client_ca: Some("ca".into()), tls: files(), listen, ..Config::default() };
        assert!(!ours.is_shared() && ours.files(None).is_ok());
        let bare = Config { tls: None, ..ours.clone() };
        assert_eq!(bare.files(None).unwrap_err(), ConfigError::AuthoritiesWithoutTls);
        assert!(bare.files(files().as_ref()).is_ok(), "the other port's certificate serves both");
        let alone = Config { listen: None, ..ours.clone() };
        assert_eq!(alone.files(None).unwrap_err(), ConfigError::AuthoritiesWithoutPort);
        let both = Config { plaintext: true, ..ours };
        assert_eq!(both.files(None).unwrap_err(), ConfigError::PlaintextWithTls);
    }
}
