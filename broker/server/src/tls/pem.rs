//! Certificates, keys and revocation lists in files. Every error names the key of the configuration, the file and the way out.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use unefois_connectors::files::{read_secret, read_trusted};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Version};

use crate::config::ConfigError;

/// Largest file of certificates or of a key.
const MAX_PEM_BYTES: usize = 1 << 20;
/// Largest revocation list: those of large authorities have some megabytes.
const MAX_CRL_BYTES: usize = 32 << 20;

fn file_error(key: &str, path: &Path, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError::new(key, format!("{}: {problem}", path.display()))
}

/// Whether a text holds a PEM block whose label ends so (RFC 7468). What stands around a block is explanation.
fn holds(text: &[u8], label: &str) -> bool {
    let ending = format!("{label}-----");
    text.split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(ending.as_bytes()))
}

pub(super) fn read_certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let fault = |problem: &str| Err(file_error(key, path, problem));
    let text = read_trusted(path, MAX_PEM_BYTES).map_err(|problem| file_error(key, path, problem))?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) if holds(&text, "PRIVATE KEY") => {
            fault("holds a private key; are tls.certificate and tls.private_key exchanged?")
        }
        Ok(_) if holds(&text, "X509 CRL") => fault("holds a revocation list; it belongs to tls.crl"),
        Ok(_) => fault("holds no certificate in PEM; make it so: openssl x509 -inform DER -in FILE -out FILE.pem"),
        Err(error) => Err(file_error(key, path, error)),
    }
}

pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let key = "tls.private_key";
    let fault = |problem: &str| Err(file_error(key, path, problem));
    let text = read_secret(path, MAX_PEM_BYTES).map_err(|problem| file_error(key, path, problem))?;
    if holds(&text, "ENCRYPTED PRIVATE KEY") || text.windows(20).any(|window| window == b"Proc-Type: 4,ENCRYPT") {
        return fault(
            "is encrypted, and the broker asks for no passphrase; decrypt it and keep it at mode 600: openssl pkey -in FILE -out FILE.plain",
        );
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(_) if holds(&text, "CERTIFICATE") => {
            fault("holds a certificate and no key; are tls.certificate and tls.private_key exchanged?")
        }
        Err(error) => Err(file_error(key, path, format!("holds no private key in PEM: {error}"))),
    }
}

pub(super) fn read_crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, ConfigError> {
    let fault = |problem: &str| Err(file_error("tls.crl", path, problem));
    let bytes = read_trusted(path, MAX_CRL_BYTES).map_err(|problem| file_error("tls.crl", path, problem))?;
    let lists: Vec<CertificateRevocationListDer<'static>> = if holds(&bytes, "X509 CRL") {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        lists.map_err(|error| file_error("tls.crl", path, error))?
    } else if holds(&bytes, "CERTIFICATE") {
        return fault("holds a certificate and no revocation list");
    } else {
        vec![bytes.into()]
    };
    for list in &lists {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else {
            return fault("holds no revocation list in PEM or DER");
        };
        // RFC 5280, section 5.1.2.1: a list of a profile with extensions has version 2.
        if parsed.version() != Some(X509Version(1)) {
            return fault(
                "is a list of version 1, which says too little; have the CA make one of version 2 with a crlNumber: openssl ca \
                          -gencrl -crlexts …",
            );
        }
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::pki::DevelopmentCa;

    fn kept(name: &str, text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (folder, path)
    }

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn files_that_were_exchanged_or_encrypted_say_so_with_their_name() {
        type Reads = fn(&Path) -> Option<ConfigError>;
        let certificate: Reads = |path| read_certificates("tls.certificate", path).err();
        let key: Reads = |path| read_key(path).err();
        let crl: Reads = |path| read_crls(path).err();
        for (reads, text, why) in [
            (certificate, pem("PRIVATE KEY"), "exchanged"),
            (certificate, pem("X509 CRL"), "belongs to tls.crl"),
            (certificate, String::new(), "no certificate in PEM"),
            (key, pem("CERTIFICATE"), "exchanged"),
            (key, pem("ENCRYPTED PRIVATE KEY"), "is encrypted"),
            (key, pem("RSA PRIVATE KEY").replace("AAAA", "Proc-Type: 4,ENCRYPTED\n\nAAAA"), "is encrypted"),
            (key, "text".to_owned(), "no private key in PEM"),
            (crl, pem("CERTIFICATE"), "no revocation list"),
            (crl, "text".to_owned(), "no revocation list"),
            (crl, String::new(), "no revocation list"),
        ] {
            let (_folder, path) = kept("file.pem", text.as_bytes());
            let said = reads(&path).unwrap().to_string();
            assert!(said.contains(why) && said.contains("file.pem"), "{text}: {said}");
        }
    }

    #[test]
    fn text_and_blank_lines_before_a_list_are_explanation() {
        let text = DevelopmentCa::create("test").unwrap().revocation_list(&[]).unwrap();
        for explained in
            [text.clone(), format!("\n\n{text}"), format!("Certificate Revocation List (CRL):\n    Version 2\n{text}")]
        {
            let (_folder, path) = kept("list.crl", explained.as_bytes());
            assert_eq!(read_crls(&path).unwrap().len(), 1);
        }
        let der = CertificateRevocationListDer::from_pem_slice(text.as_bytes()).unwrap();
        let (_folder, path) = kept("list.crl", &der);
        assert_eq!(read_crls(&path).unwrap().len(), 1);
    }
}
