//! TLS: who may connect, and whether a caller that is connected still may call.
//!
//! Only TLS 1.3, only with a client certificate that chains to a configured CA and is not revoked. Certificates, CAs and
//! revocation lists are read again when their files change; a set that does not read leaves the old one in force and is
//! reported, because an operator in the middle of copying files must not lock everyone out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateRevocationListDer;
use unefois_connectors::files::FileStamp;

use crate::config::ConfigError;

mod gathered;
mod handshakes;
mod listener;
mod peer;
mod pem;

pub use listener::{AcceptedStream, Bounds, IsEnrolled, accept};
pub use peer::{Peer, fingerprint};

use pem::{read_certificates, read_crls, read_key};

/// Where the certificates lie.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The broker's chain.
    pub certificate: PathBuf,
    /// Its key.
    pub private_key: PathBuf,
    /// CAs of clients.
    pub client_ca: PathBuf,
    /// Their revocation lists.
    pub crl: Vec<PathBuf>,
}

impl TlsFiles {
    fn all(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.private_key, &self.client_ca].into_iter().chain(&self.crl)
    }

    /// What tells that a file was changed.
    fn stamp(&self) -> Stamp {
        self.all().map(|path| FileStamp::of(path)).collect()
    }
}

/// One set of certificates that were read together.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) server: Arc<rustls::ServerConfig>,
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// Counts the sets, so that a verdict knows which one it came from.
    pub(crate) generation: u64,
}

/// The set of certificates in force.
#[derive(Debug)]
pub struct TlsState {
    files: TlsFiles,
    /// Of the files as they were when `trust` was read first.
    first_stamp: Stamp,
    trust: ArcSwap<Trust>,
    generation: AtomicU64,
}

/// Of each file; `None` where it is not there.
type Stamp = Vec<Option<FileStamp>>;

impl TlsState {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Self, ConfigError> {
        // ORDER: the stamp first. A file that is replaced while it is read is read again.
        let first_stamp = files.stamp();
        let trust = read_trust(&files, 1)?;
        Ok(Self { files, first_stamp, trust: ArcSwap::from_pointee(trust), generation: AtomicU64::new(1) })
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    /// Reads the files again and puts them in force.
    pub fn reload(&self) -> Result<(), ConfigError> {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        self.trust.store(Arc::new(read_trust(&self.files, generation)?));
        Ok(())
    }

    /// Looks at the files now and every `every`, and reloads them when one changed since it was read: opening a long log
    /// may have taken minutes since. Never returns.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        let mut seen = self.first_stamp.clone();
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let now = self.files.stamp();
            if now == seen {
                continue;
            }
            let this = Arc::clone(&self);
            let reloaded = tokio::task::spawn_blocking(move || this.reload()).await;
            match reloaded {
                Ok(Ok(())) => {
                    seen = now;
                    metrics::counter!("unefois_tls_reloads_total", "result" => "ok").increment(1);
                    tracing::info!("certificates and revocation lists were read again");
                }
                Ok(Err(error)) => {
                    metrics::counter!("unefois_tls_reloads_total", "result" => "failed").increment(1);
                    // Tried again at the next look, since the files may still be on their way.
                    tracing::error!(%error, "certificates could not be read again; the old ones stay in force");
                }
                Err(_) => tracing::error!("the reading of certificates was interrupted"),
            }
        }
    }
}

fn read_trust(files: &TlsFiles, generation: u64) -> Result<Trust, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = read_certificates("tls.certificate", &files.certificate)?;
    let key = read_key(&files.private_key)?;
    let mut roots = RootCertStore::empty();
    for ca in read_certificates("tls.client_ca", &files.client_ca)? {
        roots
            .add(ca)
            .map_err(|error| ConfigError::new("tls.client_ca", format!("{}: {error}", files.client_ca.display())))?;
    }
    let mut crls = Vec::new();
    for path in &files.crl {
        let read = read_crls(path)?;
        read.iter().for_each(|list| warn_of_an_expired_list(path, list));
        crls.extend(read);
    }
    // A list that is past its next update says nothing about today: refused, not ignored.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(crls)
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| ConfigError::new("tls.crl", error))?;
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ConfigError::new("tls", error))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain, key)
        .map_err(|error| ConfigError::new("tls.certificate", format!("does not go with tls.private_key: {error}")))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the client's certificate, and with it revocation.
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Trust { server: Arc::new(server), verifier, generation })
}

/// An expired list refuses every client of its CA; the operator should not learn it from them.
fn warn_of_an_expired_list(path: &Path, list: &CertificateRevocationListDer<'_>) {
    use x509_parser::prelude::{CertificateRevocationList, FromDer};
    let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else { return };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let expired = parsed.next_update().is_some_and(|at| u64::try_from(at.timestamp()).unwrap_or(0) < now);
    if expired {
        tracing::error!(
            path = %path.display(),
            "this revocation list is past its next update: every client of its CA is refused until a new one is there"
        );
    }
}
