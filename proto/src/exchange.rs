//! The question of an exchange, and its answer.

use std::collections::BTreeMap;

use unefois_consent::event::Provenance;
use unefois_consent::exchange::{MAX_ATTRIBUTES, is_agent};
use unefois_consent::{
    AttributeId, DatasetId, Filter, Ground, HabilitationId, Malformed, MandateId, Outcome, OutcomeCode, PivotIdentity,
    ProcedureId, RequestId, Siret,
};

use crate::common::{identity, notice_shown, wire_notice_shown};
use crate::fields::{
    enum_conversion, instant, optional_instant, parse, parse_each, parse_optional, required, wire_instant,
};
use crate::{v1, value};

/// Longest filter value, in bytes.
const MAX_FILTER_BYTES: usize = 64;
/// Longest access token, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;
/// Most brokers that a question has come through.
const MAX_BROKERS: usize = 3;
const MAX_ORIGIN_BYTES: usize = 128;

enum_conversion!(read_status, wire_status, v1::AttributeStatus => OutcomeCode, Unspecified, {
    Found = Found, NoFile = NoFile, NotIdentified = NotIdentified, Ambiguous = Ambiguous, FilterRefused = FilterRefused, NotAuthorised = NotAuthorised,
    RateLimited = RateLimited, SourceDown = SourceDown, Withheld = Withheld,
});

/// A well-formed question.
pub struct ExchangeQuestion {
    /// The caller's name of the exchange.
    pub request_id: RequestId,
    /// Who or what asks.
    pub agent: String,
    /// Who uses the data; the caller itself where absent.
    pub recipient: Option<Siret>,
    /// For which procedure.
    pub procedure: ProcedureId,
    /// Under which habilitation.
    pub habilitation: Option<HabilitationId>,
    /// About whom.
    pub identity: PivotIdentity,
    /// Which attributes, without duplicates.
    pub attributes: Vec<AttributeId>,
    /// Filters by dataset.
    pub filters: BTreeMap<DatasetId, Filter>,
    /// Why it is lawful.
    pub ground: Ground,
    /// Under which mandate somebody acts for the person.
    pub mandate: Option<MandateId>,
    /// The brokers through which it came, by the origins of their logs.
    pub via: Vec<String>,
    /// The person's access token, or empty.
    pub france_connect_token: String,
}

/// The name of an agent or system.
pub(crate) fn agent(field: &str, text: &str) -> Result<String, Malformed> {
    let name = text.trim();
    if is_agent(name) {
        Ok(name.to_owned())
    } else {
        Err(Malformed::new(field, "who or what asks: 1 to 128 bytes without control or direction characters"))
    }
}

/// The question in `message`.
pub fn question(message: v1::ExchangeRequest) -> Result<ExchangeQuestion, Malformed> {
    let ground = ground(required("ground", message.ground.as_ref())?)?;
    if message.france_connect_token.len() > MAX_TOKEN_BYTES
        || !message.france_connect_token.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(Malformed::new("france_connect_token", "at most 4096 visible ASCII characters"));
    }
    Ok(ExchangeQuestion {
        request_id: parse("request_id", &message.request_id)?,
        agent: agent("agent", &message.agent)?,
        recipient: parse_optional("recipient", &message.recipient)?,
        procedure: parse("procedure", &message.procedure)?,
        habilitation: parse_optional("habilitation", &message.habilitation)?,
        identity: identity("subject", message.subject.as_ref())?,
        attributes: attributes(&message.attributes)?,
        filters: filters(message.filters)?,
        ground,
        mandate: parse_optional("mandate_id", &message.mandate_id)?,
        via: via(message.via)?,
        france_connect_token: message.france_connect_token,
    })
}

/// At most three brokers: who asks further loses sight of who is asked.
fn via(origins: Vec<String>) -> Result<Vec<String>, Malformed> {
    let fits = |origin: &String| {
        (1..=MAX_ORIGIN_BYTES).contains(&origin.len()) && origin.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if origins.len() <= MAX_BROKERS && origins.iter().all(fits) {
        Ok(origins)
    } else {
        Err(Malformed::new("via", "at most 3 origins of logs, of 1 to 128 visible ASCII characters"))
    }
}

/// 1 to 100 attributes, each once.
pub(crate) fn attributes(texts: &[String]) -> Result<Vec<AttributeId>, Malformed> {
    if texts.is_empty() || texts.len() > MAX_ATTRIBUTES {
        return Err(Malformed::new("attributes", "1 to 100 attributes"));
    }
    let attributes: Vec<AttributeId> = parse_each("attributes", texts)?;
    let mut seen = std::collections::BTreeSet::new();
    match attributes.iter().position(|attribute| !seen.insert(attribute)) {
        None => Ok(attributes),
        Some(at) => Err(Malformed::new(format!("attributes[{at}]"), "is asked twice")),
    }
}

pub(crate) fn filters(messages: Vec<v1::DatasetFilter>) -> Result<BTreeMap<DatasetId, Filter>, Malformed> {
    if messages.len() > MAX_ATTRIBUTES {
        return Err(Malformed::new("filters", "at most one for each dataset asked"));
    }
    let mut filters = BTreeMap::new();
    for (at, message) in messages.into_iter().enumerate() {
        let field = format!("filters[{at}]");
        let dataset: DatasetId = parse(&format!("{field}.dataset"), &message.dataset)?;
        let fits = |text: &str| text.len() <= MAX_FILTER_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if message.parameters.len() > 16 || !message.parameters.iter().all(|(k, v)| fits(k) && fits(v) && !v.is_empty())
        {
            let rule = "at most 16 parameters of at most 64 visible ASCII characters";
            return Err(Malformed::new(format!("{field}.parameters"), rule));
        }
        if filters.insert(dataset, message.parameters.into_iter().collect()).is_some() {
            return Err(Malformed::new(format!("{field}.dataset"), "has two filters"));
        }
    }
    Ok(filters)
}

fn ground(message: &v1::exchange_request::Ground) -> Result<Ground, Malformed> {
    use v1::exchange_request::Ground as Wire;
    Ok(match message {
        Wire::LawRequest(g) => Ground::LawRequest { notice: notice_shown("law_request.notice", g.notice.as_ref())? },
        Wire::Proactive(g) => Ground::Proactive { notice: notice_shown("proactive.notice", g.notice.as_ref())? },
        Wire::Consent(g) => Ground::Consent { consent: parse_optional("consent.consent_id", &g.consent_id)? },
        Wire::ExplicitRequest(g) => Ground::ExplicitRequest {
            requested_at: instant("explicit_request.requested_at", g.requested_at.as_ref())?,
            previewed_at: optional_instant("explicit_request.previewed_at", g.previewed_at.as_ref())?,
        },
    })
}

/// Filters on the wire.
pub(crate) fn wire_filters(filters: &BTreeMap<DatasetId, Filter>) -> Vec<v1::DatasetFilter> {
    let wire = |(dataset, filter): (&DatasetId, &Filter)| v1::DatasetFilter {
        dataset: dataset.to_string(),
        parameters: filter.clone().into_iter().collect(),
    };
    filters.iter().map(wire).collect()
}

/// A ground on the wire, for clients.
pub fn wire_ground(ground: &Ground) -> v1::exchange_request::Ground {
    use v1::exchange_request::Ground as Wire;
    match ground {
        Ground::LawRequest { notice } => Wire::LawRequest(v1::LawRequest { notice: Some(wire_notice_shown(notice)) }),
        Ground::Proactive { notice } => Wire::Proactive(v1::Proactive { notice: Some(wire_notice_shown(notice)) }),
        Ground::Consent { consent } => {
            Wire::Consent(v1::ConsentGround { consent_id: consent.map(|id| id.to_string()).unwrap_or_default() })
        }
        Ground::ExplicitRequest { requested_at, previewed_at } => Wire::ExplicitRequest(v1::ExplicitRequest {
            requested_at: Some(wire_instant(*requested_at)),
            previewed_at: previewed_at.map(wire_instant),
        }),
    }
}

/// One attribute of an answer on the wire.
pub fn wire_attribute(attribute: &AttributeId, outcome: &Outcome, provenance: Option<&Provenance>) -> v1::Attribute {
    let found = match outcome {
        Outcome::Found(json) => Some(value::to_wire(json)),
        Outcome::Missing(_) => None,
    };
    v1::Attribute {
        name: attribute.to_string(),
        status: wire_status(outcome.code()),
        value: found,
        provenance: provenance.map(|p| v1::Provenance {
            source: p.source.to_string(),
            dataset_version: p.version.clone(),
            obtained_at: Some(wire_instant(p.obtained_at)),
            reference: p.reference.clone().unwrap_or_default(),
        }),
    }
}

/// The status of an attribute, for clients.
pub fn status(attribute: &v1::Attribute) -> Result<OutcomeCode, Malformed> {
    read_status("status", attribute.status)
}

#[cfg(test)]
mod tests;
