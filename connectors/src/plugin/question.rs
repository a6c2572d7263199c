//! From a question to the wire of a plugin, and back.

use unefois_consent::decide::PermittedDataset;
use unefois_proto::common::{wire_identity, wire_kind_of_ground};
use unefois_proto::connector::outcome;
use unefois_proto::connector::v1::{FetchRequest, FetchResponse};

use crate::{AccessToken, Fetch, SourceAnswer, SourceFault};

/// The question, for the plugin.
pub(super) fn of(fetch: &Fetch<'_>) -> FetchRequest {
    let (permit, asked) = (fetch.permit, fetch.dataset);
    FetchRequest {
        exchange_id: permit.exchange().to_string(),
        recipient: permit.recipient().to_string(),
        procedure: permit.procedure().to_string(),
        ground: wire_kind_of_ground(permit.ground()),
        dataset: asked.dataset.id.to_string(),
        dataset_version: asked.dataset.version.clone(),
        attributes: asked.attributes.iter().map(|attribute| attribute.name().to_owned()).collect(),
        filter: asked.filter.clone().into_iter().collect(),
        subject: Some(wire_identity(fetch.identity)),
        access_token: fetch.access_token.map(AccessToken::expose).unwrap_or_default().to_owned(),
    }
}

/// The question, for the operator who tries the plugin.
pub(super) fn shown(message: &FetchRequest) -> String {
    let subject = message.subject.clone().unwrap_or_default();
    let mut lines = vec![
        "unefois.connector.v1.ConnectorService/Fetch".to_owned(),
        format!(
            "dataset {} {}, for {} ({})",
            message.dataset, message.dataset_version, message.recipient, message.procedure
        ),
        format!("attributes {}", message.attributes.join(", ")),
        format!("person {} {}, born {}", subject.given_names.join(" "), subject.birth_name, subject.birth_date),
    ];
    lines.extend(message.filter.iter().map(|(name, value)| format!("filter {name} = {value}")));
    if !message.access_token.is_empty() {
        lines.push("access token ***".to_owned());
    }
    lines.join("\n")
}

/// What the plugin said of the attributes asked; the guard throws others away and misses none.
pub(super) fn answer(message: FetchResponse, asked: &PermittedDataset) -> Result<SourceAnswer, SourceFault> {
    let known = |name: &str| asked.attributes.iter().find(|attribute| attribute.name() == name).cloned();
    let named = message.attributes.iter().filter_map(|said| Some((known(&said.name)?, said)));
    let outcomes = named.map(|(attribute, said)| {
        let outcome = outcome(said).map_err(|_| SourceFault::Untrusted("an attribute's code and value do not fit"))?;
        Ok((attribute, outcome))
    });
    let mut outcomes: Vec<_> = outcomes.collect::<Result<_, SourceFault>>()?;
    // In the order asked, so that the guard need not.
    outcomes.sort_by_key(|(attribute, _)| asked.attributes.iter().position(|a| a == attribute));
    Ok(SourceAnswer::of(outcomes, Some(message.reference).filter(|reference| !reference.is_empty())))
}
