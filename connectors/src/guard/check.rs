//! Whether an answer matches its question, and is of a size and a depth that the broker passes on.

use std::collections::HashMap;
use std::io;

use serde_json::Value;
use unefois_consent::decide::PermittedDataset;
use unefois_consent::{AttributeId, Outcome, OutcomeCode};

use super::Limits;
use crate::{SourceAnswer, SourceFault};

/// Deepest nesting of a value: a scalar has depth 0, `[[1]]` has depth 2.
const MAX_DEPTH: usize = 16;
const MAX_REFERENCE_BYTES: usize = 128;

/// The answer cut to the attributes asked, in the order asked; a fault where one is missing or answered twice.
pub(super) fn matched(
    answer: SourceAnswer,
    dataset: &PermittedDataset,
    limits: &Limits,
) -> Result<SourceAnswer, SourceFault> {
    let outcomes = matched_outcomes(answer.outcomes, &dataset.attributes)?;
    check_outcomes(&outcomes, limits)?;
    Ok(SourceAnswer { outcomes, reference: answer.reference.filter(|r| is_reference(r)), ..answer })
}

/// Minimisation (GDPR 5(1)(c)): what was not asked goes no further, even if the source sends it.
fn matched_outcomes(
    outcomes: Vec<(AttributeId, Outcome)>,
    asked: &[AttributeId],
) -> Result<Vec<(AttributeId, Outcome)>, SourceFault> {
    // What a right connector gives; only others pay for a table.
    if outcomes.iter().map(|(attribute, _)| attribute).eq(asked) {
        return Ok(outcomes);
    }
    let mut wanted: HashMap<&AttributeId, Option<Outcome>> = asked.iter().map(|a| (a, None)).collect();
    for (attribute, outcome) in outcomes {
        if let Some(slot) = wanted.get_mut(&attribute)
            && slot.replace(outcome).is_some()
        {
            return Err(SourceFault::Untrusted("an attribute is answered twice"));
        }
    }
    asked
        .iter()
        .map(|attribute| {
            let outcome = wanted.get_mut(attribute).and_then(Option::take);
            Ok((attribute.clone(), outcome.ok_or(SourceFault::Untrusted("an attribute is not answered"))?))
        })
        .collect()
}

fn check_outcomes(outcomes: &[(AttributeId, Outcome)], limits: &Limits) -> Result<(), SourceFault> {
    let mut left = BytesLeft(limits.max_answer_bytes);
    for (_, outcome) in outcomes {
        match outcome {
            Outcome::Found(value) => {
                // ORDER: the depth first, since counting the bytes recurses.
                if !is_shallow(value, MAX_DEPTH) {
                    return Err(SourceFault::Untrusted("a value is nested too deeply"));
                }
                if serde_json::to_writer(&mut left, value).is_err() {
                    return Err(SourceFault::Untrusted("the answer is too large"));
                }
            }
            // Found without a value is none, and only the engine withholds.
            Outcome::Missing(OutcomeCode::Found | OutcomeCode::Withheld) => {
                return Err(SourceFault::Untrusted("an outcome that no source gives"));
            }
            Outcome::Missing(
                OutcomeCode::NoFile
                | OutcomeCode::NotIdentified
                | OutcomeCode::Ambiguous
                | OutcomeCode::FilterRefused
                | OutcomeCode::NotAuthorised
                | OutcomeCode::RateLimited
                | OutcomeCode::SourceDown,
            ) => {}
        }
    }
    Ok(())
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(items) => levels > 0 && items.iter().all(|v| is_shallow(v, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|v| is_shallow(v, levels - 1)),
    }
}

fn is_reference(text: &str) -> bool {
    (1..=MAX_REFERENCE_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Counts the bytes of JSON down and keeps none of them.
struct BytesLeft(usize);

impl io::Write for BytesLeft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
