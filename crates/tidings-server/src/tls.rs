//! TLS from PEM files, read anew when they change.

use crate::TlsFiles;
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidings_engine::Services;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why TLS can't be served.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsError {
    path: String,
    why: String,
}

/// The certificate of the moment.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A server configuration over `files`; a task takes in new files, and keeps the old while new ones are bad. With
/// `authorities` only clients with a certificate of theirs are let in.
pub fn serve(
    files: &TlsFiles,
    authorities: Option<&Path>,
    services: &Services,
) -> Result<rustls::ServerConfig, TlsError> {
    let current = Arc::new(Current(ArcSwap::from_pointee(load(files)?)));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = match authorities {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => clients_of(path, &provider)?,
    };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| error(files.cert.display(), e))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (files, stop) = (files.clone(), services.stop().clone());
    services.spawn("tls-reload", async move {
        let mut seen = changed(&files);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = changed(&files);
            if now == seen {
                continue;
            }
            // Written one after the other, the pair may not match yet: then the next look takes it.
            match load(&files) {
                Ok(key) => {
                    current.0.store(Arc::new(key));
                    seen = now;
                    tracing::info!(cert = %files.cert.display(), "certificate reloaded");
                }
                Err(error) => tracing::warn!(%error, "the new certificate cannot be used, keeping the old"),
            }
        }
    });
    Ok(config)
}

/// Lets in whoever has a certificate of the authorities at `path`.
fn clients_of(
    path: &Path,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refuse = |e: &dyn std::fmt::Display| error(path.display(), e);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refuse(&e))? {
        roots.add(certificate.map_err(|e| refuse(&e))?).map_err(|e| refuse(&e))?;
    }
    // Without one the verifier could never let anybody in, and says so.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    verifier.build().map_err(|e| refuse(&e))
}

fn changed(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.cert, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let cert = |e: &dyn std::fmt::Display| error(files.cert.display(), e);
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .map_err(|e| cert(&e))?
        .collect::<Result<_, _>>()
        .map_err(|e| cert(&e))?;
    if chain.is_empty() {
        return Err(cert(&"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| error(files.key.display(), e))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|e| error(files.key.display(), e))
}

fn error(path: impl std::fmt::Display, why: impl std::fmt::Display) -> TlsError {
    TlsError { path: path.to_string(), why: why.to_string() }
}
