//! One dataset in the operator's words, and the same read and checked.

use std::collections::BTreeMap;

use reqwest::header::{self, HeaderName};
use serde::Deserialize;
use serde_json::Value;
use serde_json_path::JsonPath;
use unefois_consent::registry::Dataset;
use unefois_consent::{DatasetId, Filter, Malformed, OutcomeCode};

use super::template::{JsonTemplate, Piece, Template};
use crate::http_client::REQUEST_ID;
use crate::value_type::ValueType;
use crate::{Fetch, SourceFault, part};

/// Headers that the connector or HTTP itself sets.
const OWN_HEADERS: [HeaderName; 13] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static(REQUEST_ID),
];

/// How the source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Without a body.
    #[default]
    Get,
    /// With a body of JSON.
    Post,
}

/// `[connectors.NAME.datasets."ID"]`. In the texts of path, query, headers and body, `{birth_name}` and the like stand
/// for parts of the question; docs/connectors.md has all of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpDataset {
    /// `GET` where absent, or `POST`.
    #[serde(default)]
    pub method: Method,
    /// Path below `base_url`, with a slash first. Values are percent-encoded, slashes too.
    pub path: String,
    /// Parameters of the query.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers. Values are percent-encoded.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body of a POST, sent as JSON. Values are JSON texts.
    #[serde(default)]
    pub body: Option<Value>,
    /// JSONPath of the persons or files in the answer: none is `NO_FILE`, several are `AMBIGUOUS`. The whole answer where
    /// absent.
    #[serde(default)]
    pub records: Option<String>,
    /// Where each attribute is.
    pub attributes: BTreeMap<String, HttpAttribute>,
    /// What a status means, `404 = "NO_FILE"`. Where it does not say otherwise, 200 is `FOUND`, 401 and 403
    /// `NOT_AUTHORISED`, 429 `RATE_LIMITED`, and all others are `SOURCE_DOWN`.
    #[serde(default)]
    pub statuses: BTreeMap<String, OutcomeCode>,
    /// JSONPath of an error code in the answer, whatever its status.
    #[serde(default)]
    pub error_code: Option<String>,
    /// What an error code means; others are `SOURCE_DOWN`.
    #[serde(default)]
    pub errors: BTreeMap<String, OutcomeCode>,
}

/// One attribute of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpAttribute {
    /// JSONPath in the record. It gives one value.
    pub at: String,
    /// The type of that value, or of each where `all` is set. Null is of any type.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// All values that the path gives, as a list.
    #[serde(default)]
    pub all: bool,
    /// What it means where the path gives no value; `SOURCE_DOWN` where absent.
    #[serde(default)]
    pub absent: Option<OutcomeCode>,
}

/// A dataset that was read.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) path: Template,
    pub(super) query: Vec<(String, Template)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Option<JsonTemplate>,
    pub(super) records: Option<JsonPath>,
    pub(super) statuses: BTreeMap<u16, OutcomeCode>,
    pub(super) error_code: Option<JsonPath>,
    pub(super) errors: BTreeMap<String, OutcomeCode>,
    attributes: BTreeMap<String, Place>,
    /// By name, whether a question needs it.
    filters: BTreeMap<String, bool>,
    path_filters: Vec<String>,
}

/// Where an attribute is.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) at: JsonPath,
    pub(super) value_type: ValueType,
    pub(super) all: bool,
    pub(super) absent: Option<OutcomeCode>,
}

/// A key below the dataset's, and the rule that it breaks.
pub(super) type Broken = (String, String);

impl Prepared {
    pub(super) fn new(id: &DatasetId, dataset: &HttpDataset) -> Result<Self, Broken> {
        let path = path(&dataset.path).map_err(at("path"))?;
        let read = |table: &str, (name, text): (&String, &String)| {
            Template::parse(text).map(|read| (name.clone(), read)).map_err(at(&format!("{table}.{name}")))
        };
        let query: Vec<_> = dataset.query.iter().map(|entry| read("query", entry)).collect::<Result<_, _>>()?;
        let headers: Vec<_> = dataset.headers.iter().map(header_of).collect::<Result<_, _>>()?;
        if dataset.body.is_some() && dataset.method == Method::Get {
            return Err(("body".to_owned(), "needs method = \"POST\"".to_owned()));
        }
        let body = dataset.body.as_ref().map(JsonTemplate::parse).transpose().map_err(at("body"))?;
        let statuses = statuses(&dataset.statuses)?;
        for (code, outcome) in &dataset.errors {
            is_said(*outcome).map_err(at(&format!("errors.{code}")))?;
        }
        if dataset.error_code.is_none() && !dataset.errors.is_empty() {
            return Err(("errors".to_owned(), "needs error_code, the JSONPath of the code".to_owned()));
        }
        let mut prepared = Self {
            method: dataset.method,
            path_filters: path.filters().into_iter().map(|(name, _)| name.to_owned()).collect(),
            path,
            query,
            headers,
            body,
            records: json_path("records", dataset.records.as_deref())?,
            statuses,
            error_code: json_path("error_code", dataset.error_code.as_deref())?,
            errors: dataset.errors.clone(),
            attributes: attributes(id, dataset)?,
            filters: BTreeMap::new(),
        };
        prepared.filters = prepared.named_filters();
        Ok(prepared)
    }

    /// Whether the source is told each exchange by more than a header for its traces.
    pub(super) fn names_exchange(&self) -> bool {
        let query = self.query.iter().any(|(_, template)| template.names_exchange());
        query || self.path.names_exchange() || self.headers.iter().any(|(_, template)| template.names_exchange())
    }

    /// The filters of all templates. One that is needed anywhere is needed.
    fn named_filters(&self) -> BTreeMap<String, bool> {
        let query = self.query.iter().flat_map(|(_, template)| template.filters());
        let headers = self.headers.iter().flat_map(|(_, template)| template.filters());
        let body = self.body.iter().flat_map(JsonTemplate::filters);
        let mut filters = BTreeMap::new();
        for (name, is_needed) in self.path.filters().into_iter().chain(query).chain(headers).chain(body) {
            *filters.entry(name.to_owned()).or_insert(false) |= is_needed;
        }
        filters
    }

    pub(super) fn place(&self, attribute: &str) -> Option<&Place> {
        self.attributes.get(attribute)
    }

    /// A fault for an attribute or a filter that the source does not have, whoever is asked about.
    pub(super) fn knows_all_of(&self, fetch: &Fetch<'_>) -> Result<(), SourceFault> {
        if fetch.dataset.attributes.iter().any(|attribute| self.place(attribute.name()).is_none()) {
            return Err(SourceFault::Untrusted("the source has no such attribute"));
        }
        if fetch.dataset.filter.keys().any(|name| !self.filters.contains_key(name)) {
            return Err(SourceFault::Untrusted("the source has no such filter"));
        }
        Ok(())
    }

    /// What a dataset of the registry names that this one does not have, or does not name and this one needs.
    pub(super) fn lacks(&self, dataset: &Dataset) -> Option<String> {
        let attribute = dataset.attributes.iter().find(|attribute| self.place(&attribute.name).is_none());
        let filter = dataset.filters.iter().find(|name| !self.filters.contains_key(*name));
        let needed = self.filters.iter().find(|(name, is_needed)| **is_needed && !dataset.filters.contains(name));
        let attribute = attribute.map(|attribute| format!("attribute {}", attribute.name));
        let filter = filter.map(|name| format!("filter {name}"));
        attribute.or(filter).or(needed.map(|(name, _)| format!("question without the filter {name}")))
    }

    /// Refuses a filter that could not be sent, and a question without one that is needed.
    pub(super) fn check(&self, id: &DatasetId, filter: &Filter) -> Result<(), Malformed> {
        let refuse = |name: &str, rule| Err(Malformed::new(name, rule).within(id.as_str()).within("filters"));
        for (name, is_needed) in &self.filters {
            match filter.get(name) {
                None if *is_needed => return refuse(name, "is needed: no question about this dataset goes without it"),
                Some(value) if !part::is_sendable(value) => {
                    return refuse(name, "1 to 256 characters, no control characters");
                }
                // A segment of dots would climb to another path.
                Some(value) if self.path_filters.contains(name) && value.bytes().all(|byte| byte == b'.') => {
                    return refuse(name, "more than dots");
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }
}

fn at(key: &str) -> impl Fn(String) -> Broken + use<> {
    let key = key.to_owned();
    move |rule| (key.clone(), rule)
}

/// The characters of a path are those of RFC 3986 3.3, so that it means what it says.
fn path(text: &str) -> Result<Template, String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(c);
    let template = Template::parse(text)?;
    let Template::Pieces(pieces) = &template else {
        return Err("a path has no optional part and no list".to_owned());
    };
    let literals = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Part(_) => None,
    });
    if !literals.clone().all(|literal| literal.chars().all(is_path)) {
        let rule = "ASCII letters, digits and -._~!$&'()*+,;=:@/ besides placeholders; parameters go into query";
        return Err(rule.to_owned());
    }
    if !text.starts_with('/') || text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("must begin with / and have no segment of dots".to_owned());
    }
    Ok(template)
}

fn header_of((name, text): (&String, &String)) -> Result<(HeaderName, Template), Broken> {
    let key = at(&format!("headers.{name}"));
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| key("no name of a header".to_owned()))?;
    if OWN_HEADERS.contains(&header) {
        return Err(key("is set by the connector; credentials go into auth".to_owned()));
    }
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(key("visible ASCII and spaces only".to_owned()));
    }
    let template = Template::parse(text).map_err(&key)?;
    if template == Template::GivenNames {
        return Err(key("a header is no list; use given_names".to_owned()));
    }
    Ok((header, template))
}

/// What the operator says, over what HTTP says.
fn statuses(said: &BTreeMap<String, OutcomeCode>) -> Result<BTreeMap<u16, OutcomeCode>, Broken> {
    let mut statuses = BTreeMap::from([
        (200, OutcomeCode::Found),
        (401, OutcomeCode::NotAuthorised),
        (403, OutcomeCode::NotAuthorised),
        (429, OutcomeCode::RateLimited),
    ]);
    for (text, outcome) in said {
        let key = at(&format!("statuses.{text}"));
        let status = text.parse().ok().filter(|status| matches!(status, 200..=299 | 400..=599));
        let status = status.ok_or_else(|| key("a status from 200 to 299 or 400 to 599".to_owned()))?;
        is_said(*outcome).map_err(key)?;
        statuses.insert(status, *outcome);
    }
    Ok(statuses)
}

/// Only the engine withholds.
fn is_said(outcome: OutcomeCode) -> Result<(), String> {
    if outcome == OutcomeCode::Withheld { Err("no source withholds".to_owned()) } else { Ok(()) }
}

fn json_path(key: &str, text: Option<&str>) -> Result<Option<JsonPath>, Broken> {
    text.map(|text| JsonPath::parse(text).map_err(|error| at(key)(format!("no JSONPath (RFC 9535): {error}"))))
        .transpose()
}

fn attributes(id: &DatasetId, dataset: &HttpDataset) -> Result<BTreeMap<String, Place>, Broken> {
    if dataset.attributes.is_empty() {
        return Err(("attributes".to_owned(), "at least one".to_owned()));
    }
    let mut places = BTreeMap::new();
    for (name, attribute) in &dataset.attributes {
        let key = format!("attributes.{name}");
        if name.contains('.') || id.attribute(name).is_err() {
            return Err((key, "a name of a-z, 0-9, '_' and '-'".to_owned()));
        }
        if matches!(attribute.absent, Some(OutcomeCode::Found | OutcomeCode::Withheld)) {
            return Err((format!("{key}.absent"), "what it means where there is no value, such as NO_FILE".to_owned()));
        }
        if attribute.absent.is_some() && attribute.all {
            return Err((format!("{key}.absent"), "has no use beside all: no values are an empty list".to_owned()));
        }
        let at = JsonPath::parse(&attribute.at)
            .map_err(|error| (format!("{key}.at"), format!("no JSONPath (RFC 9535): {error}")))?;
        let HttpAttribute { value_type, all, absent, .. } = *attribute;
        places.insert(name.clone(), Place { at, value_type, all, absent });
    }
    Ok(places)
}
