//! Proofs that travel on their own (C2SP tlog-proof): index, inclusion proof and signed checkpoint in one text.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::{AuditError, Format};
use crate::hash::Hash;
use crate::note::{MAX_NOTE_BYTES, SignedNote, VerifierKey};
use crate::text;
use crate::verify::verify_inclusion;

/// Longest proof that is read: a note and as much again of extra data and hashes.
pub const MAX_PROOF_BYTES: usize = 2 * MAX_NOTE_BYTES;

/// Most hashes in an inclusion proof: one per level of the largest tree.
const MAX_HASHES: usize = 63;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// The proof that one leaf is in a log, to be checked with nothing but the log's verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Data of the application; not authenticated. Empty data is not written.
    pub extra: Option<Vec<u8>>,
    /// Index of the leaf.
    pub index: u64,
    /// Siblings from the leaf upwards.
    pub hashes: Vec<Hash>,
    /// The signed note of a checkpoint, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// Reads a proof; neither signature nor hashes are checked.
    ///
    /// # Errors
    /// [`AuditError::TooLarge`] above [`MAX_PROOF_BYTES`]; [`AuditError::OutsideTree`] if the checkpoint's tree is too
    /// small for the index; [`AuditError::Malformed`] for any deviation from the specification.
    pub fn parse(proof: &str) -> Result<Self, AuditError> {
        Format::Proof.limit(proof.len(), MAX_PROOF_BYTES)?;
        let cut_short = Format::Proof.broken("it must have an index, an empty line and a checkpoint");
        let mut rest = proof;
        if text::take_line(&mut rest) != Some(FIRST_LINE) {
            return Err(Format::Proof.broken("its first line must be c2sp.org/tlog-proof@v1"));
        }
        let mut line = text::take_line(&mut rest).ok_or(cut_short)?;
        let mut extra = None;
        if let Some(encoded) = line.strip_prefix("extra ") {
            let data = text::base64(encoded).filter(|data| !data.is_empty());
            extra = Some(data.ok_or(Format::Proof.broken("its extra data must be canonical base64 of some bytes"))?);
            line = text::take_line(&mut rest).ok_or(cut_short)?;
        }
        let index = line
            .strip_prefix("index ")
            .and_then(text::decimal)
            .ok_or(Format::Proof.broken("it must have a line like 'index 73894'"))?;
        let mut hashes = Vec::new();
        loop {
            let line = text::take_line(&mut rest).ok_or(cut_short)?;
            if line.is_empty() {
                break;
            }
            if hashes.len() == MAX_HASHES {
                return Err(Format::Proof.broken("it must not have more than 63 hashes"));
            }
            hashes.push(Hash::from_base64(line)?);
        }
        let checkpoint = Checkpoint::parse_text(&SignedNote::parse(rest)?.text)?;
        if index >= checkpoint.size {
            return Err(AuditError::OutsideTree);
        }
        Ok(Self { extra, index, hashes, checkpoint: rest.to_owned() })
    }

    /// Checks that the leaf is in the log of this key, whose name is the log's origin.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`] and [`verify_inclusion`].
    pub fn verify(&self, leaf_hash: &Hash, key: &VerifierKey) -> Result<Checkpoint, AuditError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key, key.name())?;
        verify_inclusion(leaf_hash, self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }

    pub(crate) fn push_to(&self, out: &mut String) {
        out.reserve(self.len_at_most());
        out.push_str(FIRST_LINE);
        if let Some(extra) = self.extra.as_deref().filter(|extra| !extra.is_empty()) {
            out.push_str("\nextra ");
            text::push_base64(out, extra);
        }
        out.push_str("\nindex ");
        text::push_decimal(out, self.index);
        out.push('\n');
        for hash in &self.hashes {
            text::push_base64(out, &hash.0);
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.checkpoint);
    }

    fn len_at_most(&self) -> usize {
        let extra = self.extra.as_ref().map_or(0, |extra| extra.len().div_ceil(3) * 4 + 8);
        FIRST_LINE.len() + extra + 32 + self.hashes.len() * (text::HASH_BASE64_LEN + 1) + self.checkpoint.len()
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut proof = String::new();
        self.push_to(&mut proof);
        f.write_str(&proof)
    }
}

#[cfg(test)]
mod tests;
