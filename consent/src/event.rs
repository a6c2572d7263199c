//! What the log records. The text of a record is the JSON of one [`Event`]; the kind of its leaf is [`Event::kind`].
//!
//! Old records must stay readable for ever: fields are added with a default, never renamed, and a kind is never reused. What
//! everything else asks of an event stands in [`facts`](EventFacts), once for each kind.

use serde::{Deserialize, Serialize};

use crate::registry::RegistryChange;
use crate::{
    Consent, ConsentId, DecidedBy, Digest, KeyFingerprint, Mandate, MandateId, Objection, PersonProof, Rules, Siret,
    SubjectRef, Timestamp,
};

mod exchange;
mod facts;
mod kind;
mod purge;
mod shard;

pub use exchange::{Answered, Dropped, Failed, FailureCause, Provenance, Refused, Requested, SourceReceipt, Used};
pub use facts::{EventFacts, Keep, Rest, RestKind};
pub use purge::{Carried, CarriedFact, ConsentUses, KeyMade, Purged, PurgedPeriod};
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
    /// Indexes of the entries by which a proven person gave again what they had held back, where it would stand in the way of this
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_again: Vec<u64>,
    /// The record is kept for 36 months after this: the end of this version or, where that is later, of one before it. An older
    /// version must not come to light again when this one is purged.
    pub kept_after: Timestamp,
    /// The consent.
    pub consent: Consent,
}

impl ConsentRecorded {
    /// On whose word.
    pub fn decided_by(&self) -> DecidedBy {
        DecidedBy::of(self.person.is_some(), self.consent.grantor.mandate())
    }
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

impl ConsentDecided {
    /// On whose word.
    pub fn decided_by(&self) -> DecidedBy {
        DecidedBy::of(self.person.is_some(), self.mandate)
    }
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
