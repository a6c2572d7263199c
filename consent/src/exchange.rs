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

/// Whether `text` can be the name of an agent or system: 1 to [`MAX_AGENT_BYTES`] bytes, no space around it, no control character
/// and none that changes the direction of text.
pub fn is_agent(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !misleads(c);
    (1..=MAX_AGENT_BYTES).contains(&text.len()) && text.trim() == text && text.chars().all(is_plain)
}

/// Line separators and the marks that turn the direction of a text: with them a line of the log reads as another one.
fn misleads(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

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
