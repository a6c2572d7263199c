//! The question of one exchange, as the sequencer decides on it and as its record keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    AttributeId, DatasetId, Digest, Ground, HabilitationId, KeyFingerprint, MandateId, ProcedureId, RequestId, Siret,
    SubjectRef,
};

/// Most attributes in one exchange.
pub const MAX_ATTRIBUTES: usize = 100;
/// Longest name of an agent or system, in bytes.
pub const MAX_AGENT_BYTES: usize = 128;

/// Narrows what a source answers, by the source's own parameters: `annee`, `mois`.
pub type Filter = BTreeMap<String, String>;

/// Who asks what about whom, for what and on which ground. Holds no identity: the subject is a random reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The participant that asks.
    pub consumer: Siret,
    /// The key with which it asks.
    pub key: KeyFingerprint,
    /// The agent or the system that asks, in the consumer's own words (CNIL 2021-122, traceability).
    pub agent: String,
    /// The administration that uses the data; often the consumer itself.
    pub recipient: Siret,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// Under which habilitation; where absent, the consumer's only one that covers the procedure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub habilitation: Option<HabilitationId>,
    /// What is asked, in order and without duplicates.
    pub attributes: Vec<AttributeId>,
    /// Filters by dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<DatasetId, Filter>,
    /// Why it is lawful.
    pub ground: Ground,
    /// About whom.
    pub subject: SubjectRef,
    /// Under which mandate somebody acts for the subject; absent where the person acts for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<MandateId>,
    /// The client's name for this exchange.
    pub request_id: RequestId,
    /// Keyed digest of the whole request with its identity, so that a reused request id is recognised.
    pub content: Digest,
}
