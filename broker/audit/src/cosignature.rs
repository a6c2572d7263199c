//! Cosignatures of witnesses (C2SP tlog-cosignature, `cosignature/v1`): the dated statement that a checkpoint extends
//! every other one of its log that the witness has seen.
//!
//! Ed25519 only. Cosignatures with ML-DSA-44 are signatures of an unknown type, kept in notes and ignored.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::error::{AuditError, Format};
use crate::note::{NoteSignature, SignedNote, VkeyParts, check_key, key_id_of, push_signature_line, vkey_text};
use crate::text;

const COSIGNATURE_TYPE: u8 = 0x04;
const HEADER: &str = "cosignature/v1";

/// The last instant that a cosignature may carry: 2^63 - 1 seconds since 1970.
pub const MAX_TIMESTAMP_S: u64 = i64::MAX as u64;

/// The public key of a witness, with the name that it cosigns under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    // INVARIANT: a key name of signed-note, and id is that of name, key and the type of cosignatures.
    name: String,
    id: u32,
    key: [u8; 32],
}

/// One cosignature, without the name of the witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosignature {
    /// When it was made, in seconds since 1970 (POSIX); at least 1 and at most [`MAX_TIMESTAMP_S`].
    pub timestamp_s: u64,
    /// Ed25519 signature (RFC 8032) of [`Cosignature::message`].
    pub signature: [u8; 64],
}

impl Cosignature {
    /// What a witness signs: a header, its time in seconds, and the whole text of the checkpoint with its last newline.
    pub fn message(timestamp_s: u64, checkpoint_text: &str) -> String {
        let mut message = String::with_capacity(HEADER.len() + 32 + checkpoint_text.len());
        message.push_str(HEADER);
        message.push_str("\ntime ");
        text::push_decimal(&mut message, timestamp_s);
        message.push('\n');
        message.push_str(checkpoint_text);
        message
    }

    /// Has a checkpoint's text signed at this time; `sign` gives the Ed25519 signature of the message.
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn make<E>(
        timestamp_s: u64,
        checkpoint_text: &str,
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], E>,
    ) -> Result<Self, E> {
        let signature = sign(Self::message(timestamp_s, checkpoint_text).as_bytes())?;
        Ok(Self { timestamp_s, signature })
    }

    /// The bytes in a signature line: the time in 8 bytes, big-endian, and the signature.
    pub fn encode(&self) -> [u8; 72] {
        let mut bytes = [0; 72];
        let (timestamp, signature) = bytes.split_at_mut(8);
        timestamp.copy_from_slice(&self.timestamp_s.to_be_bytes());
        signature.copy_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`Cosignature::encode`] gives.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] for another length, and for a time of zero or beyond [`MAX_TIMESTAMP_S`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AuditError> {
        let broken = Format::Cosignature.broken("it must be a time of 8 bytes and a signature of 64");
        let (timestamp, signature) = bytes.split_first_chunk::<8>().ok_or(broken)?;
        let signature = signature.try_into().map_err(|_| broken)?;
        let timestamp_s = u64::from_be_bytes(*timestamp);
        if timestamp_s == 0 || timestamp_s > MAX_TIMESTAMP_S {
            return Err(Format::Cosignature.broken("its time must be from 1 to 2^63 - 1"));
        }
        Ok(Self { timestamp_s, signature })
    }
}

impl WitnessKey {
    /// The key that cosigns under this name.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if the name is empty or has a space, a plus or a control character, and where
    /// [`is_weak_key`](crate::is_weak_key).
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<Self, AuditError> {
        check_key(name, &public_key)?;
        let id = key_id_of(COSIGNATURE_TYPE, name, &public_key);
        Ok(Self { name: name.to_owned(), id, key: public_key })
    }

    /// The name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x04 ‖ public key), big-endian.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The Ed25519 public key (RFC 8032).
    pub fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The line of a cosignature by this key, with its newline.
    pub fn line(&self, cosignature: &Cosignature) -> String {
        let mut line = String::with_capacity(self.name.len() + 120);
        push_signature_line(&mut line, &self.name, self.id, &cosignature.encode());
        line
    }

    /// Checks a cosignature of a checkpoint's text.
    ///
    /// # Errors
    /// [`AuditError::FalseSignature`] if it does not verify.
    pub fn verify(&self, checkpoint_text: &str, cosignature: &Cosignature) -> Result<(), AuditError> {
        let message = Cosignature::message(cosignature.timestamp_s, checkpoint_text);
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message.as_bytes(), &cosignature.signature)
            .map_err(|_| AuditError::FalseSignature)
    }

    /// The newest cosignature of the note by this key, verified; `None` where it has none. Lines of other keys are
    /// ignored.
    ///
    /// # Errors
    /// [`AuditError::FalseSignature`] if a line in the name of this key is malformed or does not verify: the note was
    /// changed, whatever its other lines say (signed-note).
    pub fn cosignature_on(&self, note: &SignedNote) -> Result<Option<Cosignature>, AuditError> {
        let mut newest: Option<Cosignature> = None;
        for signature in note.signatures.iter().filter(|signature| self.made(signature)) {
            let cosignature = Cosignature::decode(&signature.signature).map_err(|_| AuditError::FalseSignature)?;
            self.verify(&note.text, &cosignature)?;
            if newest.is_none_or(|known| known.timestamp_s < cosignature.timestamp_s) {
                newest = Some(cosignature);
            }
        }
        Ok(newest)
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        self.id == signature.id && self.name == signature.name
    }
}

impl fmt::Display for WitnessKey {
    /// Prints the vkey: `name+id in hex+base64(0x04 ‖ public key)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vkey_text(COSIGNATURE_TYPE, &self.name, self.id, &self.key))
    }
}

impl FromStr for WitnessKey {
    type Err = AuditError;

    fn from_str(vkey: &str) -> Result<Self, AuditError> {
        let VkeyParts { name, id, signature_type, public_key } = VkeyParts::parse(vkey)?;
        if signature_type != COSIGNATURE_TYPE {
            return Err(Format::VerifierKey.broken("a witness's key must be an Ed25519 cosignature key, type 4"));
        }
        let key = Self::new(name, public_key)?;
        if key.id != id {
            return Err(Format::VerifierKey.broken("its id must be that of its name and key"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
