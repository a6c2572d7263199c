//! What a person decided: consents and objections.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{AttributeId, Channel, ConsentId, Digest, Language, ProcedureId, Siret, SubjectRef, Timestamp};

/// How often a consent may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentUse {
    /// Once.
    OneTime,
    /// Until it ends.
    Repeated,
}

/// What was last decided. Expired and used up follow from dates and uses and are not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentStatus {
    /// In force within its dates.
    Granted,
    /// Taken back by the person; final.
    Withdrawn {
        /// When, in the time of the log.
        at: Timestamp,
    },
}

/// One consent (GDPR 4(11) and 7): specific, informed, versioned, withdrawable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Its name in the ledger.
    pub id: ConsentId,
    /// Who consents.
    pub subject: SubjectRef,
    /// Who may ask by it.
    pub consumer: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// For which attributes.
    pub attributes: BTreeSet<AttributeId>,
    /// Version of the procedure's notice that the person read.
    pub notice_version: u32,
    /// SHA-256 of the exact text that was shown.
    pub notice_digest: Digest,
    /// Language of that text.
    pub language: Language,
    /// How the person indicated it.
    pub channel: Channel,
    /// SHA-256 of the consumer's own evidence (signed form, call record), where it keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub expires_at: Timestamp,
    /// Once or repeatedly.
    pub usage: ConsentUse,
    /// The agent or the system that recorded it.
    pub agent: String,
    /// In the time of the log.
    pub granted_at: Timestamp,
    /// Last decision of the person.
    pub status: ConsentStatus,
    /// How many exchanges have used it.
    pub uses: u64,
}

/// A person's objection to proactive use (GDPR 21, CRPA L114-8 II).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objection {
    /// Who objects.
    pub subject: SubjectRef,
    /// Against which administration.
    pub consumer: Siret,
    /// For which procedure; all of them where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureId>,
}
