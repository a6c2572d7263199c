//! Certificates for sources that want mutual TLS.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// A certification authority, and what it issued; and a stranger's.
pub(crate) struct Tls {
    ca: String,
    server: String,
}

impl Tls {
    /// `ca.pem`, `client.pem` and `stranger.pem` are in `folder`.
    pub(crate) fn make(folder: &Path) -> Self {
        let (ca, other) = (authority(), authority());
        let server = issue(&ca, &["source.example"]);
        private(folder.join("ca.pem"), &ca.pem());
        private(folder.join("client.pem"), &issue(&ca, &[]));
        private(folder.join("stranger.pem"), &issue(&other, &[]));
        Self { ca: ca.pem(), server }
    }

    /// Shows the server's certificate, and wants one of the authority's.
    pub(crate) fn server_config(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.server, &self.server))
            .client_ca_root(Certificate::from_pem(&self.ca))
    }
}

fn private(path: PathBuf, text: &str) {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key in one text.
fn issue(ca: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> String {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, ca).unwrap();
    certificate.pem() + &key.serialize_pem()
}
