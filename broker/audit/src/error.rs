//! What can be wrong with a piece of the audit log that came from outside.

use std::fmt;

/// A refusal by the verifier or by a parser.
///
/// Messages name the format and the rule that was broken, never the content: a record may hold personal data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The input does not follow its format; another file was given, or it was cut or edited.
    #[error("this is not a valid {format}: {rule}; get it again from where it came from")]
    Malformed {
        /// The format that was expected.
        format: Format,
        /// The rule that the input breaks.
        rule: &'static str,
    },
    /// The input is longer than any honest one.
    #[error("the {format} is longer than the limit of {limit_bytes} bytes; refuse it")]
    TooLarge {
        /// The format that was expected.
        format: Format,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// No signature of the note is by a key that the verifier was given.
    #[error("no signature is by a known key; check that you have the verifier key of this log")]
    NoKnownKey,
    /// A signature carries the name and id of a known key and does not verify.
    #[error("a signature in the name of a known key is false; the note was changed, do not trust it")]
    FalseSignature,
    /// The checkpoint is validly signed, and by another log than the one that was asked for.
    #[error("the checkpoint is of another log; check the origin that you expect")]
    OtherLog,
    /// The index is not one of the tree's, or sizes are in the wrong order or above [`crate::MAX_TREE_SIZE`].
    #[error("the index or size is outside the tree; ask for a newer checkpoint, or correct the index")]
    OutsideTree,
    /// The inclusion proof does not lead from the leaf to the root.
    #[error("the proof does not show the entry in the signed tree; record, salt or proof was changed")]
    NotIncluded,
    /// The consistency proof does not lead from both roots to one history.
    #[error("the proof does not show that the newer tree extends the older one; keep both checkpoints as evidence")]
    NotConsistent,
}

impl AuditError {
    /// A stable name for logs, metrics and clients.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "AUDIT_MALFORMED",
            Self::TooLarge { .. } => "AUDIT_TOO_LARGE",
            Self::NoKnownKey => "AUDIT_NO_KNOWN_KEY",
            Self::FalseSignature => "AUDIT_FALSE_SIGNATURE",
            Self::OtherLog => "AUDIT_OTHER_LOG",
            Self::OutsideTree => "AUDIT_OUTSIDE_TREE",
            Self::NotIncluded => "AUDIT_NOT_INCLUDED",
            Self::NotConsistent => "AUDIT_NOT_CONSISTENT",
        }
    }
}

/// The formats that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32 bytes in base64 or hexadecimal.
    Hash,
    /// 32 bytes in hexadecimal.
    Salt,
    /// A leaf of 42 bytes.
    Leaf,
    /// A file of up to 256 leaves (tlog-tiles).
    EntryBundle,
    /// The right edge of a tree.
    Frontier,
    /// The path of a tile (tlog-tiles).
    TilePath,
    /// A verifier key (signed-note).
    VerifierKey,
    /// A signed note.
    Note,
    /// The text of a checkpoint (tlog-checkpoint).
    Checkpoint,
    /// An inclusion proof with its checkpoint (tlog-proof).
    Proof,
    /// A receipt.
    Receipt,
    /// A request to a witness (tlog-witness).
    AddCheckpoint,
    /// A cosignature (tlog-cosignature).
    Cosignature,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hash => "hash",
            Self::Salt => "salt",
            Self::Leaf => "log entry",
            Self::EntryBundle => "entry bundle",
            Self::Frontier => "tree frontier",
            Self::TilePath => "tile path",
            Self::VerifierKey => "verifier key",
            Self::Note => "signed note",
            Self::Checkpoint => "checkpoint",
            Self::Proof => "tlog-proof",
            Self::Receipt => "receipt",
            Self::AddCheckpoint => "add-checkpoint request",
            Self::Cosignature => "cosignature",
        })
    }
}

impl Format {
    pub(crate) fn broken(self, rule: &'static str) -> AuditError {
        AuditError::Malformed { format: self, rule }
    }

    /// Refuses an input of `len_bytes` above `limit_bytes`, before any other work on it.
    pub(crate) fn limit(self, len_bytes: usize, limit_bytes: usize) -> Result<(), AuditError> {
        if len_bytes > limit_bytes {
            return Err(AuditError::TooLarge { format: self, limit_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_stable() {
        let codes = [
            (Format::Receipt.broken("rule"), "AUDIT_MALFORMED"),
            (AuditError::TooLarge { format: Format::Note, limit_bytes: 1 }, "AUDIT_TOO_LARGE"),
            (AuditError::NoKnownKey, "AUDIT_NO_KNOWN_KEY"),
            (AuditError::FalseSignature, "AUDIT_FALSE_SIGNATURE"),
            (AuditError::OtherLog, "AUDIT_OTHER_LOG"),
            (AuditError::OutsideTree, "AUDIT_OUTSIDE_TREE"),
            (AuditError::NotIncluded, "AUDIT_NOT_INCLUDED"),
            (AuditError::NotConsistent, "AUDIT_NOT_CONSISTENT"),
        ];
        for (error, code) in codes {
            assert_eq!(error.code(), code);
        }
        let messages: BTreeSet<_> = codes.iter().map(|(error, _)| error.to_string()).collect();
        assert_eq!(messages.len(), codes.len());
    }
}
