//! A certificate authority for development and tests. A real deployment uses its own: IGC/A, an agency's or a vendor's.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use unefois_consent::KeyFingerprint;

use crate::tls::fingerprint;

/// The authority could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("development certificates: {0}")]
pub struct PkiError(String);

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS#8.
    pub private_key: String,
    /// SHA-256 of its public key, as the registry enrols it.
    pub fingerprint: KeyFingerprint,
    serial: SerialNumber,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({})", self.fingerprint)
    }
}

/// How long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From an hour ago for so many days.
    Days(i64),
    /// From an hour ago for so many seconds from now.
    Seconds(i64),
    /// It ended an hour ago.
    Ended,
}

impl Validity {
    fn dates(self) -> (OffsetDateTime, OffsetDateTime) {
        let now = OffsetDateTime::now_utc();
        match self {
            Self::Days(days) => (now - Duration::HOUR, now + Duration::days(days)),
            Self::Seconds(seconds) => (now - Duration::HOUR, now + Duration::seconds(seconds)),
            Self::Ended => (now - Duration::DAY, now - Duration::HOUR),
        }
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct DevelopmentCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl DevelopmentCa {
    /// Makes one.
    pub fn create(name: &str) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = Validity::Days(3650).dates();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The one whose certificate and key these are.
    pub fn open(certificate: &str, private_key: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(private_key)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, key)?, certificate: certificate.to_owned() })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM.
    pub fn private_key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a broker that is reached by `names`.
    pub fn issue_server(&self, names: &[&str]) -> Result<Issued, PkiError> {
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, names.first().copied().unwrap_or("unefois"), Validity::Days(825), KeyPair::generate()?)
    }

    /// A certificate for a client.
    pub fn issue_client(&self, name: &str, validity: Validity) -> Result<Issued, PkiError> {
        self.issue_client_for(name, validity, KeyPair::generate()?)
    }

    /// A certificate for a client that has its key already.
    pub fn issue_client_for(&self, name: &str, validity: Validity, key: KeyPair) -> Result<Issued, PkiError> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, name, validity, key)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        name: &str,
        validity: Validity,
        key: KeyPair,
    ) -> Result<Issued, PkiError> {
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = validity.dates();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let serial = draw_serial()?;
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer)?;
        let fingerprint =
            fingerprint(certificate.der()).ok_or_else(|| PkiError("a new certificate does not parse".to_owned()))?;
        Ok(Issued { certificate: certificate.pem(), private_key: key.serialize_pem(), fingerprint, serial })
    }

    /// A revocation list of `revoked`, valid for a year.
    pub fn revocation_list(&self, revoked: &[&Issued]) -> Result<String, PkiError> {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: now - Duration::MINUTE,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - Duration::MINUTE,
            next_update: now + Duration::days(365),
            crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or(1)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

/// RFC 5280 section 4.1.2.2: positive, at most 20 octets, hard to guess.
fn draw_serial() -> Result<SerialNumber, PkiError> {
    use ring::rand::SecureRandom;
    let mut serial = [0_u8; 16];
    let filled = ring::rand::SystemRandom::new().fill(&mut serial);
    filled.map_err(|_| PkiError("the system gives no randomness".to_owned()))?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(SerialNumber::from(serial.to_vec()))
}

/// A new Ed25519 key for a log, PKCS#8 in PEM.
pub fn new_log_key() -> Result<String, PkiError> {
    // ring writes the second version of PKCS#8, which other programs often refuse; rcgen carries it through unchanged.
    Ok(KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem())
}
