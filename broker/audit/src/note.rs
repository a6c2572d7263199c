//! Signed notes and verifier keys (C2SP signed-note), with Ed25519 signatures only.
//!
//! Signatures of other types and by other keys are kept and ignored, as the specification has it: a checkpoint may
//! carry those of witnesses.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::error::{AuditError, Format};
use crate::hash::digest_parts;
use crate::text;
use crate::weak_key::is_weak_key;

/// Longest note that is read. Room for 16 post-quantum signatures of 5 kB, which verifiers must accept.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;

/// Most signatures that a note may carry.
pub const MAX_SIGNATURES: usize = 64;

const ED25519_TYPE: u8 = 0x01;
const SIGNATURE_PREFIX: &str = "— ";

/// The public key of a log, with the name that it signs under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    // INVARIANT: a key name of signed-note, and id == key_id(name, key).
    name: String,
    id: u32,
    key: [u8; 32],
}

/// The id of an Ed25519 key: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), big-endian.
pub fn key_id(name: &str, public_key: &[u8; 32]) -> u32 {
    key_id_of(ED25519_TYPE, name, public_key)
}

/// The id of a key of 32 bytes whose signatures are of the type.
pub(crate) fn key_id_of(signature_type: u8, name: &str, public_key: &[u8; 32]) -> u32 {
    let digest = digest_parts(&[name.as_bytes(), &[b'\n', signature_type], public_key]);
    let [a, b, c, d, ..] = digest.0;
    u32::from_be_bytes([a, b, c, d])
}

/// The vkey of a key of 32 bytes: `name+id in hex+base64(type ‖ public key)`.
pub(crate) fn vkey_text(signature_type: u8, name: &str, id: u32, public_key: &[u8; 32]) -> String {
    let mut encoded = String::with_capacity(44);
    text::push_base64(&mut encoded, &[&[signature_type][..], public_key].concat());
    format!("{name}+{id:08x}+{encoded}")
}

/// Whether a key may sign notes under this name.
///
/// # Errors
/// [`AuditError::Malformed`] if the name is empty or has a space, a plus or a control character.
pub fn check_name(name: &str) -> Result<(), AuditError> {
    if text::is_key_name(name) {
        return Ok(());
    }
    Err(Format::VerifierKey.broken("its name must not be empty nor have spaces, '+' or control codes"))
}

/// Whether notes may be verified with this key under this name: the one check of whatever is read as a verifier key.
pub(crate) fn check_key(name: &str, public_key: &[u8; 32]) -> Result<(), AuditError> {
    check_name(name)?;
    if is_weak_key(public_key) {
        let rule = "its public key must be encoded as RFC 8032 has it and not be of small order";
        return Err(Format::VerifierKey.broken(rule));
    }
    Ok(())
}

/// A vkey taken apart; whether the id is that of name and key is for the caller to check.
pub(crate) struct VkeyParts<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: u32,
    pub(crate) signature_type: u8,
    pub(crate) public_key: [u8; 32],
}

impl<'a> VkeyParts<'a> {
    pub(crate) fn parse(vkey: &'a str) -> Result<Self, AuditError> {
        Format::VerifierKey.limit(vkey.len(), 1024)?;
        let broken = Format::VerifierKey.broken("it must be like name+0a1b2c3d+base64");
        // The base64 may contain plus signs, the name may not.
        let (name, rest) = vkey.split_once('+').ok_or(broken)?;
        let (id, encoded) = rest.split_once('+').ok_or(broken)?;
        let id = u32::from_be_bytes(text::lower_hex_array(id).ok_or(broken)?);
        let [signature_type, public_key @ ..] = text::base64_array::<33>(encoded).ok_or(broken)?;
        Ok(Self { name, id, signature_type, public_key })
    }
}

impl VerifierKey {
    /// The key that signs under this name.
    ///
    /// # Errors
    /// [`AuditError::Malformed`] if the name is empty or has a space, a plus or a control character, and where
    /// [`is_weak_key`].
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<Self, AuditError> {
        check_key(name, &public_key)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, &public_key), key: public_key })
    }

    /// The name of the key; for a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// [`key_id`] of the name and the key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The Ed25519 public key (RFC 8032).
    pub fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    fn made(&self, signature: &NoteSignature) -> bool {
        self.id == signature.id && self.name == signature.name
    }

    fn verifies(&self, text: &str, signature: &NoteSignature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key).verify(text.as_bytes(), &signature.signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    /// Prints the vkey: `name+id in hex+base64(0x01 ‖ public key)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vkey_text(ED25519_TYPE, &self.name, self.id, &self.key))
    }
}

impl FromStr for VerifierKey {
    type Err = AuditError;

    fn from_str(vkey: &str) -> Result<Self, AuditError> {
        let VkeyParts { name, id, signature_type, public_key } = VkeyParts::parse(vkey)?;
        if signature_type != ED25519_TYPE {
            return Err(Format::VerifierKey.broken("it must be an Ed25519 key, type 1"));
        }
        let key = Self::new(name, public_key)?;
        if key.id != id {
            return Err(Format::VerifierKey.broken("its id must be that of its name and key"));
        }
        Ok(key)
    }
}

/// A text with its signatures. Nothing in it may be relied upon before [`SignedNote::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    /// The signed text, with its last newline.
    pub text: String,
    /// The signatures, in the order of the note.
    pub signatures: Vec<NoteSignature>,
}

/// One signature of a note, of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Id of the key.
    pub id: u32,
    /// What the key's signature type makes of the text; at least one byte.
    pub signature: Vec<u8>,
}

/// The line of one signature, with its newline: `— name base64(id ‖ signature)`.
pub fn signature_line(name: &str, id: u32, signature: &[u8]) -> String {
    let mut line = String::with_capacity(name.len() + signature.len().div_ceil(3) * 4 + 16);
    push_signature_line(&mut line, name, id, signature);
    line
}

pub(crate) fn push_signature_line(out: &mut String, name: &str, id: u32, signature: &[u8]) {
    let mut bytes = Vec::with_capacity(4 + signature.len());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(signature);
    out.push_str(SIGNATURE_PREFIX);
    out.push_str(name);
    out.push(' ');
    text::push_base64(out, &bytes);
    out.push('\n');
}

impl SignedNote {
    /// Reads a note; no signature is checked.
    ///
    /// # Errors
    /// [`AuditError::TooLarge`] above [`MAX_NOTE_BYTES`]; [`AuditError::Malformed`] for any deviation from the
    /// specification.
    pub fn parse(note: &str) -> Result<Self, AuditError> {
        Format::Note.limit(note.len(), MAX_NOTE_BYTES)?;
        if !text::is_note_text(note) {
            return Err(Format::Note.broken("it must not have control characters"));
        }
        // The text ends at the last empty line, and keeps its own last newline.
        let (text, mut lines) = note
            .rfind("\n\n")
            .and_then(|newline| Some((note.get(..=newline)?, note.get(newline + 2..)?)))
            .ok_or(Format::Note.broken("an empty line must separate text and signatures"))?;
        let mut signatures = Vec::new();
        while !lines.is_empty() {
            if signatures.len() == MAX_SIGNATURES {
                return Err(Format::Note.broken("it must not have more than 64 signatures"));
            }
            let line = text::take_line(&mut lines).ok_or(Format::Note.broken("it must end with a newline"))?;
            signatures.push(NoteSignature::parse(line)?);
        }
        if signatures.is_empty() {
            return Err(Format::Note.broken("it must have a signature"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Checks the signatures by the known keys; signatures by others are ignored.
    ///
    /// # Errors
    /// [`AuditError::FalseSignature`] if one by a known key does not verify, whatever others do;
    /// [`AuditError::NoKnownKey`] if none is by a known key.
    pub fn verify(&self, known_keys: &[VerifierKey]) -> Result<(), AuditError> {
        let mut signed = false;
        for signature in &self.signatures {
            let mut by_known_key = known_keys.iter().filter(|key| key.made(signature)).peekable();
            if by_known_key.peek().is_none() {
                continue;
            }
            if !by_known_key.any(|key| key.verifies(&self.text, signature)) {
                return Err(AuditError::FalseSignature);
            }
            signed = true;
        }
        if signed { Ok(()) } else { Err(AuditError::NoKnownKey) }
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, AuditError> {
        let broken = Format::Note.broken("a signature must be a line like '— name base64'");
        let (name, encoded) =
            line.strip_prefix(SIGNATURE_PREFIX).and_then(|line| line.split_once(' ')).ok_or(broken)?;
        if !text::is_key_name(name) {
            return Err(broken);
        }
        let bytes = text::base64(encoded).ok_or(broken)?;
        let (id, signature) = bytes.split_first_chunk().ok_or(broken)?;
        if signature.is_empty() {
            return Err(broken);
        }
        Ok(Self { name: name.to_owned(), id: u32::from_be_bytes(*id), signature: signature.to_vec() })
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = String::new();
        for signature in &self.signatures {
            push_signature_line(&mut lines, &signature.name, signature.id, &signature.signature);
        }
        write!(f, "{}\n{lines}", self.text)
    }
}

#[cfg(test)]
mod tests;
