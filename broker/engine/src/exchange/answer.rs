//! The text of an answer that its digest is computed from.

use unefois_audit::canonical_json;
use unefois_consent::Outcome;

use super::AnsweredAttribute;

/// The values of an answer as canonical JSON (RFC 8785): an object from attribute to value; only attributes that were
/// found. Anyone who has the answer can compute it, and with the answer's salt its digest.
pub fn canonical_values(attributes: &[AnsweredAttribute]) -> String {
    let found = attributes.iter().filter_map(|a| match &a.outcome {
        Outcome::Found(value) => Some((a.attribute.to_string(), value.clone())),
        Outcome::Missing(_) => None,
    });
    canonical_json(&serde_json::Value::Object(found.collect()))
}
