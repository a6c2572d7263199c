//! The request of a log to a witness (C2SP tlog-witness, `add-checkpoint`): the size that the witness saw last, the proof
//! that the new tree extends it, and the new checkpoint.

use std::fmt;

use crate::checkpoint::Checkpoint;
use crate::error::{AuditError, Format};
use crate::hash::Hash;
use crate::note::{MAX_NOTE_BYTES, SignedNote};
use crate::text;

/// Most hashes in a consistency proof.
pub const MAX_HASHES: usize = 63;

/// Longest request that is read: the longest note, and the proof before it.
pub const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + (MAX_HASHES + 1) * (text::HASH_BASE64_LEN + 1);

/// A request to cosign a checkpoint. Reading it checks its form alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the tree that the witness cosigned last, 0 for none.
    pub old_size: u64,
    /// Consistency proof (RFC 6962, section 2.1.2) from the old size; at most [`MAX_HASHES`].
    pub proof: Vec<Hash>,
    /// The checkpoint, with its signatures.
    pub note: SignedNote,
}

impl AddCheckpoint {
    /// Reads a request, and its checkpoint with any extension lines; no signature and no hash is checked.
    ///
    /// # Errors
    /// [`AuditError::TooLarge`] above [`MAX_REQUEST_BYTES`]; [`AuditError::Malformed`] for any deviation from the
    /// specification.
    pub fn parse(body: &str) -> Result<(Self, Checkpoint), AuditError> {
        Format::AddCheckpoint.limit(body.len(), MAX_REQUEST_BYTES)?;
        let cut_short = Format::AddCheckpoint.broken("it must have an old size, an empty line and a checkpoint");
        let mut rest = body;
        let old_size = text::take_line(&mut rest)
            .ok_or(cut_short)?
            .strip_prefix("old ")
            .and_then(text::decimal)
            .ok_or(Format::AddCheckpoint.broken("its first line must be like 'old 20852014'"))?;
        let mut proof = Vec::new();
        loop {
            let line = text::take_line(&mut rest).ok_or(cut_short)?;
            if line.is_empty() {
                break;
            }
            if proof.len() == MAX_HASHES {
                return Err(Format::AddCheckpoint.broken("it must not have more than 63 hashes"));
            }
            proof.push(Hash::from_base64(line)?);
        }
        let note = SignedNote::parse(rest)?;
        let checkpoint = Checkpoint::parse_extended(&note.text)?;
        Ok((Self { old_size, proof, note }, checkpoint))
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in &self.proof {
            writeln!(f, "{}", hash.to_base64())?;
        }
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests;
