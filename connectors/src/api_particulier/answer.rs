//! From status and body to outcomes. The codes are those of the API's error table; a body that is not in the form of
//! its errors is judged by the status alone.

use serde::Deserialize;
use serde_json::{Map, Value};
use unefois_consent::{AttributeId, Outcome, OutcomeCode};

use super::table::{AttributeRow, DatasetRow};
use crate::SourceFault;

/// A question with the same parameters is in progress at the API.
const IN_PROGRESS: &str = "00015";
/// The parameters given do not make an identity.
const NOT_IDENTIFIED: [&str; 2] = ["00355", "00366"];
/// The identity is that of several persons.
const SEVERAL: &str = "00391";
/// Last digits of a provider's code: several resources match.
const SEVERAL_AT_PROVIDER: &str = "015";
/// Codes that begin so are the API's own; others begin with the number of a provider.
const OWN_CODES: &str = "00";

/// What the API said, before its fields are looked at.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The content of `data`.
    Data(Map<String, Value>),
    /// One outcome for all that was asked.
    Missing(OutcomeCode),
    /// The same question is in progress: it may be asked again in a moment.
    InProgress,
    /// Nothing that can be used.
    Fault(SourceFault),
}

/// A response whose body was read, or could not be.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) is_json: bool,
    pub(super) body: Result<Vec<u8>, SourceFault>,
}

#[derive(Deserialize)]
struct Body {
    data: Map<String, Value>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ApiError>,
}

#[derive(Default, Deserialize)]
struct ApiError {
    code: String,
    #[serde(default)]
    title: String,
}

/// Judges a response.
pub(super) fn judge(received: Received) -> Verdict {
    match received.status {
        200 => data(received).map_or_else(Verdict::Fault, Verdict::Data),
        401 | 403 => Verdict::Fault(SourceFault::NotAuthorised("it refuses the token or its rights")),
        404 => not_found(received),
        409 | 422 => refused(received),
        400 => Verdict::Fault(SourceFault::Untrusted("the source refused the question")),
        429 => Verdict::Fault(SourceFault::RateLimited),
        502..=504 => Verdict::Fault(SourceFault::Down("it says that it or its provider is down")),
        300..=399 => Verdict::Fault(SourceFault::Untrusted("the source redirects")),
        _ => Verdict::Fault(SourceFault::Untrusted("an unexpected status")),
    }
}

fn data(received: Received) -> Result<Map<String, Value>, SourceFault> {
    let body = received.body?;
    if !received.is_json {
        return Err(SourceFault::Untrusted("the answer is not application/json"));
    }
    let body: Body = serde_json::from_slice(&body)
        .map_err(|_| SourceFault::Untrusted("the answer is no JSON with an object data"))?;
    Ok(body.data)
}

/// The provider knows no file, unless it is not the provider that speaks.
fn not_found(received: Received) -> Verdict {
    if !received.is_json {
        // A web server's own page: a wrong base URL must not tell everyone that they have no file.
        return Verdict::Fault(SourceFault::Untrusted("a 404 that is not the API's: check base_url"));
    }
    if let Err(fault) = received.body {
        return Verdict::Fault(fault);
    }
    match first_error(received) {
        None => Verdict::Fault(SourceFault::Untrusted("a 404 without an error of the API: check base_url")),
        Some(error) if error.code.starts_with(OWN_CODES) => {
            Verdict::Fault(SourceFault::Untrusted("the API has no such path: check base_url"))
        }
        // The OpenAPI's example `erreur_inattendue_35003`: the code of an absent file with the title of a failure.
        Some(error) if error.title == "Erreur inattendue" => {
            Verdict::Fault(SourceFault::Down("its provider failed unexpectedly"))
        }
        Some(_) => Verdict::Missing(OutcomeCode::NoFile),
    }
}

fn refused(received: Received) -> Verdict {
    let status = received.status;
    let error = first_error(received).unwrap_or_default();
    match (status, error.code.as_str()) {
        (409, IN_PROGRESS) => Verdict::InProgress,
        (422, code) if NOT_IDENTIFIED.contains(&code) => Verdict::Missing(OutcomeCode::NotIdentified),
        (_, SEVERAL) => Verdict::Missing(OutcomeCode::Ambiguous),
        (_, code) if code != IN_PROGRESS && code.ends_with(SEVERAL_AT_PROVIDER) => {
            Verdict::Missing(OutcomeCode::Ambiguous)
        }
        _ => Verdict::Fault(SourceFault::Untrusted("the source refused the question")),
    }
}

fn first_error(received: Received) -> Option<ApiError> {
    let errors: Errors = serde_json::from_slice(&received.body.ok()?).ok()?;
    errors.errors.into_iter().next()
}

/// One outcome for each attribute asked, in the order asked.
pub(super) fn outcomes(
    row: &DatasetRow,
    asked: &[AttributeId],
    data: &Map<String, Value>,
) -> Result<Vec<(AttributeId, Outcome)>, SourceFault> {
    asked
        .iter()
        .map(|attribute| {
            let known = row.attribute(attribute.name()).ok_or(UNKNOWN_ATTRIBUTE)?;
            Ok((attribute.clone(), outcome(row, known, data)?))
        })
        .collect()
}

/// The registry has an attribute that the table has not.
pub(super) const UNKNOWN_ATTRIBUTE: SourceFault = SourceFault::Untrusted("the source has no such attribute");

fn outcome(row: &DatasetRow, attribute: &AttributeRow, data: &Map<String, Value>) -> Result<Outcome, SourceFault> {
    let mut fields = attribute.field.iter();
    let Some(mut value) = fields.next().and_then(|field| data.get(*field)) else {
        // The API leaves out what no scope of the token covers; it answers null where there is nothing.
        tracing::error!(dataset = row.dataset, scope = attribute.scope, "the token of a source lacks a scope");
        return Ok(Outcome::Missing(OutcomeCode::NotAuthorised));
    };
    for field in fields {
        value = match value {
            Value::Object(object) => {
                object.get(*field).ok_or(SourceFault::Untrusted("a field of the answer is missing"))?
            }
            // Nothing is known of the whole, so nothing of its parts.
            Value::Null => return Ok(Outcome::Found(Value::Null)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(WRONG_TYPE);
            }
        };
    }
    if attribute.shape.admits(value) { Ok(Outcome::Found(value.clone())) } else { Err(WRONG_TYPE) }
}

const WRONG_TYPE: SourceFault = SourceFault::Untrusted("a field of the answer has another type than it must have");
