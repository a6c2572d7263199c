//! What is recorded of an exchange.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::NewSubject;
use crate::frequency::WindowUses;
use crate::{
    AttributeId, Consent, ConsentId, DatasetId, Digest, ExchangeId, GroundKind, HabilitationId, OutcomeCode,
    ProcedureId, Question, Reason, RequestId, Siret, SubjectRef, Timestamp,
};

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
