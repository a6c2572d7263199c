//! What signs checkpoints.

use std::fmt;

use ring::signature::{Ed25519KeyPair, KeyPair};
use unefois_audit::VerifierKey;

/// Signs checkpoints with the log's key. A remote signer or a hardware module fits behind it.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The log's verifier key; its name is the log's origin.
    fn verifier_key(&self) -> &VerifierKey;

    /// Ed25519 signature (RFC 8032) of `text`.
    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SignError>;
}

/// The signer did not sign. Nothing can be committed without a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint could not be signed: {0}")]
pub struct SignError(pub String);

/// Signs with an Ed25519 key in memory.
pub struct Ed25519Signer {
    key: Ed25519KeyPair,
    verifier_key: VerifierKey,
}

impl Ed25519Signer {
    /// From a private key in PKCS#8 (RFC 8410), for the log `origin`.
    pub fn from_pkcs8(origin: &str, pkcs8: &[u8]) -> Result<Self, SignError> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|_| SignError("the key is not an Ed25519 private key in PKCS#8".to_owned()))?;
        let public: [u8; 32] = key
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| SignError("the public key has not 32 bytes".to_owned()))?;
        let verifier_key = VerifierKey::new(origin, public).map_err(|error| SignError(error.to_string()))?;
        Ok(Self { key, verifier_key })
    }
}

impl Signer for Ed25519Signer {
    fn verifier_key(&self) -> &VerifierKey {
        &self.verifier_key
    }

    fn sign(&self, text: &[u8]) -> Result<[u8; 64], SignError> {
        let signature = self.key.sign(text);
        signature.as_ref().try_into().map_err(|_| SignError("the signature has not 64 bytes".to_owned()))
    }
}

impl fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ed25519Signer({})", self.verifier_key)
    }
}
