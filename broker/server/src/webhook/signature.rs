//! The signature of a body, as Standard Webhooks 1.0 has it, so that receivers verify it with a library of theirs.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use unefois_connectors::files::read_secret;
use zeroize::Zeroizing;

/// The secret of one webhook, which its receiver has too.
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Largest file of a secret.
const MAX_FILE_BYTES: usize = 1 << 10;

impl Secret {
    /// A secret as Standard Webhooks writes it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must hold one line: whsec_ and base64 of 24 to 64 random bytes";
        let encoded = text.trim().strip_prefix("whsec_").ok_or(RULE)?;
        let bytes = BASE64_STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_| RULE)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))) } else { Err(RULE) }
    }

    /// The secret in a file that nobody else can read.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = read_secret(path, MAX_FILE_BYTES).map_err(|problem| format!("{} {problem}", path.display()))?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        Self::parse(text).map_err(|rule| format!("{} {rule}", path.display()))
    }

    /// The header `webhook-signature` of a body that is sent as `id` at `seconds` since 1970.
    pub fn sign(&self, id: u64, seconds: u64, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(format!("{id}.{seconds}.").as_bytes());
        signed.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(signed.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_hmac_sha256_of_id_time_and_body() {
        // By openssl: printf '42.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:… -binary
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        assert_eq!(
            secret.sign(42, 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,97Z9e2ijWBiSWZdR2cJ1lLq/kLtjkYyGfutva5Jsd3k="
        );
    }

    #[test]
    fn a_secret_is_long_enough_and_has_its_prefix() {
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8I", "whsec_%%%"] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()), "Secret");
    }
}
