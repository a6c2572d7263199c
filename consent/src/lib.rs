//! Vocabulary, grounds and the decision of Unefois.
//!
//! Everything here is pure: no I/O, no clock, no randomness. The broker's engine feeds [`decide()`] with facts that it
//! folded from the log, and a replay of the same log calls the same function with the same facts. Deliberately absent:
//! how facts are stored (the engine), and how a wire message becomes these types (`unefois-proto`).

pub mod assurance;
pub mod attribute;
pub mod collect;
pub mod consent;
pub mod decide;
pub mod event;
pub mod exchange;
pub mod frequency;
pub mod ground;
pub mod id;
pub mod identity;
pub mod json;
pub mod mandate;
pub mod objection;
pub mod outcome;
pub mod reason;
pub mod registry;
pub mod retention;
pub mod rules;
pub mod siret;
#[cfg(test)]
mod testing;
pub mod time;

pub use assurance::{DecidedBy, EidasLevel, IdentityAssurance, PersonProof};
pub use attribute::{AttributeId, DatasetId};
pub use consent::{Consent, ConsentState, ConsentStatus, ConsentUse, DataLife, DataPeriod, Grantor};
pub use decide::{Facts, Permit, PersonFacts, Refusal, decide, still_permitted};
pub use event::Event;
pub use exchange::{Filter, Question};
pub use frequency::{Frequency, TimeUnit};
pub use ground::{Channel, Ground, GroundKind, Language, NoticeShown};
pub use id::{
    ConsentId, Digest, ExchangeId, HabilitationId, KeyFingerprint, MandateId, ProcedureId, RequestCode, RequestId,
    SubjectRef,
};
pub use identity::PivotIdentity;
pub use mandate::{Mandate, MandateKind, majority};
pub use objection::Objection;
pub use outcome::{Outcome, OutcomeCode};
pub use reason::Reason;
pub use registry::{Registry, Role};
pub use retention::{RecordPeriod, Retention};
pub use rules::Rules;
pub use siret::Siret;
pub use time::{Month, Timestamp};

/// A field that does not have the form it must have. Says which rule it breaks and never what the field held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Malformed {
    /// Path of the field, in the words of the wire contract (`subject.birth_date`).
    pub field: String,
    /// What a right value looks like.
    pub rule: &'static str,
}

impl Malformed {
    /// `field` breaks `rule`.
    pub fn new(field: impl Into<String>, rule: &'static str) -> Self {
        Self { field: field.into(), rule }
    }

    /// The same fault, seen from the message that holds the field.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = if self.field.is_empty() { parent.to_owned() } else { format!("{parent}.{}", self.field) };
        self
    }
}
