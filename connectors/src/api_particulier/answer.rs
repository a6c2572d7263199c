//! From status and body to outcomes. The codes are those of the API's error table; a body that is not in the form of
//! its errors is judged by the status alone.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use unefois_consent::{AttributeId, Outcome, OutcomeCode, json};

use super::table::{AttributeRow, DatasetRow};
use crate::SourceFault;

/// A question with the same parameters is in progress at the API.
const IN_PROGRESS: &str = "00015";
/// The parameters given do not make an identity: a part of it is missing, or not of the form that the API takes.
const NOT_IDENTIFIED: [&str; 18] = [
    "00355", "00361", "00362", "00363", "00364", "00365", "00366", "00367", "00400", "00420", "00421", "00422",
    "00423", "00424", "00425", "00426", "00427", "00428",
];
/// A filter has a form or a value that the API does not take: years, months, INE, identifier, school, vehicle.
const FILTER_REFUSED: [&str; 18] = [
    "00305", "00307", "00315", "00353", "00354", "00356", "00360", "00368", "00380", "00410", "00411", "00412",
    "00413", "00414", "00416", "00417", "00419", "00430",
];
/// The person is of no age for national service; the household has no quotient.
const NO_FILE: [&str; 2] = ["39400", "23502"];
/// The identity is that of several persons.
const SEVERAL: &str = "00391";
/// Last digits of a provider's code: several resources match.
const SEVERAL_AT_PROVIDER: &str = "015";
/// The access token of FranceConnect is malformed, has expired or lacks the identity.
const PERSON_TOKEN: [&str; 3] = ["50001", "50002", "50003"];
/// Pause after a 429 that names none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause that is believed.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Codes that begin so are the API's own; others begin with the number of a provider.
const OWN_CODES: &str = "00";

/// What the API said, and its own reference of the answer.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) verdict: Verdict,
    pub(super) reference: Option<String>,
    pub(super) may_keep: Option<Duration>,
}

/// What the API said, before its fields are looked at.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The content of `data`.
    Data(Map<String, Value>),
    /// One outcome for all that was asked.
    Missing(OutcomeCode),
    /// The same question is in progress: it may be asked again in a moment.
    InProgress,
    /// Nothing more for so long.
    SlowDown {
        /// How long.
        pause: Duration,
        /// Whether the dataset's provider says so, and not the API itself.
        by_provider: bool,
    },
    /// Nothing that can be used.
    Fault(SourceFault),
}

/// A response whose body was read, or could not be.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) is_json: bool,
    /// `Retry-After` (RFC 9110 10.2.3), as a time from now.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Result<Vec<u8>, SourceFault>,
}

#[derive(Deserialize)]
struct Body {
    data: Map<String, Value>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    identity_matching: Option<IdentityMatching>,
}

#[derive(Deserialize)]
struct IdentityMatching {
    overall_match: Option<bool>,
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
        200 => data(received).unwrap_or_else(Verdict::Fault),
        401 | 403 => not_authorised(received),
        404 => not_found(received),
        400 | 409 | 422 => refused(received),
        429 => slow_down(received),
        502..=504 => Verdict::Fault(SourceFault::Down("it says that it or its provider is down")),
        300..=399 => Verdict::Fault(SourceFault::Untrusted("the source redirects")),
        _ => Verdict::Fault(SourceFault::Untrusted("an unexpected status")),
    }
}

fn data(received: Received) -> Result<Verdict, SourceFault> {
    let body = received.body?;
    if !received.is_json {
        return Err(SourceFault::Untrusted("the answer is not application/json"));
    }
    let body: Body =
        json::read_as(&body).map_err(|_| SourceFault::Untrusted("the answer is no JSON with an object data"))?;
    let matching = body.meta.and_then(|meta| meta.identity_matching);
    if matching.is_some_and(|matching| matching.overall_match == Some(false)) {
        // The API compared the person of the token with the one in the answer, and they are two.
        return Ok(Verdict::Missing(OutcomeCode::NotIdentified));
    }
    Ok(Verdict::Data(body.data))
}

/// The operator must act, but for the person's own token: it lives a minute, and many come too late.
fn not_authorised(received: Received) -> Verdict {
    let status = received.status;
    match first_error(received) {
        Some(error) if PERSON_TOKEN.contains(&error.code.as_str()) => Verdict::Missing(OutcomeCode::NotIdentified),
        Some(_) | None if status == 401 => Verdict::Fault(SourceFault::NotAuthorised("it refuses the token (401)")),
        Some(_) | None => Verdict::Fault(SourceFault::NotAuthorised("the token lacks the right (403)")),
    }
}

fn slow_down(received: Received) -> Verdict {
    let pause = received.retry_after.unwrap_or(DEFAULT_PAUSE).min(LONGEST_PAUSE);
    let code = first_error(received).unwrap_or_default().code;
    Verdict::SlowDown { pause, by_provider: !code.is_empty() && !code.starts_with(OWN_CODES) }
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
        (400 | 422, code) if PERSON_TOKEN.contains(&code) => Verdict::Missing(OutcomeCode::NotIdentified),
        (422, code) if NOT_IDENTIFIED.contains(&code) => Verdict::Missing(OutcomeCode::NotIdentified),
        (422, code) if NO_FILE.contains(&code) => Verdict::Missing(OutcomeCode::NoFile),
        (422, code) if FILTER_REFUSED.contains(&code) => Verdict::Missing(OutcomeCode::FilterRefused),
        (409 | 422, SEVERAL) => Verdict::Missing(OutcomeCode::Ambiguous),
        (409 | 422, code) if code != IN_PROGRESS && code.ends_with(SEVERAL_AT_PROVIDER) => {
            Verdict::Missing(OutcomeCode::Ambiguous)
        }
        _ => Verdict::Fault(SourceFault::Untrusted("the source refused the question")),
    }
}

fn first_error(received: Received) -> Option<ApiError> {
    let errors: Errors = json::read_as(&received.body.ok()?).ok()?;
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
    let (top, below) = attribute.field.split_once('.').unwrap_or((attribute.field, ""));
    let found = match data.get(top.trim_end_matches("[]")) {
        Some(value) if below.is_empty() => Found::Value(value.clone()),
        Some(value) if top.ends_with("[]") => in_each(value, below)?,
        Some(value) => within(value, below)?,
        None => Found::NotInScope,
    };
    match found {
        Found::Value(value) if attribute.shape.admits(&value) => Ok(Outcome::Found(value)),
        Found::Value(_) => Err(WRONG_TYPE),
        Found::LeftOut if !attribute.is_part => Err(SourceFault::Untrusted("a field of the answer is missing")),
        // The API leaves out what no scope of the token covers; it answers null where there is nothing.
        Found::LeftOut | Found::NotInScope => {
            tracing::error!(dataset = row.dataset, scope = attribute.scope, "the token of a source lacks a scope");
            Ok(Outcome::Missing(OutcomeCode::NotAuthorised))
        }
    }
}

/// What is at the place of an attribute.
enum Found {
    Value(Value),
    /// The whole field is not there.
    NotInScope,
    /// The field is there without this part.
    LeftOut,
}

/// The value at `path` below `value`. Nothing is known of the parts of a null.
fn within(value: &Value, path: &str) -> Result<Found, SourceFault> {
    let mut value = value;
    for field in path.split('.') {
        value = match value {
            Value::Object(object) => match object.get(field) {
                Some(value) => value,
                None => return Ok(Found::LeftOut),
            },
            Value::Null => return Ok(Found::Value(Value::Null)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Err(WRONG_TYPE),
        };
    }
    Ok(Found::Value(value.clone()))
}

/// The list of the values at `path` below each item; null for an item that lacks it where others have it.
fn in_each(list: &Value, path: &str) -> Result<Found, SourceFault> {
    let items = match list {
        Value::Array(items) => items,
        Value::Null => return Ok(Found::Value(Value::Null)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return Err(WRONG_TYPE),
    };
    let mut values = Vec::with_capacity(items.len());
    let mut left_out = 0;
    for item in items {
        values.push(match within(item, path)? {
            Found::Value(value) => value,
            Found::LeftOut | Found::NotInScope => {
                left_out += 1;
                Value::Null
            }
        });
    }
    let none = !items.is_empty() && left_out == items.len();
    Ok(if none { Found::LeftOut } else { Found::Value(Value::Array(values)) })
}

const WRONG_TYPE: SourceFault = SourceFault::Untrusted("a field of the answer has another type than it must have");
