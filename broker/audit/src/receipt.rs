//! Receipts: a record, its salt and the proof that its entry is in the signed log, in one JSON text that anyone with
//! the log's verifier key can check, without asking anyone.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::checkpoint::Checkpoint;
use crate::commitment::{Parts, record_part};
use crate::error::{AuditError, Format};
use crate::hash::Hash;
use crate::json;
use crate::leaf::{Leaf, Salt};
use crate::note::VerifierKey;
use crate::text;
use crate::tlog_proof::TlogProof;

/// Longest receipt that is read.
pub const MAX_RECEIPT_BYTES: usize = 1024 * 1024;

const FORMAT: &str = "unefois-receipt/v1";

/// What shows that an exchange, or another entry, is in the log.
///
/// It may hold personal data: Debug leaves the record out.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The exact text of the record, itself JSON; the commitment is over these bytes.
    pub record: String,
    /// The salt of the record's part of the commitment.
    pub salt: Salt,
    /// The part of the commitment that says how long the record is kept, unopened.
    pub retention_part: Hash,
    /// The part of the commitment that links the entry to persons, unopened.
    pub links_part: Hash,
    /// Kind of the leaf.
    pub kind: u8,
    /// Time of the leaf, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The leaf is in the log.
    pub proof: TlogProof,
    /// The salt of the answer's digest in the record, for who received the answer. It is not authenticated on its
    /// own: it is right if [`crate::answer_digest`] gives the digest that the record names.
    pub answer_salt: Option<Salt>,
}

/// What a valid receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// The signed head of the log that has the entry.
    pub checkpoint: Checkpoint,
    /// Index of the entry.
    pub index: u64,
    /// The entry as the log has it.
    pub leaf: Leaf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptText<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    #[serde(borrow)]
    record: Cow<'a, str>,
    #[serde(borrow)]
    salt: Cow<'a, str>,
    #[serde(borrow)]
    retention_part: Cow<'a, str>,
    #[serde(borrow)]
    links_part: Cow<'a, str>,
    kind: u8,
    time_ms: u64,
    #[serde(borrow)]
    proof: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "present")]
    answer_salt: Option<Cow<'a, str>>,
}

impl Receipt {
    /// The exact text of the record.
    pub fn record(&self) -> &str {
        &self.record
    }

    /// The receipt as one line of JSON with a newline.
    pub fn to_json(&self) -> String {
        let mut proof = String::new();
        self.proof.push_to(&mut proof);
        // The record is JSON: its quotes double. The rest is names, hexadecimal and escaped newlines.
        let mut out = String::with_capacity(self.record.len() * 5 / 4 + proof.len() + 576);
        out.push_str("{\"format\":\"");
        out.push_str(FORMAT);
        out.push_str("\",\"record\":");
        json::push_string(&mut out, &self.record);
        out.push_str(",\"salt\":\"");
        out.push_str(&self.salt.to_hex());
        out.push_str("\",\"retention_part\":\"");
        out.push_str(&self.retention_part.to_hex());
        out.push_str("\",\"links_part\":\"");
        out.push_str(&self.links_part.to_hex());
        out.push_str("\",\"kind\":");
        text::push_decimal(&mut out, u64::from(self.kind));
        out.push_str(",\"time_ms\":");
        text::push_decimal(&mut out, self.time_ms);
        out.push_str(",\"proof\":");
        json::push_string(&mut out, &proof);
        if let Some(answer_salt) = &self.answer_salt {
            out.push_str(",\"answer_salt\":\"");
            out.push_str(&answer_salt.to_hex());
            out.push('"');
        }
        out.push_str("}\n");
        out
    }

    /// Reads a receipt; nothing is verified. White space between the JSON tokens and the order of the members are
    /// free, so that a receipt survives the tools that reformat JSON.
    ///
    /// # Errors
    /// [`AuditError::TooLarge`] above [`MAX_RECEIPT_BYTES`]; [`AuditError::Malformed`] if a member is missing, unknown,
    /// doubled or not in its format; [`AuditError::OutsideTree`] as [`TlogProof::parse`].
    pub fn from_json(receipt: &str) -> Result<Self, AuditError> {
        Format::Receipt.limit(receipt.len(), MAX_RECEIPT_BYTES)?;
        // The library's message is dropped: it may quote the record.
        let text: ReceiptText<'_> = serde_json::from_str(receipt)
            .map_err(|_| Format::Receipt.broken("it must be JSON with the members of a receipt and no others"))?;
        if text.format != FORMAT {
            return Err(Format::Receipt.broken("its format must be unefois-receipt/v1"));
        }
        Ok(Self {
            salt: Salt::from_hex(&text.salt)?,
            retention_part: Hash::from_hex(&text.retention_part)?,
            links_part: Hash::from_hex(&text.links_part)?,
            kind: text.kind,
            time_ms: text.time_ms,
            proof: TlogProof::parse(&text.proof)?,
            answer_salt: text.answer_salt.as_deref().map(Salt::from_hex).transpose()?,
            record: text.record.into_owned(),
        })
    }

    /// The leaf that the receipt says is in the log.
    pub fn leaf(&self) -> Leaf {
        let record = record_part(&self.salt, self.record.as_bytes());
        let parts = Parts { record, retention: self.retention_part, links: self.links_part };
        Leaf { kind: self.kind, time_ms: self.time_ms, commitment: parts.commitment() }
    }

    /// Checks that record, kind and time are those of an entry of the log that the key belongs to.
    ///
    /// # Errors
    /// Those of [`TlogProof::verify`]; [`AuditError::NotIncluded`] if record, salt, kind or time was changed.
    pub fn verify(&self, key: &VerifierKey) -> Result<VerifiedReceipt, AuditError> {
        let leaf = self.leaf();
        let checkpoint = self.proof.verify(&leaf.hash(), key)?;
        Ok(VerifiedReceipt { checkpoint, index: self.proof.index, leaf })
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("kind", &self.kind)
            .field("time_ms", &self.time_ms)
            .field("index", &self.proof.index)
            .finish_non_exhaustive()
    }
}

/// A member that may be absent and may not be null: one form per receipt.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Cow::<'de, str>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
