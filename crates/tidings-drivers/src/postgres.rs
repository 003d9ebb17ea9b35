//! Where a PostgreSQL server is and how it is reached: what a URL says, and TLS.
//!
//! Never: repeats a URL in an error, since there may be a password in it.

use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

/// A server, and the TLS to reach it with; `None` speaks plainly.
#[derive(Clone)]
pub struct Address {
    pub config: Config,
    pub tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// The settings in a URL. `sslmode` takes libpq's words, but whoever asks for TLS gets it verified; without
    /// the word a server on this machine is spoken to plainly and any other over TLS.
    pub fn parse(mut url: Url) -> Result<Self, String> {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let (modes, others): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == "sslmode");
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        let mode = match modes.last().map(|(_, mode)| mode.as_str()) {
            None | Some("prefer") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
            Some(_) => return Err("an sslmode that is not known".into()),
        };
        // Without the library's text: it repeats parts of the URL.
        let config = url.as_str().parse::<Config>();
        let mut config = config.map_err(|_| "not understood by PostgreSQL's client".to_owned())?;
        config.application_name("tidings");
        let is_local = config.get_hosts().iter().all(is_local);
        let wants_tls = mode == SslMode::Require || (mode == SslMode::Prefer && !is_local);
        config.ssl_mode(if wants_tls { SslMode::Require } else { SslMode::Disable });
        let tls = wants_tls.then(connector).transpose()?;
        Ok(Self { config, tls })
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// TLS that trusts whom the machine trusts.
fn connector() -> Result<MakeRustlsConnect, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}
