//! What an answer says: an outcome for all that was asked, or the value of each attribute.

use std::time::Duration;

use serde_json::Value;
use unefois_consent::{AttributeId, Outcome, OutcomeCode, json};

use super::settings::{Place, Prepared};
use crate::SourceFault;

/// An answer whose body was read, or could not be.
pub(super) struct Received {
    pub(super) status: u16,
    /// Whether it says that it is JSON.
    pub(super) is_json: bool,
    /// The source's own reference.
    pub(super) reference: Option<String>,
    /// For how long the source lets the answer be kept.
    pub(super) may_keep: Option<Duration>,
    pub(super) body: Result<Vec<u8>, SourceFault>,
}

/// One outcome for each attribute asked, in the order asked.
pub(super) fn outcomes(
    dataset: &Prepared,
    received: Received,
    asked: &[AttributeId],
) -> Result<Vec<(AttributeId, Outcome)>, SourceFault> {
    if matches!(received.status, 300..=399) {
        return Err(SourceFault::Untrusted("the source redirects"));
    }
    let status = received.status;
    let body = body_of(received);
    let all_are = |code| asked.iter().map(|attribute| (attribute.clone(), Outcome::Missing(code))).collect();
    match verdict(dataset, status, body.as_ref().ok().and_then(Option::as_ref)) {
        OutcomeCode::Found => {
            let body = body?.ok_or(SourceFault::Untrusted("the answer has no body"))?;
            match record(dataset, &body) {
                Ok(record) => {
                    asked.iter().map(|attribute| Ok((attribute.clone(), value(dataset, attribute, record)?))).collect()
                }
                Err(code) => Ok(all_are(code)),
            }
        }
        code @ (OutcomeCode::NoFile
        | OutcomeCode::NotIdentified
        | OutcomeCode::Ambiguous
        | OutcomeCode::FilterRefused) => {
            // A web server's own page must not tell everyone that they have no file.
            body?;
            Ok(all_are(code))
        }
        OutcomeCode::NotAuthorised => Err(SourceFault::NotAuthorised("it refuses the credentials or the right")),
        OutcomeCode::RateLimited => Err(SourceFault::RateLimited("it asks to slow down")),
        OutcomeCode::SourceDown | OutcomeCode::Withheld if status >= 500 => {
            Err(SourceFault::Down("it says that it is down"))
        }
        OutcomeCode::SourceDown | OutcomeCode::Withheld => {
            Err(SourceFault::Untrusted("a status or an error code that the configuration does not have"))
        }
    }
}

/// The body, none where it is empty.
fn body_of(received: Received) -> Result<Option<Value>, SourceFault> {
    let body = received.body?;
    if body.is_empty() {
        return Ok(None);
    }
    if !received.is_json {
        return Err(SourceFault::Untrusted("the answer is not application/json"));
    }
    json::read(&body).map(Some).map_err(|_| SourceFault::Untrusted("the answer is no JSON"))
}

/// What status and error code say together. A code that the configuration does not have is never taken for good, and a
/// code that is good does not turn a bad status.
fn verdict(dataset: &Prepared, status: u16, body: Option<&Value>) -> OutcomeCode {
    let by_status = dataset.statuses.get(&status).copied().unwrap_or(OutcomeCode::SourceDown);
    let said = dataset.error_code.as_ref().zip(body).and_then(|(path, body)| error_code(path, body));
    let Some(said) = said else { return by_status };
    let by_code = dataset.errors.get(&said).copied().unwrap_or(OutcomeCode::SourceDown);
    let is_refused = matches!(by_status, OutcomeCode::NotAuthorised | OutcomeCode::RateLimited);
    match by_code {
        OutcomeCode::Found => by_status,
        OutcomeCode::SourceDown if is_refused => by_status,
        OutcomeCode::SourceDown
        | OutcomeCode::NoFile
        | OutcomeCode::NotIdentified
        | OutcomeCode::Ambiguous
        | OutcomeCode::FilterRefused
        | OutcomeCode::NotAuthorised
        | OutcomeCode::RateLimited
        | OutcomeCode::Withheld => by_code,
    }
}

/// The first code that the answer gives. Null and other than texts and numbers is none.
fn error_code(path: &serde_json_path::JsonPath, body: &Value) -> Option<String> {
    path.query(body).iter().find_map(|code| match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// The one record in the answer, or what it means that there is none or several.
fn record<'a>(dataset: &Prepared, body: &'a Value) -> Result<&'a Value, OutcomeCode> {
    let Some(path) = &dataset.records else { return Ok(body) };
    let mut records = path.query(body).into_iter();
    match (records.next(), records.next()) {
        (None, _) => Err(OutcomeCode::NoFile),
        (Some(record), None) => Ok(record),
        (Some(_), Some(_)) => Err(OutcomeCode::Ambiguous),
    }
}

fn value(dataset: &Prepared, attribute: &AttributeId, record: &Value) -> Result<Outcome, SourceFault> {
    const WRONG_TYPE: SourceFault = SourceFault::Untrusted("a field of the answer has another type than it must have");
    let place = dataset.place(attribute.name()).ok_or(SourceFault::Untrusted("the source has no such attribute"))?;
    let Place { at, value_type, all, absent } = place;
    let mut values = at.query(record).into_iter();
    if *all {
        let values: Vec<Value> = values.cloned().collect();
        let are_right = values.iter().all(|value| value_type.admits(value));
        return if are_right { Ok(Outcome::Found(Value::Array(values))) } else { Err(WRONG_TYPE) };
    }
    match (values.next(), values.next(), absent) {
        (Some(value), None, _) if value_type.admits(value) => Ok(Outcome::Found(value.clone())),
        (Some(_), None, _) => Err(WRONG_TYPE),
        (Some(_), Some(_), _) => Err(SourceFault::Untrusted("the answer has several values of one attribute")),
        (None, _, Some(code)) => Ok(Outcome::Missing(*code)),
        (None, _, None) => Err(SourceFault::Untrusted("a field of the answer is missing")),
    }
}
