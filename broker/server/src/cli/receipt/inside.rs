//! Receipts of other brokers inside a receipt: where one of them was the source, the record keeps what its log proves.

use serde_json::{Value, json};
use unefois_audit::{Receipt, VerifierKey};
use unefois_consent::{DatasetId, Event};

use super::Failure;

/// One receipt inside.
pub(super) struct Inside {
    dataset: DatasetId,
    /// Name of the log that the receipt says it is of.
    log: String,
    /// The entry there, where a key was given and it holds.
    proven: Option<u64>,
}

/// Finds the receipts inside and checks those for whose log there is a key. One that does not hold fails.
pub(super) fn check(receipt: &Receipt, keys: &[VerifierKey]) -> Result<Vec<Inside>, Failure> {
    let Ok(Event::Answered(answered)) = serde_json::from_str(&receipt.record) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (dataset, provenance) in answered.provenance {
        let Some(text) = provenance.receipt else { continue };
        let failed =
            |what: String| Failure::Failed(format!("the receipt inside, for {dataset}, does not hold: {what}"));
        let inner = Receipt::from_json(&text.0).map_err(|error| failed(error.to_string()))?;
        // The first line of a checkpoint is the origin of its log.
        let log = inner.proof.checkpoint.lines().next().unwrap_or_default().to_owned();
        let proven = match keys.iter().find(|key| key.name() == log) {
            None => None,
            Some(key) => Some(inner.verify(key).map_err(|error| failed(error.to_string()))?.index),
        };
        found.push(Inside { dataset, log, proven });
    }
    Ok(found)
}

impl Inside {
    pub(super) fn text(&self) -> String {
        let Self { dataset, log, proven } = self;
        match proven {
            Some(index) => format!("Proven too:\n  that the log {log} has the answer about {dataset} as entry {index}"),
            None => format!(
                "Not proven:\n  what the log {log} says of {dataset}; its receipt is inside: give its key with --source-key"
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "dataset": self.dataset.as_str(), "log": self.log, "index": self.proven, "verified": self.proven.is_some() })
    }
}
