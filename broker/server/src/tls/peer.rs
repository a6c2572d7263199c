//! The certificate of a connected client, judged again at each call.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::{CertificateDer, UnixTime};
use unefois_consent::{Digest, KeyFingerprint};
use unefois_engine::Credential;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsState;

/// How long a verdict on a chain stands while the trust is unchanged: revocation lists and intermediates run out with
/// time alone.
const VERDICT_SECONDS: u64 = 30;

/// A connected client.
pub struct Peer {
    key: KeyFingerprint,
    address: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    /// End of validity of the client's own certificate, seconds since the epoch.
    not_after: u64,
    state: Arc<TlsState>,
    verdict: Mutex<Verdict>,
}

#[derive(Clone, Copy)]
struct Verdict {
    generation: u64,
    at: u64,
    valid: bool,
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub fn fingerprint(certificate: &[u8]) -> Option<KeyFingerprint> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(KeyFingerprint(Digest::of(parsed.public_key().raw).0))
}

impl Peer {
    /// The client at `address` whose handshake showed `chain`, which the verifier of generation `generation` accepted.
    pub(crate) fn new(
        address: SocketAddr,
        chain: &[CertificateDer<'_>],
        generation: u64,
        state: Arc<TlsState>,
    ) -> Option<Self> {
        let chain: Vec<_> = chain.iter().map(|c| c.clone().into_owned()).collect();
        let first = chain.first()?;
        let key = fingerprint(first)?;
        let (_, parsed) = X509Certificate::from_der(first).ok()?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        let verdict = Mutex::new(Verdict { generation, at: now_seconds(), valid: true });
        Some(Self { key, address, not_after, state, verdict, chain })
    }

    /// Where the client is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The client's key.
    pub fn key(&self) -> KeyFingerprint {
        self.key
    }

    fn verify(&self, trust: &super::Trust, now: u64) -> bool {
        let Some((first, rest)) = self.chain.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        trust.verifier.verify_client_cert(first, rest, now).is_ok()
    }
}

impl Credential for Peer {
    fn is_valid(&self) -> bool {
        let now = now_seconds();
        if now > self.not_after {
            return false;
        }
        let trust = self.state.trust();
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if verdict.generation != trust.generation || now.abs_diff(verdict.at) >= VERDICT_SECONDS {
            *verdict = Verdict { generation: trust.generation, at: now, valid: self.verify(&trust, now) };
        }
        verdict.valid
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.key)
    }
}
