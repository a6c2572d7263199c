//! What the log records. The text of a record is the JSON of one [`Event`]; the kind of its leaf is [`Event::kind`].
//!
//! Old records must stay readable for ever: fields are added with a default, never renamed, and a kind is never reused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::registry::RegistryChange;
use crate::{
    AttributeId, Consent, ConsentId, DatasetId, Digest, ExchangeId, GroundKind, HabilitationId, KeyFingerprint,
    Objection, OutcomeCode, ProcedureId, Question, Reason, RecordPeriod, Siret, SubjectRef, Timestamp,
};

/// A subject's first appearance: its random reference and the keyed digest of the identity that maps to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSubject {
    /// HMAC of the normalised pivot identity.
    pub tag: Digest,
    /// The reference that every later record uses.
    pub subject: SubjectRef,
}

/// Who did something through the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The participant.
    pub participant: Siret,
    /// Its key.
    pub key: KeyFingerprint,
}

/// The log begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOpened {
    /// The log's origin, first line of its checkpoints.
    pub origin: String,
    /// Its verifier key (C2SP signed-note).
    pub verifier_key: String,
}

/// The registry changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryChanged {
    /// Who changed it; absent for the first registry, which the operator gives at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The change.
    pub change: RegistryChange,
}

/// A person consented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentGranted {
    /// Where this is the subject's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_subject: Option<NewSubject>,
    /// Through whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The consent.
    pub consent: Consent,
}

/// A person withdrew a consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentWithdrawn {
    /// The consent.
    pub consent: ConsentId,
    /// Whose it is.
    pub subject: SubjectRef,
    /// Through whom.
    pub by: Actor,
}

/// A person objected, or lifted an objection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectionChanged {
    /// Where this is the subject's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_subject: Option<NewSubject>,
    /// The objection.
    pub objection: Objection,
    /// Through whom.
    pub by: Actor,
}

/// An exchange was permitted and the sources may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The exchange.
    pub exchange: ExchangeId,
    /// 1, and more for a retry with the same request id.
    pub attempt: u32,
    /// Where this is the subject's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_subject: Option<NewSubject>,
    /// What was asked.
    pub question: Question,
    /// Under which habilitation it was permitted.
    pub habilitation: HabilitationId,
    /// By which consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentId>,
}

/// An exchange was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Where this is the subject's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_subject: Option<NewSubject>,
    /// What was asked.
    pub question: Question,
    /// Every check that failed, in the order of [`Reason`].
    pub reasons: Vec<Reason>,
}

/// Where values came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The participant that supplied them.
    pub source: Siret,
    /// The dataset's version at the source.
    pub version: String,
    /// When the source answered.
    pub obtained_at: Timestamp,
    /// The source's own reference of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// An exchange was answered. This is the record that a consumer's receipt carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Index of its entry Requested.
    pub requested: u64,
    /// Who asked.
    pub consumer: Siret,
    /// Who uses the data.
    pub recipient: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// On which ground.
    pub ground: GroundKind,
    /// About whom.
    pub subject: SubjectRef,
    /// What became of each attribute asked.
    pub attributes: BTreeMap<AttributeId, OutcomeCode>,
    /// Where the values came from, for each dataset that answered.
    pub provenance: BTreeMap<DatasetId, Provenance>,
    /// Salted digest of the values; the salt went to the consumer with them and is not kept.
    pub answer: Digest,
}

/// An answer was dropped because the right to it ended while it was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Index of its entry Requested.
    pub requested: u64,
    /// About whom.
    pub subject: SubjectRef,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Why an exchange ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureCause {
    /// The caller's deadline passed first.
    DeadlineExceeded,
    /// The broker stopped in the middle; found when it opened again.
    BrokerStopped,
    /// A fault of the broker.
    Internal,
    /// There was no room for the entry of the answer, so the data was thrown away; this entry came when there was room.
    NoRoom,
}

/// An exchange ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Index of its entry Requested.
    pub requested: u64,
    /// About whom.
    pub subject: SubjectRef,
    /// Why.
    pub cause: FailureCause,
}

/// What of the traces was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TraceScope {
    /// The entries of a span of the log.
    Entries {
        /// First index.
        from: u64,
        /// First index after the span.
        to: u64,
    },
    /// The receipt of one entry.
    Receipt {
        /// Its index.
        index: u64,
    },
}

/// Somebody read traces (CNIL 2021-122: who reads traces leaves a trace).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesRead {
    /// Who.
    pub by: Actor,
    /// What.
    pub scope: TraceScope,
}

/// A fact of an older record that still has effect after that record is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CarriedFact {
    /// Which reference a person has, whose traces are not all purged.
    Subject(NewSubject),
    /// An objection that was not lifted.
    Objection(Objection),
}

/// A fact was carried over from an older record, before that record's key was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Index of the entry that recorded it first.
    pub from: u64,
    /// SHA-256 of that entry's leaf, as the tree has it: this entry commits to the old one.
    pub leaf_hash: Digest,
    /// The fact.
    pub fact: CarriedFact,
}

/// The records of one period were purged: their key is destroyed. Their leaves stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purged {
    /// Month and retention of the records.
    pub period: RecordPeriod,
    /// How many there were.
    pub entries: u64,
    /// SHA-256 over index (u64, big-endian) and leaf hash of each of their entries, in order: no other record can be passed
    /// off as purged.
    pub digest: Digest,
}

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Kind 1.
    LogOpened(LogOpened),
    /// Kind 2.
    RegistryChanged(Box<RegistryChanged>),
    /// Kind 3.
    ConsentGranted(Box<ConsentGranted>),
    /// Kind 4.
    ConsentWithdrawn(ConsentWithdrawn),
    /// Kind 5.
    ObjectionRecorded(ObjectionChanged),
    /// Kind 6.
    ObjectionLifted(ObjectionChanged),
    /// Kind 7.
    Carried(Carried),
    /// Kind 8.
    Purged(Purged),
    /// Kind 16.
    Requested(Box<Requested>),
    /// Kind 17.
    Refused(Box<Refused>),
    /// Kind 18.
    Answered(Box<Answered>),
    /// Kind 19.
    Dropped(Dropped),
    /// Kind 20.
    Failed(Failed),
    /// Kind 32.
    TracesRead(TracesRead),
}

impl Event {
    /// The kind byte of [`Event::Carried`]; it tells a reader which records to open first.
    pub const CARRIED: u8 = 7;
    /// The kind byte of [`Event::Requested`]: it tells of a purged record that it began an exchange.
    pub const REQUESTED: u8 = 16;
    /// The kind byte of [`Event::Purged`], likewise.
    pub const PURGED: u8 = 8;

    /// The kind byte of the entry's public leaf.
    pub fn kind(&self) -> u8 {
        match self {
            Self::LogOpened(_) => 1,
            Self::RegistryChanged(_) => 2,
            Self::ConsentGranted(_) => 3,
            Self::ConsentWithdrawn(_) => 4,
            Self::ObjectionRecorded(_) => 5,
            Self::ObjectionLifted(_) => 6,
            Self::Carried(_) => Self::CARRIED,
            Self::Purged(_) => Self::PURGED,
            Self::Requested(_) => Self::REQUESTED,
            Self::Refused(_) => 17,
            Self::Answered(_) => 18,
            Self::Dropped(_) => 19,
            Self::Failed(_) => 20,
            Self::TracesRead(_) => 32,
        }
    }

    /// The name of a kind byte, for people.
    pub fn kind_name(kind: u8) -> &'static str {
        match kind {
            1 => "log opened",
            2 => "registry changed",
            3 => "consent granted",
            4 => "consent withdrawn",
            5 => "objection recorded",
            6 => "objection lifted",
            7 => "carried over",
            8 => "purged",
            16 => "requested",
            17 => "refused",
            18 => "answered",
            19 => "dropped",
            20 => "failed",
            32 => "traces read",
            0 | 9..=15 | 21..=31 | 33.. => "unknown",
        }
    }

    /// The subject that the event introduces.
    pub fn new_subject(&self) -> Option<NewSubject> {
        match self {
            Self::ConsentGranted(e) => e.new_subject,
            Self::ObjectionRecorded(e) | Self::ObjectionLifted(e) => e.new_subject,
            Self::Requested(e) => e.new_subject,
            Self::Refused(e) => e.new_subject,
            Self::LogOpened(_)
            | Self::RegistryChanged(_)
            | Self::ConsentWithdrawn(_)
            | Self::Carried(_)
            | Self::Purged(_)
            | Self::Answered(_)
            | Self::Dropped(_)
            | Self::Failed(_)
            | Self::TracesRead(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
