//! From a question to one that another broker understands.

use unefois_consent::{AttributeId, DatasetId, Digest, Ground, NoticeShown};
use unefois_proto::common::wire_identity;
use unefois_proto::exchange::wire_ground;
use unefois_proto::v1;

use super::BrokerConfig;
use crate::{AccessToken, Fetch, SourceFault};

const NO_PROCEDURE: SourceFault = SourceFault::NotAuthorised("`procedures` does not say what the procedure is there");
const NO_NOTICE: SourceFault = SourceFault::NotAuthorised("`notices` does not say what the notice is there");
const NO_MANDATE: SourceFault = SourceFault::NotAuthorised("a mandate of this ledger is not one of the other broker's");

/// The question, in the other broker's words. It names this broker as the agent.
pub(super) fn of(
    config: &BrokerConfig,
    dataset: &DatasetId,
    fetch: &Fetch<'_>,
) -> Result<v1::ExchangeRequest, SourceFault> {
    let permit = fetch.permit;
    if permit.mandate().is_some() {
        return Err(NO_MANDATE);
    }
    let procedure = config.procedure(permit.procedure()).ok_or(NO_PROCEDURE)?;
    let filter = &fetch.dataset.filter;
    let filters = v1::DatasetFilter {
        dataset: dataset.to_string(),
        parameters: filter.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    };
    Ok(v1::ExchangeRequest {
        request_id: request_id(fetch),
        agent: fetch.broker.to_owned(),
        recipient: permit.recipient().to_string(),
        procedure: procedure.to_string(),
        habilitation: config.habilitation.as_ref().map(ToString::to_string).unwrap_or_default(),
        subject: Some(wire_identity(fetch.identity)),
        attributes: fetch.dataset.attributes.iter().map(|attribute| named(dataset, attribute)).collect(),
        filters: if filter.is_empty() { Vec::new() } else { vec![filters] },
        ground: Some(wire_ground(&ground(config, fetch)?)),
        mandate_id: String::new(),
        via: fetch.via.iter().cloned().chain([fetch.broker.to_owned()]).collect(),
        france_connect_token: fetch.access_token.map(AccessToken::expose).unwrap_or_default().to_owned(),
    })
}

/// Their name of an attribute.
pub(super) fn named(dataset: &DatasetId, attribute: &AttributeId) -> String {
    format!("{dataset}.{}", attribute.name())
}

/// One exchange of this broker may ask several datasets there: each is an exchange of its own, and the same one when it is
/// asked again.
fn request_id(fetch: &Fetch<'_>) -> String {
    let dataset = Digest::of(fetch.dataset.dataset.id.as_str().as_bytes()).to_string();
    format!("{}:{dataset:.16}", fetch.permit.exchange())
}

/// The same ground there. A consent is the newest one of their ledger that covers the question.
fn ground(config: &BrokerConfig, fetch: &Fetch<'_>) -> Result<Ground, SourceFault> {
    let theirs = |notice: &NoticeShown| {
        let version = config.notice(fetch.permit.procedure(), notice.version).ok_or(NO_NOTICE)?;
        Ok::<_, SourceFault>(NoticeShown { version, ..notice.clone() })
    };
    Ok(match fetch.ground {
        Ground::LawRequest { notice } => Ground::LawRequest { notice: theirs(notice)? },
        Ground::Proactive { notice } => Ground::Proactive { notice: theirs(notice)? },
        Ground::Consent { .. } => Ground::Consent { consent: None },
        Ground::ExplicitRequest { requested_at, previewed_at } => {
            Ground::ExplicitRequest { requested_at: *requested_at, previewed_at: *previewed_at }
        }
    })
}

/// The question, for the operator who tries the connector.
pub(super) fn shown(question: &v1::ExchangeRequest) -> String {
    let subject = question.subject.clone().unwrap_or_default();
    let mut lines = vec![
        "unefois.v1.ExchangeService/Exchange".to_owned(),
        format!("request {}, for {} ({})", question.request_id, question.recipient, question.procedure),
        format!("attributes {}", question.attributes.join(", ")),
        format!("person {} {}, born {}", subject.given_names.join(" "), subject.birth_name, subject.birth_date),
        format!("via {}", question.via.join(", ")),
    ];
    for filter in question.filters.iter().flat_map(|filter| &filter.parameters) {
        lines.push(format!("filter {} = {}", filter.0, filter.1));
    }
    lines.join("\n")
}
