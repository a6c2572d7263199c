//! What the log records. The text of a record is the JSON of one [`Event`]; the kind of its leaf is [`Event::kind`].
//!
//! Old records must stay readable for ever: fields are added with a default, never renamed, and a kind is never reused. What
//! everything else asks of an event stands in [`facts`](EventFacts), once for each kind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frequency::WindowUses;
use crate::registry::RegistryChange;
use crate::{
    AttributeId, Consent, ConsentId, DatasetId, Digest, ExchangeId, GroundKind, HabilitationId, KeyFingerprint,
    Mandate, MandateId, Month, Objection, OutcomeCode, PersonProof, ProcedureId, Question, Reason, RecordPeriod,
    RequestId, Rules, Siret, SubjectRef, Timestamp,
};

mod facts;
mod kind;
mod shard;

pub use facts::{EventFacts, Keep, Rest, RestKind};
pub use shard::{AcceptedClock, LogOpened, PreviousShard, ShardClosed};

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

/// A consent was asked for, given or renewed: the consent as it is since then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentRecorded {
    /// Where this is the subject's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_subject: Option<NewSubject>,
    /// Through whom.
    pub by: Actor,
    /// Where the person was proven, and not only named by whoever called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonProof>,
    /// Index of the entry that this one answers or renews: the request, or the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Index of the entry of the mandate under which a representative gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate_entry: Option<u64>,
    /// Index of the entry that used the window last which goes on in `consent.window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_entry: Option<u64>,
    /// The record is kept for 36 months after this: the end of this version or, where that is later, of one before it. An older
    /// version must not come to light again when this one is purged.
    pub kept_after: Timestamp,
    /// The consent.
    pub consent: Consent,
}

/// Something was decided on a consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentDecided {
    /// The consent.
    pub consent: ConsentId,
    /// Index of the entry that recorded the version that this is decided on.
    pub recorded: u64,
    /// Whose it is.
    pub subject: SubjectRef,
    /// Who may ask by it.
    pub consumer: Siret,
    /// The decision is kept as long as that version: 36 months after this.
    pub kept_after: Timestamp,
    /// Through whom.
    pub by: Actor,
    /// Where the person was proven, and not only named by whoever called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonProof>,
    /// The mandate under which somebody decided for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
    /// Index of the entry of that mandate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate_entry: Option<u64>,
    /// SHA-256 of the document that this rests on, such as an authority's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
}

/// What a [`ConsentDecided`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The person refuses what they were asked for.
    Refuse,
    /// The person holds it back.
    Pause,
    /// The person lets it count again.
    Resume,
    /// The person takes it back.
    Withdraw,
    /// An authority ends it.
    Revoke,
    /// It was never valid.
    Invalidate,
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
    /// Index of the entry of the objection that was there: the one that is confirmed or lifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Through whom.
    pub by: Actor,
    /// Where the person was proven, and not only named by whoever called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonProof>,
}

/// Somebody may act for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MandateGranted {
    /// Where this is the principal's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_principal: Option<NewSubject>,
    /// Where this is the representative's first appearance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_representative: Option<NewSubject>,
    /// The mandate.
    pub mandate: Mandate,
    /// Through whom.
    pub by: Actor,
}

/// A mandate ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MandateEnded {
    /// The mandate.
    pub mandate: MandateId,
    /// Index of the entry that granted it.
    pub granted: u64,
    /// For whom it was.
    pub principal: SubjectRef,
    /// Towards which administration.
    pub consumer: Siret,
    /// When it would have ended: the record is kept as long as that of the mandate.
    pub expires_at: Timestamp,
    /// Through whom.
    pub by: Actor,
    /// Where the person was proven, and not only named by whoever called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonProof>,
}

/// How often one version of a consent was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// Which version.
    pub version: u32,
    /// Index of the entry that recorded it.
    pub recorded: u64,
    /// How many exchanges used that version.
    pub uses: u64,
    /// Uses in the window of the last one, where it is periodic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowUses>,
}

impl Used {
    /// As a consent stands whose version entry `recorded` recorded.
    pub fn of(consent: &Consent, recorded: u64) -> Self {
        Self { version: consent.version, recorded, uses: consent.uses, window: consent.window }
    }
}

/// An exchange was permitted and the sources may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requested {
    /// The exchange.
    pub exchange: ExchangeId,
    /// 1, and more for a retry with the same request id.
    pub attempt: u32,
    /// Of a retry: when the first attempt was permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Timestamp>,
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
    /// How often that is used with this exchange; a retry uses it no more. It stands here so that the count outlives the records
    /// of the uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// Indexes of the entries about the person that the decision rests on, in order: [`crate::decide::rests_on`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests_on: Vec<u64>,
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
    /// Indexes of the entries about the person that the decision rests on, in order: [`crate::decide::rests_on`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests_on: Vec<u64>,
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
    /// Where another broker answered: the receipt of its own log, one line of JSON, as this broker checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<SourceReceipt>,
}

/// The receipt of another broker's log. It holds the record of a person's exchange, so its Debug says nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceReceipt(pub Arc<str>);

impl fmt::Debug for SourceReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[receipt]")
    }
}

/// An exchange was answered. This is the record that a consumer's receipt carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The exchange.
    pub exchange: ExchangeId,
    /// Index of its entry Requested.
    pub requested: u64,
    /// The consumer's own name of the exchange: it ties the answer to the question.
    pub request_id: RequestId,
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
    /// The log took no entry for the answer, for want of room or of a clock that is right, so the data was thrown away; this entry
    /// came when it did.
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
    /// What is held about one person, or a part of it, for that person or a representative.
    Person {
        /// Whose traces they are.
        subject: SubjectRef,
        /// Index of the entry that says who that is.
        introduced: u64,
        /// The representative who read, where it was not the person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reader: Option<Reader>,
    },
}

/// A representative who read another person's traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Who read.
    pub subject: SubjectRef,
    /// Index of the entry that says who that is.
    pub introduced: u64,
    /// Under which mandate.
    pub mandate: MandateId,
    /// Index of the entry of that mandate.
    pub mandate_entry: u64,
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
    /// How often a consent was used up to an exchange whose record is destroyed; the exchange itself is not carried over.
    Uses(ConsentUses),
}

/// How often a consent was used up to one exchange, that one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentUses {
    /// The consent.
    pub consent: ConsentId,
    /// How often.
    pub used: Used,
}

/// A fact was carried over from an older record, before that record's key was destroyed. The tree, which both entries are in,
/// says which leaf the older one has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Index of the entry that recorded it first; of uses, that of the exchange.
    pub from: u64,
    /// The fact.
    pub fact: CarriedFact,
}

/// The records that were due in one month were purged: their keys are destroyed. Their leaves stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purged {
    /// The first month in which they may not be kept any more.
    pub due: Month,
    /// All periods that were due in that month and not purged yet, in order.
    pub periods: Vec<PurgedPeriod>,
}

/// The records of one period, as its purge covers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgedPeriod {
    /// Month and retention of the records.
    pub period: RecordPeriod,
    /// How many entries there were of each kind, by the kind's byte.
    pub entries: BTreeMap<u8, u64>,
    /// SHA-256 over index (u64, big-endian) and leaf hash of each of the entries, in order: no other record can be passed off as
    /// purged.
    pub digest: Digest,
}

/// A key was made, under which the records of one period are sealed from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyMade {
    /// Month and retention of the records.
    pub period: RecordPeriod,
    /// By which the key is known again.
    pub check: Digest,
}

/// From here on other rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesChanged {
    /// Which ones.
    pub rules: Rules,
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
    ConsentGranted(Box<ConsentRecorded>),
    /// Kind 4.
    ConsentWithdrawn(Box<ConsentDecided>),
    /// Kind 5.
    ObjectionRecorded(Box<ObjectionChanged>),
    /// Kind 6.
    ObjectionLifted(Box<ObjectionChanged>),
    /// Kind 7.
    Carried(Carried),
    /// Kind 8.
    Purged(Purged),
    /// Kind 9.
    ConsentRequested(Box<ConsentRecorded>),
    /// Kind 10.
    ConsentRefused(Box<ConsentDecided>),
    /// Kind 11.
    ConsentPaused(Box<ConsentDecided>),
    /// Kind 12.
    ConsentResumed(Box<ConsentDecided>),
    /// Kind 13.
    ConsentRenewed(Box<ConsentRecorded>),
    /// Kind 14.
    ConsentRevoked(Box<ConsentDecided>),
    /// Kind 15.
    ConsentInvalidated(Box<ConsentDecided>),
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
    /// Kind 21.
    MandateGranted(Box<MandateGranted>),
    /// Kind 22.
    MandateEnded(Box<MandateEnded>),
    /// Kind 23.
    ShardClosed(ShardClosed),
    /// Kind 24.
    KeyMade(KeyMade),
    /// Kind 25.
    RulesChanged(RulesChanged),
    /// Kind 32.
    TracesRead(TracesRead),
}

impl Event {
    /// The event of a decision.
    pub fn decided(decision: Decision, decided: ConsentDecided) -> Self {
        let decided = Box::new(decided);
        match decision {
            Decision::Refuse => Self::ConsentRefused(decided),
            Decision::Pause => Self::ConsentPaused(decided),
            Decision::Resume => Self::ConsentResumed(decided),
            Decision::Withdraw => Self::ConsentWithdrawn(decided),
            Decision::Revoke => Self::ConsentRevoked(decided),
            Decision::Invalidate => Self::ConsentInvalidated(decided),
        }
    }
}

#[cfg(test)]
mod tests;
